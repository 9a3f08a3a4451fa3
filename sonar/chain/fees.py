"""What a transaction offers per gas: as the chain asks, more where it replaces another one, never above a limit."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

import rlp  # type: ignore[import-untyped]
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes

from sonar.chain.errors import FeeLimitError
from sonar.units import Wei

if TYPE_CHECKING:
    from web3 import Web3

__all__ = ["FeeMarket", "Fees"]

_LEGACY_LIST = 0xC0
"""Legacy transactions are an RLP list, whose first byte is at least this; typed ones begin with their type."""
_MOST_USUAL = 10
"""How many times the usual tip a replacement may be raised to: above the base fee, that is what is really paid."""


@dataclass(frozen=True, slots=True)
class Fees:
    """Wei per gas: at most `highest` in all, of which at most `tip` goes to the block's maker.

    `tip` is None on chains without EIP-1559, where `highest` is what is paid.
    """

    highest: Wei
    tip: Wei | None

    @classmethod
    def of(cls, raw: bytes) -> Self:
        """Those of a signed transaction, legacy or of type 2."""
        if raw[0] >= _LEGACY_LIST:
            return cls(Wei(int.from_bytes(rlp.decode(raw)[1], "big")), None)
        fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        return cls(Wei(int(fields["maxFeePerGas"])), Wei(int(fields["maxPriorityFeePerGas"])))

    def to_transaction(self) -> dict[str, int]:
        """The fields of a transaction."""
        if self.tip is None:
            return {"gasPrice": self.highest}
        return {"maxFeePerGas": self.highest, "maxPriorityFeePerGas": self.tip}


@dataclass(frozen=True, slots=True)
class FeeMarket:
    """What a chain asks per gas now: the base fee of its latest block (None before EIP-1559), and the usual tip.

    Where there is no base fee `tip` is the usual gas price.
    """

    base: Wei | None
    tip: Wei

    @classmethod
    def read(cls, web3: "Web3", block: Mapping[str, Any]) -> Self:
        """The market after `block`; web3's errors pass."""
        base = block.get("baseFeePerGas")
        if base is None:
            return cls(None, Wei(int(web3.eth.gas_price)))
        return cls(Wei(int(base)), Wei(int(web3.eth.max_priority_fee)))

    @property
    def usual(self) -> Fees:
        """Twice the present base fee, so that it may double six times, and the usual tip."""
        if self.base is None:
            return Fees(self.tip, None)
        return Fees(Wei(2 * self.base + self.tip), self.tip)

    def asks_more_than(self, fees: Fees) -> bool:
        """Whether these are too low to be mined now: below the base fee and the usual tip, or with less of a tip."""
        if self.base is None or fees.tip is None:
            return fees.highest < self.tip + (self.base or 0)
        return fees.highest < self.base + self.tip or fees.tip < self.tip

    def offer(self, limit: Wei, replacing: Fees | None = None) -> Fees:
        """What to offer now: the usual, at most `limit` in all, and as a replacement an eighth above the former fees.

        Nodes take a replacement that offers a tenth more (geth, Anvil, Ganache) or an eighth more (OpenEthereum), of
        both fees. So what is offered stays two eighths below `limit`, and then one, as long as the chain asks for less
        than that: a transaction at the limit could not be replaced. Where gas is free nothing is raised, and the
        replacement's fees are the former ones.

        Raises FeeLimitError where `limit` is too low for that, or for the present base fee and tip, and where the tip
        (the gas price, on chains without base fee) would be raised above ten times the usual one and the base fee.
        """
        usual = self.usual
        highest, tip = usual.highest, usual.tip
        asked = least = Wei(self.tip + (self.base or 0))
        if replacing is not None and (replacing.highest or highest):
            if tip is not None:
                tip = max(tip, _raised(replacing.highest if replacing.tip is None else replacing.tip))
                least = Wei((self.base or 0) + tip)
            least = max(least, _raised(replacing.highest))
            highest = max(highest, least)
        if asked > limit:
            raise FeeLimitError(
                f"the chain asks for {_gwei(asked)} gwei per gas, and the limit is {_gwei(limit)}: waiting until it "
                "asks for less; raise the limit if this cannot wait"
            )
        if least > asked:
            self._check_raised(least if tip is None else tip)
        if least > limit:
            raise FeeLimitError(
                f"to replace the transaction under way takes {_gwei(least)} gwei per gas, and the limit is "
                f"{_gwei(limit)}, though the chain asks for {_gwei(asked)}: waiting until it is mined as it is; raise "
                "the limit if this cannot wait"
            )
        return Fees(min(highest, _rung(least, limit)), tip)

    def _check_raised(self, paid: Wei) -> None:
        """Whoever replaces again and again must not bid without end against himself."""
        most = Wei(max(_MOST_USUAL * self.tip, self.base or 0))
        if paid > most:
            raise FeeLimitError(
                f"to replace the transaction under way takes {_gwei(paid)} gwei per gas for the block's maker, and the "
                f"usual is {_gwei(self.tip)}: waiting until it is mined as it is"
            )


def _rung(least: Wei, limit: Wei) -> Wei:
    """The lowest of three bounds, each an eighth above the one before and `limit` the last, that `least` is within."""
    middle = Wei(limit * 8 // 9)
    return next(bound for bound in (Wei(middle * 8 // 9), middle, limit) if least <= bound)


def _raised(fee: Wei) -> Wei:
    """An eighth more, and more also where it was nothing."""
    return Wei(fee + max(-(-fee // 8), 1))


def _gwei(wei: int) -> str:
    return f"{Decimal(wei) / 10**9:f}".rstrip("0").rstrip(".") if wei % 10**9 else str(wei // 10**9)
