"""How the commands end and talk."""

import errno

import click
from click.testing import CliRunner

from sonar.cli_support import SonarGroup, echo_json, talk
from sonar.errors import ConfigError


@click.group(cls=SonarGroup)
def commands() -> None:
    """Commands of a test."""


@commands.command()
@click.argument("text")
def fail(text: str) -> None:
    """Ends with an error."""
    raise ConfigError(text)


@commands.command()
def say() -> None:
    """Talks, and gives a result."""
    talk("working", fg="green")
    echo_json({"wei": 2**70})


def test_an_error_is_one_line_on_stderr_with_its_own_exit_code():
    result = CliRunner().invoke(commands, ["fail", "no network file: start one"])
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "Error: no network file: start one\n"


def test_a_file_that_may_not_be_opened_is_named_with_whose_it_is(tmp_path):
    file = tmp_path / "lock"
    file.touch()

    @commands.command()
    def open_it() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    result = CliRunner().invoke(commands, ["open-it"])
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        f"Error: {file}: Permission denied: it belongs to the account {file.owner()}; run this as that account, or "
        "give the file to yours with chown\n"
    )


def test_a_strangers_words_cannot_steer_the_terminal():
    result = CliRunner().invoke(commands, ["fail", "the node said \x1b[2J\x07\x9b1m"])
    assert result.stderr == "Error: the node said \ufffd[2J\ufffd\ufffd1m\n"


def test_results_go_to_stdout_and_talk_to_stderr():
    result = CliRunner().invoke(commands, ["say"])
    assert result.stdout == f'{{\n  "wei": {2**70}\n}}\n'
    assert result.stderr == "working\n"


def test_no_color_means_no_colour(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert CliRunner().invoke(commands, ["say"], color=True).stderr == "\x1b[32mworking\x1b[0m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert CliRunner().invoke(commands, ["say"], color=True).stderr == "working\n"
