"""How a mine trains a network, as a campaign publishes it. It knows no torch: a spec is read without it."""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["NetworkTraining"]

_MOST_FORGOTTEN: Final = 0.01
"""What part of the weights a step may take away by decay: with all of it, a change would be the last batch's alone."""


class NetworkTraining(BaseModel):
    """The local training of one round: so many epochs of mini-batches in an order of the mine's own choosing.

    `cross_entropy` is of class indices, `mse` of scaled targets. `sgd` takes `momentum`, `adam` has torch's defaults.
    Gradients of a batch are not clipped; the change of all parameters together is, to the Euclidean length `clip_norm`,
    and each one's to what the encoding holds. The product of learning_rate and weight_decay, the part of the weights
    that a step takes away, is at most 0.01.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    optimizer: Literal["sgd", "adam"] = "adam"
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    epochs: Annotated[int, Field(ge=1, le=1000)] = 5
    batch_size: Annotated[int, Field(ge=1, le=1 << 16)] = 32
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    clip_norm: Annotated[float, Field(gt=0, le=1000)] = 10.0

    @model_validator(mode="after")
    def _remembers(self) -> Self:
        if self.learning_rate * self.weight_decay > _MOST_FORGOTTEN * (1 + 1e-9):  # a tenth of a tenth is allowed
            raise ValueError(
                f"a learning_rate of {self.learning_rate:g} times a weight_decay of {self.weight_decay:g} is above "
                f"{_MOST_FORGOTTEN:g}: a change would tell of the last few batches alone, so give less of one"
            )
        return self
