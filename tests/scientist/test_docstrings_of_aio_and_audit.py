"""What pysonar has beside its first names, its async variants, errors and audits, is told and shown as these are."""

import asyncio
import doctest
import inspect
import warnings

import pytest

import pysonar
import pysonar.aio
import pysonar.errors
import pysonar.history
import sonar.audit
from pysonar.errors import ColdStartWarning, FewRecordsWarning

EXAMPLES = [(module, name) for module in (pysonar.aio, sonar.audit) for name in module.__all__]
NAMES = [(module, name) for module in (pysonar.errors, pysonar.history) for name in module.__all__] + EXAMPLES


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda value: getattr(value, "__name__", value))
def test_a_name_and_all_of_its_methods_have_docstrings_of_their_own(module, name: str) -> None:
    public = getattr(module, name)
    assert public.__doc__
    for method, value in vars(public).items():
        if not method.startswith("_") and (callable(value) or isinstance(value, property | classmethod)):
            assert inspect.getdoc(value), f"{name}.{method}"


@pytest.mark.parametrize("error", [name for name in pysonar.errors.__all__ if name != "CampaignError"])
def test_an_error_is_one_of_the_root_and_is_drawn_in_the_tree(error: str) -> None:
    kind = getattr(pysonar.errors, error)
    assert issubclass(kind, pysonar.CampaignError | UserWarning)
    assert error in pysonar.errors.__doc__


@pytest.mark.parametrize(("module", "name"), EXAMPLES, ids=lambda value: getattr(value, "__name__", value))
def test_the_example_of_a_name_runs(module, name: str, stage, tmp_path) -> None:
    network = tmp_path / "network.json"
    stage.network.save(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewRecordsWarning)
        warnings.simplefilter("ignore", ColdStartWarning)
        closed = stage.campaign()
    closed.close()
    public = getattr(module, name)
    globs = {
        "asyncio": asyncio, "pysonar": pysonar, "sonar": stage.session(), "network_file": network,
        "account": stage.owner, "closed": closed, **vars(inspect.getmodule(public)),
    }  # fmt: skip
    examples = doctest.DocTestFinder(recurse=False).find(public, name, module=inspect.getmodule(public), globs=globs)
    assert any(test.examples for test in examples), f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in examples:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
