"""The delivered model: a `torch.nn.Module` that takes features in raw units."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from pysonar._features import torch_map
from pysonar._inputs import class_indices, feature_table
from pysonar.errors import ModelError
from sonar.protocol.payloads import CLIP
from sonar.protocol.spec import Spec
from sonar.syft import FeatureMap, Identity

__all__ = ["LinearModel"]


class LinearModel(torch.nn.Module):
    """A trained linear classifier: logits = linear(map(clip((x - offset) / scale))), x in the units of mines' tables.

    `linear` is a `torch.nn.Linear` in float64, `offset` and `scale` are buffers, `map` is a module without parameters,
    `mapping` what it stands for, `features` and `classes` the names.
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
        *,
        mapping: FeatureMap | None = None,
    ) -> None:
        """`weights` is (mapped features + 1, classes) on scaled features, with the bias in the last row.

        Without a `mapping` the model sees the scaled features themselves. Raises ModelError where they do not fit.
        """
        super().__init__()
        self.features, self.classes = tuple(features), tuple(classes)
        self.mapping = Identity(len(self.features)) if mapping is None else mapping
        shape = self.mapping.outputs + 1, len(self.classes)
        if self.mapping.inputs != len(self.features) or np.shape(weights) != shape:
            raise ModelError(
                f"weights of shape {np.shape(weights)} and a map of {self.mapping.inputs} features do not fit a "
                f"model of {len(self.features)} features, which needs {shape}"
            )
        self.map = torch_map(self.mapping)
        self.register_buffer("offset", torch.tensor(np.array(offset), dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(np.array(scale), dtype=torch.float64))
        self.linear = torch.nn.Linear(self.mapping.outputs, len(self.classes), dtype=torch.float64)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor(np.array(weights[:-1]).T))
            self.linear.bias.copy_(torch.tensor(np.array(weights[-1])))

    @classmethod
    def from_encoded(cls, spec: Spec, weights: npt.NDArray[np.int64]) -> Self:
        """The model of integer weights (mapped features + 1, classes) at the spec's scale 2^weight_bits."""
        offset = np.array([feature.offset for feature in spec.features])
        scale = np.array([feature.scale for feature in spec.features])
        names = tuple(feature.name for feature in spec.features)
        floats = weights / 2.0**spec.encoding.weight_bits
        return cls(names, spec.classes, offset, scale, floats, mapping=spec.mapping)

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """The weights (mapped features + 1, classes), bias last: the start of another campaign."""
        with torch.no_grad():
            return np.vstack([self.linear.weight.T.cpu().numpy(), self.linear.bias.cpu().numpy()])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (records, classes) of features (records, features) in raw units."""
        scaled = (features.to(self.offset.dtype) - self.offset) / self.scale
        logits: torch.Tensor = self.linear(self.map(scaled.clamp(-CLIP, CLIP)))
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
