"""The `pysonar` command: what a data scientist, or anybody else, asks of a campaign without writing a program."""

from pathlib import Path

import click

from sonar import __version__
from sonar.cli_support import SonarGroup, echo_json, talk

__all__ = ["main"]


@click.group(cls=SonarGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pysonar")
def main() -> None:
    """PySonar: train models on data that nobody else can read."""


@main.command()
@click.argument("campaign")
@click.option("--all", "everything", is_flag=True, help="Print what holds, too.")
@click.option(
    "--network", type=click.Path(dir_okay=False, path_type=Path), help="The network file (default: SONAR_NETWORK)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.pass_context
def audit(context: click.Context, campaign: str, everything: bool, network: Path | None, as_json: bool) -> None:
    """Compute again, from chain and IPFS alone, what was promised in CAMPAIGN: signatures, products, payouts.

    As `sonar audit` does; the Capsule is asked where it published gradients, which large ones in IPFS take. CAMPAIGN is
    its id, or enough of the id's first digits. Ends with 0 where all holds, with 1 where something differs, and with 11
    where nothing does but some artifact is not to be had. Other codes: the audit itself could not be made.
    """
    from capsule.client import CapsuleClient
    from pysonar.auditing import audit as run
    from sonar.chain.client import SonarClient
    from sonar.config import Network
    from sonar.overview import find_campaign
    from sonar.protocol.messages import Domain
    from sonar.storage.opening import open_store

    found = Network.load(network)
    client = SonarClient.from_network(found)
    key = find_campaign(client, found.start_block, campaign)
    capsule = None
    if found.capsule_url is not None:
        capsule = CapsuleClient(found.capsule_url, Domain(client.chain_id, client.address), None)
    try:
        with open_store(found.store) as store:
            report = run(client, store, key, start_block=found.start_block, capsule=capsule)
    finally:
        if capsule is not None:
            capsule.close()
    if stranger := report.stranger_to(found.capsule):
        talk(stranger)
    if as_json:
        echo_json(report.to_dict())
    else:
        click.echo("\n".join(report.lines(everything=everything)))
    context.exit(report.exit_code)
