"""What all parts of a campaign spec are: read strictly, without fields that nobody knows, and unchangeable."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Strict"]


class Strict(BaseModel):
    """A part of a spec."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
