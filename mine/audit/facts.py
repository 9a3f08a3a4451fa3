"""What entries say that the ledger acts on: strict, since what it does not expect must not be a budget's fate."""

from fractions import Fraction
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mine.audit.entries import AuditEntry
from mine.errors import AuditError

__all__ = ["CHARGES", "PLACES", "ChargeFacts", "PlaceFacts"]

CHARGES: Final = frozenset({"released", "charged"})
"""The kinds of entries that tell of a charge to a privacy budget."""
PLACES: Final = frozenset({"dataset added", "dataset changed", "dataset removed"})
"""The kinds of entries that tell where a data set's records are."""
_Hex = Annotated[str, Field(pattern=r"^0x([0-9a-f]{2})+$", max_length=130)]


class ChargeFacts(BaseModel):
    """An entry of one of `CHARGES`: `rho` in zCDP, above zero; `campaign` and `round` of an unknown gradient."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")  # what else is told is for the owner alone

    datasets: Annotated[list[str], Field(min_length=1)]
    statistic: _Hex
    contents: _Hex
    rho: Annotated[str, Field(pattern=r"^[1-9][0-9]*(/[1-9][0-9]*)?$", max_length=4000)]
    campaign: _Hex | None = None
    round: Annotated[int, Field(ge=0)] | None = None

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        """What an entry tells; raises AuditError, with the entry and the fact at fault, for one that tells it not."""
        try:
            return cls.model_validate_json(entry.facts)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            raise AuditError(
                f"entry {entry.sequence} of the audit log is a {entry.kind!r} that this program does not understand "
                f"({'.'.join(map(str, problem['loc'])) or 'its facts'}: {problem['msg']}): a newer program wrote it"
            ) from error

    @property
    def cost(self) -> Fraction:
        """The charge, exactly."""
        return Fraction(self.rho)

    @staticmethod
    def digest(text: str) -> bytes:
        """The bytes of hexadecimal digits."""
        return bytes.fromhex(text.removeprefix("0x"))


class PlaceFacts(BaseModel):
    """An entry of one of `PLACES`: the data set's name, and its source as `Source.to_dict` writes it."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    dataset: str
    kind: str
    location: str
    query: str | None = None

    @classmethod
    def of(cls, entry: AuditEntry) -> Self | None:
        """What an entry tells; None for one that tells it not: a place only adds to what a name shares anyway."""
        try:
            return cls.model_validate_json(entry.facts)
        except ValidationError:
            return None
