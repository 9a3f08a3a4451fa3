"""The delivered model: a `torch.nn.Module` that takes features in raw units."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from pysonar._inputs import class_indices, feature_table
from sonar.protocol.payloads import CLIP
from sonar.protocol.spec import Spec

__all__ = ["LinearModel"]


class LinearModel(torch.nn.Module):
    """A trained linear classifier: logits = linear(clip((x - offset) / scale)), x in the units of the mines' tables.

    `linear` is a `torch.nn.Linear` in float64, `offset` and `scale` are buffers, `features` and `classes` the names.
    """

    offset: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        features: tuple[str, ...],
        classes: tuple[str, ...],
        offset: npt.NDArray[np.float64],
        scale: npt.NDArray[np.float64],
        weights: npt.NDArray[np.float64],
    ) -> None:
        """`weights` is (features + 1, classes) on scaled features, with the bias in the last row."""
        super().__init__()
        self.features, self.classes = tuple(features), tuple(classes)
        self.register_buffer("offset", torch.tensor(np.array(offset), dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(np.array(scale), dtype=torch.float64))
        self.linear = torch.nn.Linear(len(self.features), len(self.classes), dtype=torch.float64)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor(np.array(weights[:-1]).T))
            self.linear.bias.copy_(torch.tensor(np.array(weights[-1])))

    @classmethod
    def from_encoded(cls, spec: Spec, weights: npt.NDArray[np.int64]) -> Self:
        """The model of integer weights (features + 1, classes) at the spec's scale 2^weight_bits."""
        offset = np.array([feature.offset for feature in spec.features])
        scale = np.array([feature.scale for feature in spec.features])
        names = tuple(feature.name for feature in spec.features)
        return cls(names, spec.classes, offset, scale, weights / 2.0**spec.encoding.weight_bits)

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """The weights (features + 1, classes) on scaled features, bias last: the start of another campaign."""
        with torch.no_grad():
            return np.vstack([self.linear.weight.T.cpu().numpy(), self.linear.bias.cpu().numpy()])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (records, classes) of features (records, features) in raw units."""
        scaled = (features.to(self.offset.dtype) - self.offset) / self.scale
        logits: torch.Tensor = self.linear(scaled.clamp(-CLIP, CLIP))
        return logits

    def predict(self, features: Any) -> npt.NDArray[np.int64]:
        """The class index (records,) of each record; `classes` has the names. Ties go to the lowest, as the judge does.

        Takes an array, a tensor or a data frame; raises ValidationSetError for features that do not fit.
        """
        table = torch.tensor(feature_table(features, self.features))
        with torch.no_grad():
            return np.asarray(self(table.to(self.offset.device)).cpu().numpy().argmax(axis=1), dtype=np.int64)

    def score(self, features: Any, labels: Any) -> float:
        """The accuracy, 0 to 1, on features and labels as a validation set has them."""
        found = self.predict(features)
        return float((found == class_indices(labels, self.classes, len(found))).mean())
