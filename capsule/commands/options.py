"""What the commands share: their options, the passphrase, and how facts are printed."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sonar.cli_support import echo_json, talk

__all__ = [
    "as_json", "database", "database_of", "home", "network", "optional_passphrase", "passphrase", "read_passphrase",
    "show",
]  # fmt: skip

_FEW_CHARACTERS = 16
"""Fewer than these are told of: even chosen by a machine they are below 100 bits."""
_PATH = click.Path(path_type=Path)


def _owned(_context: click.Context, _option: click.Parameter, directory: Path | None) -> Path | None:
    from capsule.home import default_home
    from capsule.ownership import check_owner

    check_owner(directory or default_home())
    return directory


home = click.option(
    "--home",
    type=_PATH,
    callback=_owned,
    help="The Capsule's directory. [SONAR_CAPSULE_HOME, ~/.sonar/capsule]",
)
passphrase = click.option(
    "--passphrase-file",
    type=_PATH,
    help="A file that starts with the passphrase. [SONAR_CAPSULE_PASSPHRASE, or asked]",
)
database = click.option(
    "--database",
    help="The database's URL, without a password: that comes from the environment or PostgreSQL's password file. "
    "[SONAR_CAPSULE_DATABASE, capsule.toml, the file capsule.db in the home]",
)
network = click.option("--network", type=_PATH, help="The network file. [SONAR_NETWORK, ~/.sonar/network.json]")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def show(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints facts by name: as JSON, or a line each."""
    if as_json:
        echo_json(facts)
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {value}")


def database_of(directory: Path, database: str | None) -> str | None:
    """The URL of a Capsule's database by flag, environment or `capsule.toml`; None for the file in the directory."""
    from capsule.config import Settings

    return Settings.load(directory, os.environ, {"database": database}).database


def optional_passphrase(file: Path | None, *, kind: str) -> str | None:
    """A passphrase of another kind, if a file or the environment gives one."""
    if file is None and f"SONAR_CAPSULE_{kind.upper()}_PASSPHRASE" not in os.environ:
        return None
    return read_passphrase(file, kind=kind)


def read_passphrase(file: Path | None, *, confirm: bool = False, kind: str = "") -> str:
    """The Capsule's passphrase: from the file, the environment, or asked; raises ConfigError where there is none.

    Another `kind` of it (new, backup) has its own option and variable. One that is set now, to `confirm`, is told of if
    it is short.
    """
    from capsule.secret.hardening import harden, take_passphrase
    from sonar.errors import ConfigError

    harden()  # this process is about to hold what opens everything
    flag = f"--{kind}-passphrase-file" if kind else "--passphrase-file"
    variable = f"SONAR_CAPSULE_{kind.upper()}_PASSPHRASE" if kind else "SONAR_CAPSULE_PASSPHRASE"
    given = take_passphrase(variable)
    if file is not None:
        try:
            words = file.read_text().partition("\n")[0]  # of text, so that a line may end with CR LF
            if os.name == "posix" and file.stat().st_mode & 0o004:
                talk(f"everybody on this machine may read {file}: run chmod 400 {file}")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the passphrase file {file} cannot be read: {error}") from error
    elif given is not None:
        words = given
    elif sys.stdin.isatty():
        asked = f"{kind} passphrase".strip().capitalize()
        words = click.prompt(asked, hide_input=True, confirmation_prompt=confirm, err=True)
    else:
        raise ConfigError(f"the Capsule needs its passphrase: set {variable} or give {flag}")
    if not words:
        where = f"{file} starts with an empty line" if file is not None else "nothing was given"
        what = f"the {kind} passphrase".replace("  ", " ")
        raise ConfigError(f"{what} is empty ({where}): give one, best one that a machine chose")
    if confirm and len(words) < _FEW_CHARACTERS:
        talk(
            f"a passphrase of {len(words)} characters can be guessed by whoever gets a copy of the database: let a "
            "machine choose a longer one"
        )
    return words
