"""The demo's thief: posts other mines' sealed gradients as its own, bond and all, and hopes to be paid.

It holds no data and no key but its own account's. One theft a round, of the newest gradient that somebody else posted;
it gives up when its purse of bonds is lost.
"""

import argparse
import time
from pathlib import Path

from sonar.chain import calls
from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.chain.errors import ChainError
from sonar.chain.events import GradientSubmitted
from sonar.chain.records import Status
from sonar.config import Network
from sonar.units import CampaignId
from sonar.wallet import load_account

PURSE = 3


def main() -> None:
    """Steals until the campaign is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("--campaign", type=bytes.fromhex, required=True)
    arguments = parser.parse_args()

    network = Network.load(arguments.network)
    client = SonarClient.from_network(network, load_account(arguments.key_file))
    campaign = CampaignId(arguments.campaign)
    record = client.campaign(campaign)
    cursor = EventCursor(client, network.start_block, campaign=campaign)
    loot: GradientSubmitted | None = None
    lost = 0
    while lost < PURSE and client.campaign(campaign).status is Status.RUNNING:
        for event in cursor.read():
            if isinstance(event, GradientSubmitted) and event.mine != client.account.address:
                loot = event
        state = client.round(campaign)
        fresh = client.last_submission(campaign, client.account.address) != state.number
        if loot is not None and fresh and state.open and (state.count > 0 or record.terms.round_size == 1):
            theft = calls.submit_gradient(
                campaign, state.number, loot.artifact, loot.gradient, loot.cid, record.terms.bond
            )
            try:
                client.transact(theft)
                lost += 1
                print(
                    f"posted {loot.mine}'s gradient of round {loot.round} as its own in round {state.number}",
                    flush=True,
                )
            except ChainError as error:
                print(f"missed round {state.number}: {error}", flush=True)
        time.sleep(0.3)


if __name__ == "__main__":
    main()
