"""The `capsule` command: makes a Capsule, serves it, asks one who it is."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from sonar.cli_support import SonarGroup, echo_json, talk

__all__ = ["main"]

_PATH = click.Path(path_type=Path)
_home = click.option("--home", type=_PATH, help="The Capsule's directory. [SONAR_CAPSULE_HOME, ~/.sonar/capsule]")
_passphrase = click.option(
    "--passphrase-file",
    type=_PATH,
    help="A file that starts with the passphrase. [SONAR_CAPSULE_PASSPHRASE, or asked]",
)
_network = click.option("--network", type=_PATH, help="The network file. [SONAR_NETWORK, ~/.sonar/network.json]")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=SonarGroup)
@click.version_option(package_name="sonar-marketplace")
def main() -> None:
    """The Capsule: issues Paillier keys, judges rounds, delivers models."""


@main.command()
@_home
@_passphrase
@click.option("--key-bits", type=int, default=3072, show_default=True, help="The length of Paillier keys.")
@click.option("--allow-insecure-small-key", is_flag=True, hidden=True)
@_json
def init(
    home: Path | None, passphrase_file: Path | None, key_bits: int, allow_insecure_small_key: bool, as_json: bool
) -> None:
    """Make a Capsule: its account, its sealing key, its database.

    Prints the address that signs admissions and settlements; it needs some coin to relay settlements.
    """
    from capsule.home import create_home, default_home

    directory = home or default_home()
    words = _read_passphrase(passphrase_file, confirm=True)
    made = create_home(directory, words, key_bits, allow_insecure_small_key=allow_insecure_small_key)
    made.state.close()
    facts = {
        "address": made.address,
        "sealing_key": "0x" + made.sealing.public.hex(),
        "key_bits": made.key_bits,
        "home": str(directory),
    }
    _show(facts, as_json)
    talk("keep a backup of this directory and its passphrase: campaigns cannot be judged or delivered without them")


@main.command()
@_home
@_passphrase
@_network
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8700, show_default=True, help="0 takes a free one.")
@click.option("--poll", type=click.FloatRange(0.05, 3600), default=1.0, show_default=True, help="Seconds a step.")
def serve(
    home: Path | None, passphrase_file: Path | None, network: Path | None, host: str, port: int, poll: float
) -> None:
    """Serve the API and judge rounds until stopped.

    Prints one JSON line with its url when it listens; the log goes to stderr.
    """
    from capsule.home import default_home
    from capsule.serving import serve as run
    from sonar.config import Network

    found = Network.load(network)
    run(home or default_home(), _read_passphrase(passphrase_file), found, host=host, port=port, poll=poll)


@main.command()
@_network
@click.option("--url", help="The Capsule to ask. [the network file's]")
@_json
def info(network: Path | None, url: str | None, as_json: bool) -> None:
    """Ask a running Capsule who it is and how it is."""
    from capsule.client import CapsuleClient
    from sonar.config import Network
    from sonar.errors import ConfigError
    from sonar.protocol.messages import Domain
    from sonar.units import Address

    found = Network.load(network)
    asked = url or found.capsule_url
    if asked is None:
        raise ConfigError("the network file names no Capsule: give --url")
    with CapsuleClient(asked, Domain(found.chain_id, Address(found.contract)), timeout=10) as client:
        known, health = client.info(), client.health()
    facts = {
        "url": asked,
        "address": known.address,
        "sealing_key": "0x" + known.sealing_key.hex(),
        "chain_id": known.chain_id,
        "contract": known.contract,
        "key_bits": known.key_bits,
        "version": known.version,
        "health": health if as_json else health.get("status"),
    }
    _show(facts, as_json)


def _show(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        echo_json(facts)
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {value}")


def _read_passphrase(file: Path | None, *, confirm: bool = False) -> str:
    from sonar.errors import ConfigError

    if file is not None:
        try:
            words = file.read_text().partition("\n")[0]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the passphrase file {file} cannot be read: {error}") from error
    elif (given := os.environ.get("SONAR_CAPSULE_PASSPHRASE")) is not None:
        words = given
    elif sys.stdin.isatty():
        words = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    else:
        raise ConfigError("the Capsule needs its passphrase: set SONAR_CAPSULE_PASSPHRASE or give --passphrase-file")
    if not words:
        raise ConfigError("the passphrase is empty: give one")
    return words
