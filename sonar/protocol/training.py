"""How a mine trains, as a campaign spec publishes it: what the model sees of the features, and the local training."""

import base64
import binascii
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sonar.network.errors import ParameterError
from sonar.network.frozen import MAX_FROZEN_WORK, Frozen, load_parameters
from sonar.network.graph import Graph
from sonar.protocol._strict import Strict
from sonar.syft import FeatureMap, Identity, Polynomial, RandomFourier, Schedule, TrainingError
from sonar.syft.statistics import check_class_weights

__all__ = [
    "MAX_CLASSES", "MAX_FEATURES", "AnyMap", "BackboneMap", "FourierMap", "IdentityMap", "PolynomialMap", "Training",
]  # fmt: skip

MAX_FEATURES = 2047
"""What a feature map may give. With the bias 2048 rows: the judge's integer scores then fit 63 bits."""
MAX_CLASSES = 256
_MAX_PARAMETERS_TEXT = 900_000
"""Of a backbone in base64, which leaves room for the rest of a spec: 168,000 numbers."""
_MIN_BATCH = 16
"""Every batch costs a mine a step on the whole map: smaller ones would let a spec waste its time."""
ClassWeight = Annotated[float, Field(ge=1e-3, le=1e3)]
# A list will do, as a notebook writes it.
ClassWeights = Annotated[tuple[ClassWeight, ...], Field(min_length=2, max_length=MAX_CLASSES, strict=False)]


class IdentityMap(Strict):
    """The model sees the scaled features themselves."""

    kind: Literal["identity"] = "identity"

    def of(self, inputs: int) -> FeatureMap:
        """The map of so many features."""
        return Identity(inputs)


class FourierMap(Strict):
    """The model sees `count` random Fourier features of the kernel exp(-gamma |x - y|^2), drawn from the seed.

    `sonar.syft.RandomFourier` says how, bit by bit.
    """

    kind: Literal["fourier"] = "fourier"
    count: Annotated[int, Field(ge=1, le=MAX_FEATURES)]
    gamma: Annotated[float, Field(ge=1e-9, le=1e3)]
    seed: Annotated[int, Field(ge=0, lt=1 << 53)] = 0

    def of(self, inputs: int) -> FeatureMap:
        """The map of so many features."""
        return RandomFourier(inputs, self.count, self.gamma, self.seed)


class PolynomialMap(Strict):
    """The model sees the features and their products of up to `degree`, without any feature twice unless `powers`.

    `sonar.syft.Polynomial` says which, and in which order.
    """

    kind: Literal["polynomial"] = "polynomial"
    degree: Annotated[int, Field(ge=2, le=3)] = 2
    powers: bool = True

    def of(self, inputs: int) -> FeatureMap:
        """The map of so many features."""
        return Polynomial(inputs, self.degree, self.powers)


class BackboneMap(Strict):
    """The model sees what a frozen public network gives: `graph` declares it, `parameters` are its numbers.

    They are safetensors of one tensor of float32, in base64, and public as all of a spec. `sonar.network.Frozen` says
    how it is computed; nobody's code is run.
    """

    kind: Literal["backbone"] = "backbone"
    graph: Graph
    parameters: Annotated[str, Field(max_length=_MAX_PARAMETERS_TEXT)]

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        graph = self.graph
        if graph.work > MAX_FROZEN_WORK:
            raise ValueError(
                f"the backbone takes {graph.work} multiplications a record, above the limit of {MAX_FROZEN_WORK}"
            )
        try:
            data = base64.b64decode(self.parameters, validate=True)
            load_parameters(graph, data)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"the backbone's parameters are not base64: {error}") from error
        except ParameterError as error:
            raise ValueError(str(error)) from error
        return self

    @cached_property
    def _frozen(self) -> Frozen:
        return Frozen(self.graph.features, self.graph, base64.b64decode(self.parameters))

    def of(self, inputs: int) -> FeatureMap:
        """The map of so many features; raises ValueError for another number than the backbone's."""
        if inputs != self.graph.features:
            raise ValueError(
                f"the backbone takes {self.graph.features} numbers, and there are {inputs} features: name one for each"
            )
        return self._frozen


AnyMap = Annotated[IdentityMap | FourierMap | PolynomialMap | BackboneMap, Field(discriminator="kind")]


class Training(Strict):
    """The local training of one round: gradient descent on a quadratic loss of the mine's own data.

    One step is W <- W - rate / L * (H W - C), with L the largest eigenvalue of H. Ridge: H = X'X / N + l2, C = X'Y / N.
    Taylor-logistic: H = X'X / 4N + l2, C = X'(Y - 1/2) / N. A step takes all records, or with `batch_size` so many in
    the data's order, what remains at the end joining the batch before it, and an epoch takes each record once. With
    `class_weights`, one a class, a record of class k counts as so many; only their ratios matter, 100 at most.
    `epochs` of them cost no more than one, or with batches a few products of matrices.
    """

    loss: Literal["ridge", "taylor-logistic"] = "ridge"
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    l2: Annotated[float, Field(ge=0, le=1e3)] = 1e-3
    batch_size: Annotated[int, Field(ge=_MIN_BATCH, le=1_000_000_000)] | None = None
    class_weights: ClassWeights | None = None

    @model_validator(mode="after")
    def _weights_are_close(self) -> Self:
        try:
            check_class_weights(self.class_weights, len(self.class_weights or ()))
        except TrainingError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def schedule(self) -> Schedule:
        """The same as the encrypted arithmetic takes it."""
        return Schedule(
            epochs=self.epochs,
            rate=self.rate,
            l2=self.l2,
            loss=self.loss,
            batch_size=self.batch_size,
            class_weights=self.class_weights,
        )
