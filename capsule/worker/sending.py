"""Signs transactions that carry settlements, stores each before it is sent, and replaces those that offer too little.

What is usual per gas and the next free nonce are asked once a step: whoever settles many rounds at once need not be
told the same for each.
"""

import logging
from collections.abc import Callable, Sequence

from capsule.parts import Capsule
from capsule.state import Relay
from capsule.worker.calling import Caller, Place
from capsule.worker.tally import Tally
from sonar.chain.calls import Call, EncodedCall
from sonar.chain.client import SignedTransaction
from sonar.chain.errors import (
    ContractRevertError,
    FeeLimitError,
    TransactionFailedError,
    UnfundedAccountError,
)
from sonar.chain.fees import FeeMarket, Fees
from sonar.units import CampaignId, Wei

__all__ = ["Sender", "short"]

_log = logging.getLogger("capsule.worker.relaying")

_OVERDUE = 10
"""After how many times `replace_seconds` a transaction is raised whatever the node says that the chain asks for."""
_LEAST_GAS = 21_000
"""What any transaction takes: no settlement is cheaper."""
_TOO_LOW = ("underpriced", "fee too low", "feetoolow", "price too low", "price below")
"""What nodes say in small letters of fees that they do not take, whatever they say that the chain asks for."""


class Sender:
    """Sends what one step of a relayer decides; `begin` begins the next one.

    `tell` hears what keeps settlements from the chain: of a campaign, by its id in hex, or `fees` and `funds` of all.
    """

    def __init__(self, capsule: Capsule, tally: Tally, caller: Caller, tell: Callable[[str, str], None]) -> None:
        self._capsule, self._tally, self._caller, self._tell = capsule, tally, caller, tell
        self.begin()

    def begin(self) -> None:
        """Forgets what the chain said before."""
        self._sent, self._declined = 0, ""
        self._market: FeeMarket | None = None
        self._nonce: int | None = None

    def check(self) -> None:
        """Raises TransactionFailedError where the node took nothing of what was sent in this step."""
        if self._declined and not self._sent:
            raise TransactionFailedError(self._declined)

    def first(self, place: Place, call: Call) -> bool:
        """Signs, stores and sends a settlement; False where no other one can be sent now either.

        Raises ChainError where the contract or the node does not take it.
        """
        capsule, nonce = self._capsule, self._next_nonce()
        try:
            fees = self._asked().offer(capsule.policy.highest_fee)
            signed = capsule.chain.sign(call, nonce=nonce, fees=fees)
        except FeeLimitError as error:
            self._tell("fees", str(error))
            return False
        except UnfundedAccountError as error:
            self._lack(error)
            return self._can_pay_any(fees)
        relay = self._store(place, signed, fees)
        if relay is None:
            return False
        self._nonce = nonce + 1
        self.send(relay, fresh=True)
        return True

    def send(self, relay: Relay, group: Sequence[Relay] = (), *, fresh: bool = False) -> str | None:
        """Sends a stored transaction, and returns what the node says where it refuses that; None where it does not.

        `group` holds all that were signed with its nonce, if there are others; `fresh` is one that was never sent, with
        a nonce that was free in this step.
        """
        capsule = self._capsule
        try:
            capsule.chain.send(SignedTransaction(relay.raw, relay.hash, relay.nonce), fresh=fresh)
        except UnfundedAccountError as error:
            self._lack(error)
            return str(error)
        except TransactionFailedError as error:
            self._nonce = None  # what is free is asked again
            self._tally.relay_failures.add()
            self._tell(relay.campaign.hex(), str(error))
            never_sent = relay.state == "intent" and len(group) <= 1
            if never_sent and capsule.chain.next_nonce() > relay.nonce:
                _log.warning(
                    "nonce %d waits in a transaction that this Capsule did not send: taking the next", relay.nonce
                )
                capsule.state.set_relay(relay.hash, "replaced")
                return None
            self._declined = str(error)
            return self._declined
        self._sent += 1
        capsule.state.set_relay(relay.hash, "sent")
        return None

    def is_outbid(self, relay: Relay, refusal: str = "") -> bool:
        """Whether a waiting transaction should offer more: the chain asks for more, or cannot mean what it asks for.

        What offers enough only waits for a block, and to raise it would be to bid against oneself. Nor does a node that
        refuses it for another reason take it at a higher fee.
        """
        waited, patience = self._capsule.clock() - relay.time, self._capsule.policy.replace_seconds
        if waited < patience:
            return False
        if any(words in refusal.lower() for words in _TOO_LOW):
            return True
        return waited >= _OVERDUE * patience or self._asked().asks_more_than(Fees.of(relay.raw))

    def replace(self, former: Relay) -> None:
        """Stores and sends another transaction with the same nonce: the settlement, or nothing if it came too late."""
        before = Fees.of(former.raw)
        try:
            fees = self._asked().offer(self._capsule.policy.highest_fee, before)
        except FeeLimitError as error:
            self._tell("fees", str(error))
            return
        if fees.highest <= before.highest:
            return  # where gas is free, no node takes it in the place of the former one
        place = (former.campaign, former.round, former.head)
        try:
            signed = self._sign_again(place, former.nonce, fees)
        except UnfundedAccountError as error:
            self._lack(error)
            return
        except TransactionFailedError as error:
            self._tell(former.campaign.hex(), str(error))
            return
        if (relay := self._store(place, signed, fees)) is None:
            return
        self._tally.replacements.add()
        _log.info("replacing transaction 0x%s at up to %d wei per gas", former.hash.hex(), fees.highest)
        self.send(relay, [former])

    def _sign_again(self, place: Place, nonce: int, fees: Fees) -> SignedTransaction:
        chain, call = self._capsule.chain, self._caller.call(place)
        if call is not None:
            try:
                return chain.sign(call, nonce=nonce, fees=fees)
            except ContractRevertError as error:
                _log.info("round %d of %s: %s", place[1], short(place[0]), error)
        return chain.sign(EncodedCall(self._capsule.address, b"", Wei(0)), nonce=nonce, fees=fees)

    def _store(self, place: Place, signed: SignedTransaction, fees: Fees) -> Relay | None:
        """The transaction as it is in the database before it is sent; None where another worker was faster."""
        campaign, number, head = place
        relay = Relay(
            signed.hash, campaign, number, head, signed.nonce, signed.raw, fees.highest, fees.tip or 0,
            "intent", self._capsule.clock(),
        )  # fmt: skip
        if self._capsule.state.add_relay(relay):
            return relay
        _log.warning("another worker relays at the same time: leaving round %d of %s to it", number, short(place[0]))
        return None

    def _asked(self) -> FeeMarket:
        if self._market is None:
            self._market = self._capsule.chain.fee_market()
        return self._market

    def _next_nonce(self) -> int:
        """Behind everything that waits: this Capsule's own transactions, also those that the node has dropped."""
        if self._nonce is None:
            own = [relay.nonce + 1 for relay in self._capsule.state.open_relays()]
            self._nonce = max([self._capsule.chain.next_nonce(), *own])
        return self._nonce

    def _can_pay_any(self, fees: Fees) -> bool:
        """Whether the account has coin for any transaction: a dear settlement must not keep a cheap one waiting."""
        return self._capsule.chain.balance(self._capsule.address) >= _LEAST_GAS * fees.highest

    def _lack(self, error: UnfundedAccountError) -> None:
        self._tally.relay_failures.add()
        self._tell("funds", str(error))


def short(campaign: CampaignId) -> str:
    """A campaign for the log."""
    return "0x" + campaign.hex()[:16]
