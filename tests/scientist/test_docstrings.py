"""Every public name of pysonar says what it is, with shapes, units and errors, and shows it by an example that runs."""

import doctest
import inspect
import warnings

import pytest

import pysonar
from pysonar.errors import ColdStartWarning, FewRecordsWarning

NAMES = [name for name in pysonar.__all__ if not inspect.ismodule(getattr(pysonar, name))]
"""A module's names have examples of their own: `test_docstrings_of_aio_and_audit.py`."""


def methods(public: object) -> list[tuple[str, object]]:
    """The public methods and properties that a class of ours defines, and those it has from others of ours."""
    if not inspect.isclass(public):
        return []
    return [
        (name, value)
        for cls in public.__mro__
        if cls.__module__.startswith(("pysonar", "sonar"))
        for name, value in vars(cls).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, property | classmethod))
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_and_all_of_its_methods_have_docstrings(name: str) -> None:
    public = getattr(pysonar, name)
    assert inspect.getdoc(public)
    for method, value in methods(public):
        assert inspect.getdoc(value), f"{name}.{method}"


@pytest.mark.parametrize("name", NAMES)
def test_what_takes_an_array_says_its_shape_and_what_is_refused_is_said(name: str) -> None:
    public = getattr(pysonar, name)
    for method, value in [(name, public), *methods(public)]:
        parameters = inspect.signature(value).parameters if inspect.isfunction(value) else {}
        if {"X", "y"} <= parameters.keys():
            assert "(records" in (inspect.getdoc(value) or ""), f"{name}.{method}"
    if name not in {"CampaignError", "Estimate", "format_ether", "Campaign", "Sonar"}:
        words = inspect.getdoc(public) or ""
        told = words + "".join(inspect.getdoc(value) or "" for _, value in methods(public))
        assert "aises" in told, name


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_public_name_runs(name: str, stage, tmp_path, monkeypatch) -> None:
    network = tmp_path / "network.json"
    stage.network.save(network)
    X_val, y_val = stage.validation
    globs = {
        "pysonar": pysonar, "sonar": stage.session(), "X_val": X_val, "y_val": y_val, "network_file": network,
        "account": stage.owner,
    }  # fmt: skip
    public = getattr(pysonar, name)
    module = inspect.getmodule(public)
    examples = doctest.DocTestFinder().find(public, name, module=module, globs={**vars(module), **globs})
    assert any(test.examples for test in examples), f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewRecordsWarning)
        warnings.simplefilter("ignore", ColdStartWarning)
        for test in examples:
            runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
