"""`sonar engines`: every engine in a line, and which one is used, even where none can be."""

import json

import pytest
from click.testing import CliRunner

from sonar.cli import main
from sonar.syft import get_engine
from sonar.syft.engines import ENGINES, why_unusable


@pytest.fixture
def run(monkeypatch):
    """Runs `sonar engines` in an environment that names no engine unless the test does."""
    for name in ("SONAR_ENGINE", "SONAR_ENGINE_WORKERS"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*arguments, **environment):
        result = CliRunner().invoke(main, ["engines", *arguments], env=environment)
        assert result.exit_code == 0, result.output
        return result.stdout

    return invoke


def test_every_engine_has_a_line_that_says_why_it_cannot_be_used(run):
    lines = run().splitlines()
    assert [line.split()[0] for line in lines] == [*ENGINES, "chosen"]
    for name, line in zip(ENGINES, lines, strict=False):
        reason = why_unusable(name)
        assert line.endswith(" usable" if reason is None else f"not usable: {reason}")


def test_without_a_name_the_fastest_usable_engine_is_chosen(run):
    report = json.loads(run("--json"))
    assert [row["name"] for row in report["engines"]] == list(ENGINES)
    assert report["chosen"] == next(row["name"] for row in report["engines"] if row["usable"])
    assert (report["by"], report["workers"], report["problem"]) == ("fastest", get_engine().workers, None)
    assert f"{report['chosen']} (the fastest that works here), workers: {report['workers']}" in run()


def test_the_environment_chooses_engine_and_workers(run):
    environment = {"SONAR_ENGINE": "phe", "SONAR_ENGINE_WORKERS": "3"}
    report = json.loads(run("--json", **environment))
    assert (report["chosen"], report["by"], report["workers"]) == ("phe", "SONAR_ENGINE", 3)
    assert "phe (SONAR_ENGINE), workers: 3" in run(**environment)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"SONAR_ENGINE": "abacus"}, "none: there is no engine 'abacus'"),
        ({"SONAR_ENGINE_WORKERS": "many"}, "SONAR_ENGINE_WORKERS is 'many'"),
    ],
)
def test_an_environment_that_cannot_be_followed_is_named_below_the_list(run, environment, said):
    lines = run(**environment).splitlines()
    assert [line.split()[0] for line in lines] == [*ENGINES, "chosen"]
    assert said in lines[-1]
    report = json.loads(run("--json", **environment))
    assert (report["chosen"], report["workers"]) == (None, None)
    assert report["problem"] in lines[-1]


def test_an_engine_that_is_asked_for_but_cannot_work_is_named_with_the_reason(run, monkeypatch):
    monkeypatch.setitem(ENGINES, "native", ("sonar.syft.engines.missing", "Missing"))
    lines = run(SONAR_ENGINE="native", SONAR_ENGINE_WORKERS="7").splitlines()
    assert "not usable: its package is not installed" in lines[0]
    assert "none: the engine 'native' cannot be used: its package is not installed" in lines[-1]
