"""Which mine moved a campaign's model how: its share for every owner, and its part where the spec opens it.

    campaign.attribution()     each mine's share of what the campaign changed, on the validation set
    result.attribution(X)      every output of any records as start + each mine's part + rounding
    result.without(mine)       the model without that mine's part

The last two exist in campaigns that were created with attribution="open", which each mine's policy may refuse.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from pysonar.delivery import receive
from pysonar.errors import ModelError, NotOpenError
from sonar.protocol.attribution import decode_parts, decode_shares
from sonar.protocol.errors import ProtocolError
from sonar.protocol.sealing import Purpose
from sonar.protocol.spec import Spec
from sonar.units import PPM, Address

if TYPE_CHECKING:
    from pysonar.campaign import Campaign
    from pysonar.results.base import TrainedModel

__all__ = ["Attribution", "ModelParts", "Origin", "Split", "attribution_of", "parts_of"]

BigInts = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
_SECONDS = 330.0

Trained = TypeVar("Trained", bound="TrainedModel")


@dataclass(frozen=True, slots=True)
class Attribution:
    """Each mine's share, 1 in all with `rounding`: how far its part goes along what the campaign changed.

    m_n is what the campaign added to the outputs of the validation record n, p_n what the mine's part added; the share
    is the sum of <p_n, m_n> over the sum of <m_n, m_n>, to a thousandth. It is negative for a mine that pulled the
    other way. Mines of which no gradient was kept have none.
    """

    mines: dict[Address, float]
    rounding: float

    def __str__(self) -> str:
        """One line a mine, the largest share first."""
        if not self.mines:
            return "no round advanced the model"
        ranked = sorted(self.mines.items(), key=lambda item: -item[1])
        return "\n".join(f"{share:>8.2%}  {mine}" for mine, share in ranked)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Outputs (records, outputs) as a sum: of the start model, of each mine's part, and of what was rounded.

    A classifier's are class scores, a regressor's numbers in the targets' own units, whose offsets are the start's.
    """

    start: Floats
    mines: dict[Address, Floats]
    rounding: Floats

    def total(self) -> Floats:
        """The model's own outputs, but for the last bits of floats."""
        return np.asarray(self.start + sum(self.mines.values()) + self.rounding)


@dataclass(frozen=True, slots=True, eq=False)
class ModelParts:
    """A model's integers (mapped features + 1, outputs) at 2^scale, which sum to its weights exactly."""

    scale: int
    start: BigInts
    mines: dict[Address, BigInts]
    rounding: BigInts

    def floats(self, part: BigInts) -> Floats:
        """A part as the weights are, rounded once."""
        return np.asarray(part / (1 << self.scale), dtype=np.float64)

    def of(self, mine: str) -> BigInts:
        """A mine's part; raises ModelError where it has none."""
        for account, part in self.mines.items():
            if account.lower() == str(mine).lower():
                return part
        have = ", ".join(self.mines) or "nobody has"
        raise ModelError(f"{mine} has no part in this model: no gradient of it was kept (parts have: {have})")


class Origin:
    """Where a delivered model's weights come from: its parts, asked for when they are first needed.

    A copy shares it; what is pickled has the parts only if they were asked for before.
    """

    def __init__(
        self,
        spec: Spec,
        weights: npt.NDArray[np.int64],
        ask: Callable[[], ModelParts] | None,
        parts: ModelParts | None = None,
    ) -> None:
        self._spec, self._weights, self._ask, self._parts = spec, weights, ask, parts

    def __deepcopy__(self, memo: dict[int, Any]) -> "Origin":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Origin, (self._spec, self._weights, None, self._parts)

    def split(self, model: "TrainedModel", X: Any) -> Split:
        """What `TrainedModel.attribution` tells."""
        parts = self._checked(model)
        records = model._mapped(X)
        start, rounding = (records @ parts.floats(part) for part in (parts.start, parts.rounding))
        mines = {mine: records @ parts.floats(part) for mine, part in parts.mines.items()}
        if self._spec.targets:
            scale = np.array([target.scale for target in self._spec.targets])
            offset = np.array([target.offset for target in self._spec.targets])
            mines = {mine: part * scale for mine, part in mines.items()}
            return Split(start * scale + offset, mines, rounding * scale)
        return Split(start, mines, rounding)

    def without(self, model: Trained, mine: str) -> Trained:
        """What `TrainedModel.without` gives."""
        parts = self._checked(model)
        rest = parts.floats(_scaled(self._weights, self._spec, parts.scale) - parts.of(mine))
        copy = deepcopy(model)
        copy._origin = None  # it is no campaign's any more
        with torch.no_grad():
            copy.linear.weight.copy_(torch.tensor(rest[:-1].T.copy()))
            copy.linear.bias.copy_(torch.tensor(rest[-1].copy()))
        return copy

    def _checked(self, model: "TrainedModel") -> ModelParts:
        if self._spec.attribution != "open":
            raise NotOpenError(
                "this campaign's mines were promised that nobody sees their parts: campaign.attribution() tells their "
                'shares on the validation set, and only a campaign created with attribution="open" splits other records'
            )
        if not np.array_equal(model.weights, self._weights / 2.0**self._spec.encoding.weight_bits):
            raise ModelError("this model was changed since it was delivered: take campaign.result() again")
        if self._parts is None:
            if self._ask is None:
                raise ModelError(
                    "this copy of the model was saved before its parts were asked for: take campaign.result() again"
                )
            self._parts = self._ask()
        return self._parts


def attribution_of(campaign: "Campaign", *, timeout: float) -> Attribution:
    """What `Campaign.attribution` tells."""
    if campaign.spec.network is not None:
        raise NotOpenError(
            "a network's predictions are no sum of what its mines added: only linear and kernel models can be split"
        )
    payload = receive(
        campaign, Purpose.ATTRIBUTION, lambda capsule, key: capsule.attribution(campaign.id, key),
        what="attribution", timeout=timeout,
    )  # fmt: skip
    shares = decode_shares(payload)
    return Attribution({mine: ppm / PPM for mine, ppm in shares.mines}, shares.rounding / PPM)


def parts_of(campaign: "Campaign", weights: npt.NDArray[np.int64]) -> ModelParts:
    """The parts of a campaign's delivered weights, page by page; raises ProtocolError where they are not their sum."""
    spec = campaign.spec
    mines: dict[Address, BigInts] = {}
    while True:
        payload = receive(
            campaign, Purpose.PARTS, lambda capsule, key: capsule.parts(campaign.id, len(mines), key),
            what="parts", timeout=_SECONDS,
        )  # fmt: skip
        page = decode_parts(payload, spec)
        mines.update(zip(page.accounts, page.values, strict=True))
        if len(mines) >= page.mines:
            break
        if not page.accounts:
            raise ProtocolError(f"the Capsule tells of {page.mines} mines and gives the parts of {len(mines)}")
    start = _scaled(page.start, spec, page.scale)
    rounding = _scaled(weights, spec, page.scale) - start - sum(mines.values())
    # Each round that advanced rounded every weight to its own scale, by half a unit of that at most.
    if (np.abs(rounding) * 2 > page.versions << (page.scale - spec.encoding.weight_bits)).any():
        raise ProtocolError("the parts that the Capsule gives do not sum to the model that it delivered")
    return ModelParts(page.scale, start, mines, rounding)


def _scaled(weights: BigInts, spec: Spec, scale: int) -> BigInts:
    return np.asarray(weights.astype(object) * (1 << (scale - spec.encoding.weight_bits)))
