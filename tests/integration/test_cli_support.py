"""How the commands end and talk."""

import errno

import click
import pytest
from click.testing import CliRunner

from sonar.cli_support import SonarGroup, echo_json, hash_option, moment, talk
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


@pytest.mark.parametrize("text", ["ab" * 32, "0x" + "ab" * 32, "0x" + "AB" * 32])
def test_a_hash_is_taken_with_0x_and_without(text):
    assert hash_option(None, None, text) == bytes.fromhex("ab" * 32)
    assert hash_option(None, None, None) is None


@pytest.mark.parametrize("text", ["", "0x12", "ab" * 33, "zz" * 32, "ab " * 32])
def test_what_is_no_hash_is_wrong_usage(text):
    with pytest.raises(click.BadParameter, match="is not a hash: give its 64 hexadecimal digits"):
        hash_option(None, None, text)


def test_a_moment_that_no_calendar_holds_is_shown_as_it_is():
    assert moment(1_700_000_000_123_456) == "2023-11-14T22:13:20.123Z"
    assert moment(10**30) == f"{10**30} us"
