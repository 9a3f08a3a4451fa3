"""What a campaign's model takes and predicts, as a mine must find it in its own data: features, images, targets."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sonar.protocol._strict import Strict

__all__ = ["Feature", "FeatureType", "ImageSize", "Name", "Remark", "Target"]

FeatureType = Literal["number", "integer", "boolean"]


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError(f"{text!r} must be printable, without white space at its ends")
    return text


def _named(text: str) -> str:
    if not text:
        raise ValueError("a name must not be empty")
    return _printable(text)


Name = Annotated[str, Field(max_length=200), AfterValidator(_named)]
Remark = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
"""Words for people, or none."""


class Feature(Strict):
    """One input column. The model sees clip((value - offset) / scale) with public constants, the same for all.

    `type`, `unit` and range are promises that a mine holds its records to: numbers in this unit, from `minimum` to
    `maximum` if they are given, whole ones for `integer`, 0 and 1 for `boolean`.
    """

    name: Name
    type: FeatureType = "number"
    unit: Annotated[Remark, Field(max_length=40)] = ""
    minimum: float | None = None
    maximum: float | None = None
    offset: float = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0

    @model_validator(mode="after")
    def _range_has_room(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError(f"the minimum {self.minimum:g} must be below the maximum {self.maximum:g}")
        if self.type == "boolean" and (self.minimum is not None or self.maximum is not None):
            raise ValueError("a boolean is 0 or 1: give it no minimum and no maximum")
        return self


class Target(Strict):
    """One number to predict. The model is trained and scored on clip((value - offset) / scale)."""

    name: Name
    offset: float = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0


class ImageSize(Strict):
    """What every image becomes, in pixels; 1 channel is grey, 3 are red, green and blue.

    The features are then the pixels' values from 0 to 255, row by row from the top, a pixel's channels side by side.
    A mine turns an image as its camera says, puts it on black where it is transparent, and resizes it by Pillow's
    bilinear filter, whatever its sides' ratio.
    """

    width: Annotated[int, Field(ge=1, le=1024)]
    height: Annotated[int, Field(ge=1, le=1024)]
    channels: Literal[1, 3] = 1

    @property
    def features(self) -> int:
        """Numbers an image."""
        return self.width * self.height * self.channels
