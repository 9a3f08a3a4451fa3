"""`capsule serve` runs a Capsule; `capsule config` says with which settings it would."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from capsule.commands import options
from sonar.cli_support import echo_json, talk

if TYPE_CHECKING:
    from capsule.config import Settings

__all__ = ["config", "serve"]

Command = TypeVar("Command", bound=Callable[..., Any])

_SETTINGS = (
    options.database,
    click.option("--host", help="The address to listen on. [127.0.0.1]"),
    click.option("--port", type=int, help="0 takes a free one. [8700]"),
    click.option("--metrics-port", type=int, help="Serve metrics on loopback; 0 takes a free port. [not served]"),
    click.option(
        "--trusted-proxy", "trusted_proxies", multiple=True,
        help="A proxy in front, whose X-Forwarded-For is believed; may be repeated.",
    ),
    click.option("--confirmations", type=int, help="How deep an event must be to count. [what suits the chain]"),
    click.option("--log-format", type=click.Choice(["text", "json"]), help="[text]"),
    click.option("--poll", type=float, help="Seconds between two looks at the chain. [1]"),
)  # fmt: skip


def _settings(command: Command) -> Command:
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


@click.command()
@options.home
@options.passphrase
@options.network
@_settings
def serve(home: Path | None, passphrase_file: Path | None, network: Path | None, **flags: Any) -> None:
    """Serve the API and judge rounds until stopped.

    Settings come from `capsule.toml` in the home, the environment and these flags. Prints one JSON line with its url
    when it listens; the log goes to stderr.
    """
    from capsule.config import Settings
    from capsule.home import default_home
    from capsule.serving import serve as run
    from sonar.config import Network

    found, directory = Network.load(network), home or default_home()
    settings = Settings.load(directory, os.environ, _given(flags))
    _tell_unknown(settings)
    run(directory, options.read_passphrase(passphrase_file), found, settings)


@click.command()
@options.home
@click.option("--template", is_flag=True, help="Print a settings file with everything explained instead.")
@options.as_json
@_settings
def config(home: Path | None, template: bool, as_json: bool, **flags: Any) -> None:
    """Print the settings that `capsule serve` would use, without secrets.

    It may be pasted into `capsule.toml`.
    """
    from capsule.config import Settings
    from capsule.home import default_home

    if template:
        click.echo(Settings.template(), nl=False)
        return
    directory = home or default_home()
    settings = Settings.load(directory, os.environ, _given(flags))
    _tell_unknown(settings)
    if not directory.is_dir():
        talk(f"there is no directory {directory}: give the Capsule's with --home or SONAR_CAPSULE_HOME")
    if as_json:
        echo_json(settings.shown())
    else:
        click.echo(settings.toml(), nl=False)


def _tell_unknown(settings: "Settings") -> None:
    for told in settings.unknown(os.environ):
        talk(told)


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value not in (None, ())}
