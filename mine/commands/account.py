"""`mine init`, `mine encrypt` and `mine withdraw`: the account that posts gradients and is paid."""

import sys
from pathlib import Path
from typing import Any

import click

from mine.commands import options
from mine.commands.session import quiet, session
from sonar.cli_support import echo_json, talk

__all__ = ["encrypt", "init", "withdraw"]


@click.command()
@options.home
@click.option("--key-file", type=click.Path(path_type=Path), help="Adopt this keystore or raw key file.")
@click.option("--no-passphrase", is_flag=True, help="Make a raw key file, for development networks.")
@click.option("--signer", metavar="URL", help="Have a signing service sign (Web3Signer, Clef); with --address.")
@click.option("--address", metavar="ADDRESS", help="The account at the signing service.")
@options.as_json
def init(
    home: Path | None, key_file: Path | None, no_passphrase: bool, signer: str | None, address: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Make the mine's home: its account and a policy to edit."""
    from mine.home import Home
    from sonar.errors import ConfigError
    from sonar.wallet import create_key_file, create_keystore, load_account

    if (signer is None) != (address is None) or (signer is not None and (key_file or no_passphrase)):
        raise ConfigError("give --signer and --address together, and no key beside them: the service has it")
    place = Home(home)
    place.create()
    account: Any
    if signer is not None and address is not None:
        account = place.wallet.use_signer(signer, address)
    elif key_file is not None:
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
@options.home
@options.as_json
def encrypt(home: Path | None, as_json: bool) -> None:
    """Put the account's bare key under a passphrase, as chains other than development ones need."""
    from mine.home import Home

    place = Home(home)
    place.require()
    address = place.wallet.encrypt(_new_passphrase())
    if as_json:
        echo_json({"address": address, "file": str(place.account_file)})
    else:
        click.echo(address)
        talk(f"{place.account_file} is a keystore now; copies of the bare key elsewhere are for you to destroy")


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
    """Withdraw everything that the contract owes this mine: pay and returned bonds.

    Offers no more for gas than the policy's max_gas_gwei.
    """
    from mine.overview import withdraw_all
    from sonar.units import round_ether

    with session(home, network, quiet, patience) as (place, worker):
        worker.sender.limit_fees(place.policy().money.highest_gas_price)
        result = withdraw_all(worker, to, token)
    if as_json:
        echo_json(result)
    elif token is None:
        click.echo(f"{round_ether(result['amount'])} ether to {result['to']}")
    else:
        click.echo(f"{result['amount']} of {token} to {result['to']}")


def _new_passphrase() -> str:
    from sonar.errors import ConfigError
    from sonar.wallet import given_passphrase

    if (given := given_passphrase()) is not None:
        return given
    if not sys.stdin.isatty():
        raise ConfigError(
            "a new account needs a passphrase: set SONAR_PASSPHRASE_FILE to a file that starts with it, or "
            "SONAR_PASSPHRASE to itself, or use --no-passphrase on a development network"
        )
    return str(click.prompt("Passphrase of the new account", hide_input=True, confirmation_prompt=True, err=True))
