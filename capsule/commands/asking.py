"""`capsule info`: asks a running Capsule who it is."""

from pathlib import Path

import click

from capsule.commands import options

__all__ = ["info"]


@click.command()
@options.network
@click.option("--url", help="The Capsule to ask. [the network file's]")
@options.as_json
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
        "health": health.model_dump(mode="json") if as_json else health.status,
    }
    options.show(facts, as_json=as_json)
