"""Looks at the Capsule's parts and its account's coin now and then, so that the log tells what nobody asked about."""

import logging
import threading

from capsule.parts import Capsule
from capsule.readiness import Readiness
from capsule.standing import HealthReply
from sonar.errors import SonarError
from sonar.units import Wei, format_ether

__all__ = ["Lookout"]

_log = logging.getLogger("capsule.lookout")
_LOOK_SECONDS = 15.0
_ROUND_GAS = 175_000
"""What it takes to settle a round of 8 gradients (docs/gas.md)."""
_FEW_ROUNDS = 10


class Lookout:
    """Sees to it that the health is no older than a quarter of a minute, and the account's coin known."""

    def __init__(self, capsule: Capsule, readiness: Readiness) -> None:
        self._capsule, self._readiness = capsule, readiness
        self._is_low = self._has_looked = False
        self._account_wei: Wei | None = None

    @property
    def health(self) -> HealthReply | None:
        """How all parts are as far as they told within the last minute; None before the first look has ended."""
        return self._readiness.known() if self._has_looked else None

    @property
    def account_wei(self) -> Wei | None:
        """The coin that settles rounds; None where it is not known, or not any more."""
        return self._account_wei if self._readiness.known().chain.ok else None

    def run(self, stopping: threading.Event) -> None:
        """Looks every quarter of a minute until it is told to stop."""
        while not stopping.is_set():
            try:
                self.look()
            except Exception:  # noqa: BLE001
                # Nobody else looks: whatever it was, e.g. no memory for now, the next look may go well.
                _log.exception("the Capsule's parts could not be looked at")
            stopping.wait(_LOOK_SECONDS)

    def look(self) -> None:
        """Looks once. What does not answer is told by the health's own log, and seen again at the next look."""
        self._readiness.look()
        self._has_looked = True
        if not self._readiness.known().chain.ok:
            self._account_wei = None
            return
        try:
            chain, account = self._capsule.chain, self._capsule.address
            balance, fees = chain.balance(account), chain.fee_market().usual
        except SonarError as error:
            self._account_wei = None
            _log.info("the account's coin is not known: %s", error)
            return
        self._account_wei = balance
        self._tell(balance, _FEW_ROUNDS * _ROUND_GAS * fees.highest)

    def _tell(self, balance: Wei, wanted: int) -> None:
        low = balance < wanted
        if low and not self._is_low:
            _log.warning(
                "the account %s has %s ether, less than %d rounds may cost at the present fees: transfer %s ether or "
                "more to it on chain %d",
                self._capsule.address, format_ether(balance), _FEW_ROUNDS, format_ether(wanted - balance),
                self._capsule.chain.chain_id,
            )  # fmt: skip
        elif self._is_low and not low:
            _log.info("the account %s has %s ether", self._capsule.address, format_ether(balance))
        self._is_low = low
