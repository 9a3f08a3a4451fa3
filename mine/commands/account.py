"""`mine init` and `mine withdraw`: the account that posts gradients and is paid."""

import os
import sys
from pathlib import Path

import click

from mine.commands import options
from mine.commands.session import quiet, session
from sonar.cli_support import echo_json, talk

__all__ = ["init", "withdraw"]


@click.command()
@options.home
@click.option("--key-file", type=click.Path(path_type=Path), help="Adopt this keystore or raw key file.")
@click.option("--no-passphrase", is_flag=True, help="Make a raw key file, for development networks.")
@options.as_json
def init(home: Path | None, key_file: Path | None, no_passphrase: bool, as_json: bool) -> None:
    """Make the mine's home: its account and a policy to edit."""
    from mine.home import Home
    from sonar.wallet import create_key_file, create_keystore, load_account

    place = Home(home)
    place.create()
    if key_file is not None:
        account = load_account(key_file)
        place.adopt(key_file)
    elif no_passphrase:
        account = create_key_file(place.account_file)
    else:
        account = create_keystore(place.account_file, _new_passphrase())
    place.write_policy()
    if as_json:
        echo_json({"home": str(place.path), "address": account.address, "policy": str(place.policy_file)})
    else:
        click.echo(account.address)
        talk(f"the mine's home is {place.path}; its rules are in {place.policy_file}; fund the address before it mines")


@click.command()
@click.option("--to", metavar="ADDRESS", help="Who receives it (default: the mine's own account).")
@click.option("--token", metavar="ADDRESS", help="An ERC-20 token (default: the native coin).")
@options.home
@options.network
@options.patience
@options.as_json
def withdraw(
    to: str | None, token: str | None, home: Path | None, network: Path | None, patience: float, as_json: bool
) -> None:
    """Withdraw everything that the contract owes this mine: pay and returned bonds."""
    from mine.overview import withdraw_all
    from sonar.units import round_ether

    with session(home, network, quiet, patience) as (_, worker):
        result = withdraw_all(worker, to, token)
    if as_json:
        echo_json(result)
    elif token is None:
        click.echo(f"{round_ether(result['amount'])} ether to {result['to']}")
    else:
        click.echo(f"{result['amount']} of {token} to {result['to']}")


def _new_passphrase() -> str:
    from sonar.errors import ConfigError

    if (given := os.environ.get("SONAR_PASSPHRASE")) is not None:
        return given
    if not sys.stdin.isatty():
        raise ConfigError(
            "a new account needs a passphrase: set SONAR_PASSPHRASE, or use --no-passphrase on a development network"
        )
    return str(click.prompt("Passphrase of the new account", hide_input=True, confirmation_prompt=True, err=True))
