"""What the Capsule gives a campaign's owner at the end: asked for until it is there, and opened for her alone."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from capsule.client import CapsuleClient, CapsuleRefusedError, CapsuleUnavailableError
from pysonar.errors import NotOverError
from sonar.cli_support import moment
from sonar.protocol.sealing import BoxContext, Purpose, SealingKeyPair, open_box_for

if TYPE_CHECKING:
    from pysonar.campaign import Campaign

__all__ = ["receive"]

_RETRY_SECONDS = 0.5


def receive(
    campaign: "Campaign",
    purpose: Purpose,
    ask: Callable[[CapsuleClient, bytes], bytes],
    *,
    what: str,
    timeout: float,
) -> bytes:
    """The payload of the box that `ask` gets of the Capsule for a fresh sealing key; `what` it is for refusals.

    A Capsule that has not seen the campaign's end yet, or is down, is asked again for `timeout` seconds. Raises
    NotOwnerError, NotOverError while the campaign runs, CapsuleError when the Capsule refuses or stays down, and
    SealedBoxError for a box that was made for something else.
    """
    sonar, record = campaign._sonar, campaign._own(f"its {what} is delivered to")
    if not campaign.is_over():
        waiting = campaign.present_round.count
        raise NotOverError(
            f"campaign 0x{campaign.id.hex()} is not over: its deadline is {moment(record.terms.deadline * 10**6)}, and "
            f"its round holds {waiting} gradient{'' if waiting == 1 else 's'}; campaign.watch() waits for its end"
        )
    pair = SealingKeyPair.generate()
    box = _asked(lambda: ask(sonar.capsule, pair.public), timeout)
    domain = sonar.domain
    expected = BoxContext(
        purpose, domain.chain_id, domain.contract, record.owner, campaign.id.hex(), record.version
    )  # fmt: skip
    return open_box_for(box, pair, expected)


def _asked(ask: Callable[[], bytes], timeout: float) -> bytes:
    limit = time.monotonic() + timeout
    while True:
        try:
            return ask()
        except CapsuleUnavailableError:
            if time.monotonic() >= limit:
                raise
        except CapsuleRefusedError as error:
            # The chain told us of the end already; the Capsule reads it a moment later.
            if error.code != "not_over" or time.monotonic() >= limit:
                raise
        time.sleep(min(_RETRY_SECONDS, max(0.0, limit - time.monotonic())))
