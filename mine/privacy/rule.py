"""The owner's rule on differential privacy: the table `[privacy]` of the policy."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["PrivacyRule"]


class PrivacyRule(BaseModel):
    """What a data set may tell of each of its records, and how; raises ValidationError for a rule that makes no sense.

    With `mode` on, whatever leaves the mine is made from noised sums, which are differentially private for adding or
    removing one record: (`epsilon`, `delta`) for each statistic and (`round_epsilon`, `delta`) for each round of a
    network, (`budget`, `delta`) for all that are ever made of overlapping data.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)

    mode: Literal["off", "on"] = "off"
    """Whether gradients are made from noised sums: "on" or "off"."""
    epsilon: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 1.0
    """What one noised statistic may cost: it serves every campaign and round on the same features of the same data."""
    delta: Annotated[float, Field(ge=1e-30, le=1e-3)] = 1e-6
    """How likely more than epsilon may be told: well below one over the number of records."""
    budget: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 3.0
    """The epsilon of everything that is ever made of a data set, and of others that share records with it."""
    max_loss: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.1
    """The most of accuracy (or R2), as a part of 1, that a model of the data set alone may be expected to lose to the
    noise: where more would go, nothing is spent."""
    renew: bool = False
    """Whether data that have changed are noised, and paid for, anew; otherwise what was released before serves on."""
    clip: Annotated[float, Field(ge=0.01, le=16)] = 1.0
    """How far a record may lie out, in units of the features' scale: one whose features have a larger root mean square
    counts for less."""
    target_clip: Annotated[float, Field(ge=0.01, le=16)] = 3.0
    """The same of what a regression predicts: larger targets are cut to this."""

    round_epsilon: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0
    """What one round of a network may cost, each round anew, since it trains on the records themselves; 0: as much as a
    statistic."""
    gradient_clip: Annotated[float, Field(ge=1e-3, le=1000)] = 1.0
    """How long the gradient of one record may be in a network's training: a longer one is cut to this."""
    max_noise: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 1.0
    """How many times as long the noise of a network's round may be as all that its records can add: where it would be
    longer, nothing is spent."""
    separate: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=1000)] = []
    """Data sets that have a budget of their own although others lie in the same files or database: your word that
    nobody's record is in two of them. Where records are recognised the budget is shared all the same."""

    @model_validator(mode="after")
    def _the_budget_buys_a_statistic(self) -> Self:
        if self.budget < self.epsilon:
            raise ValueError(f"a budget of {self.budget:g} does not buy one statistic of epsilon {self.epsilon:g}")
        if self.budget < self.round_epsilon:
            raise ValueError(f"a budget of {self.budget:g} does not buy one round of epsilon {self.round_epsilon:g}")
        return self

    @property
    def epsilon_of_round(self) -> float:
        """What one round of a network may cost."""
        return self.round_epsilon or self.epsilon
