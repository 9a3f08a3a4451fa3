"""What the contract's transactions cost in gas, as `scripts/bench_gas.py` measures them; a test compares both."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from sonar.chain.records import NATIVE
from sonar.units import Address, Wei

if TYPE_CHECKING:
    from sonar.chain.client import SonarClient

__all__ = ["GAS_COIN", "GAS_TOKEN", "Gas", "gas_price"]


@dataclass(frozen=True, slots=True)
class Gas:
    """Gas of each transaction; a settlement's is that of its round, of each gradient kept and of each newly paid mine.

    `submit_first` is a mine's first gradient in a campaign, `withdraw` a withdrawal to the account itself.
    """

    create: int
    submit: int
    submit_first: int
    settle: int
    settle_each: int
    settle_new: int
    close: int
    withdraw: int

    @classmethod
    def of(cls, token: Address) -> Self:
        """Those of a bounty in this currency."""
        return cls(*_COIN) if token == NATIVE else cls(*_TOKEN)

    def settlement(self, gradients: int, new: int) -> int:
        """A settlement that keeps so many gradients, and pays so many mines that were never paid in this currency."""
        return self.settle + self.settle_each * gradients + self.settle_new * new


def gas_price(client: "SonarClient") -> Wei:
    """What a unit of gas costs on this chain now, in wei: the base fee and the usual tip."""
    market = client.fee_market()
    return Wei((market.base or 0) + market.tip)


_COIN = (173_258, 48_104, 65_204, 64_500, 13_874, 17_100, 57_758, 34_290)
_TOKEN = (213_002, 48_104, 65_204, 66_450, 19_210, 34_200, 59_878, 60_186)
GAS_COIN, GAS_TOKEN = Gas(*_COIN), Gas(*_TOKEN)
