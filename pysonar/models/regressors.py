"""Models of numbers that stay encrypted."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from pysonar._inputs import plain_array, target_table
from pysonar.errors import ModelError, ValidationSetError
from pysonar.models.base import Floats, Labels, Model, check_clipped
from pysonar.models.parts import SOLVED, MapOptions, constants, l2_of, names_of, scales
from sonar.protocol.payloads import CLIP, TARGET_BITS
from sonar.protocol.spec import MAX_CLASSES, Target

if TYPE_CHECKING:
    from pysonar.results import TrainedRegressor

__all__ = ["LinearRegressor"]


@dataclass(frozen=True, init=False, eq=False)
class LinearRegressor(Model):
    """A ridge regression of one or more numbers: (y - target_offset) / target_scale = [map(x scaled), 1] W.

    `targets` are the names of what is predicted, columns of the mines' data, or how many there are: one is then
    "target", three are y0, y1, y2. Like features they are scaled by public constants, `target_offset` and
    `target_scale`, in their own units, and clipped to +-16: choose them so that targets are spread over a few units, or
    use `standardised`. The Capsule scores by R2, the mean over targets, as scikit-learn defines it; below 0 it counts
    as 0. `l2`, 0 to 1000, is the ridge of the mean loss (scikit-learn's `alpha` is `l2` times the records). `features`,
    `offset`, `scale`, `feature_map` and `weights`, (mapped features + 1, targets) for scaled targets, are as of
    LinearClassifier.

    Raises ModelError for names that appear twice, wrong shapes, numbers that are not finite and maps that do not work.

    >>> model = LinearRegressor(["rooms", "age"], ["price"], target_offset=200_000, target_scale=80_000)
    >>> model.shape, model.metric
    ((3, 1), 'r2')
    """

    targets: tuple[str, ...]
    target_offset: Floats = field(repr=False)
    target_scale: Floats = field(repr=False)

    kind: ClassVar[str] = "regressor"

    def __init__(
        self,
        features: int | Iterable[str],
        targets: int | Iterable[str] = 1,
        *,
        l2: float = 1e-3,
        offset: Any = None,
        scale: Any = None,
        target_offset: Any = None,
        target_scale: Any = None,
        feature_map: MapOptions = None,
        weights: Any = None,
    ) -> None:
        names = _target_names(targets)
        self._put(
            targets=names,
            target_offset=constants(target_offset, 0.0, names, "target_offset", "targets"),
            target_scale=scales(target_scale, names, "target_scale", "target"),
        )
        self._describe(
            features,
            offset=offset,
            scale=scale,
            feature_map=feature_map,
            metric="r2",
            training={"loss": "ridge", "l2": l2_of(l2), "epochs": SOLVED},
        )
        for name in self.targets:
            if name in self.features:
                raise ModelError(f"{name!r} is a feature and a target: a model must not see what it predicts")
        self._start(weights)

    @classmethod
    def standardised(
        cls,
        features: int | Iterable[str],
        targets: int | Iterable[str] = 1,
        *,
        like: tuple[Any, Any],
        together: bool = False,
        **options: Any,
    ) -> Self:
        """A model whose public constants are the means and standard deviations in `like`, a pair (X, y).

        X is (records, features) and y (records,) or (records, targets). `together` takes one mean and one deviation of
        all features. `options` are the constructor's own. Everybody can read the constants in the spec: take tables
        whose averages may be known. Raises ValidationSetError, ModelError.
        """
        if not isinstance(like, tuple | list) or len(like) != 2:
            raise ValidationSetError("like must be a pair (X, y): features and targets")
        named, scaling = cls._standardising(features, like[0], together=together)
        names = _target_names(targets)
        table = target_table(like[1], names, len(like[0]))
        spread = table.std(axis=0)
        scaling |= {"target_offset": table.mean(axis=0), "target_scale": np.where(spread > 0, spread, 1.0)}
        return cls(named, names, **{**scaling, **options})

    @property
    def outputs(self) -> tuple[str, ...]:
        """The targets."""
        return self.targets

    def spec_outputs(self) -> dict[str, Any]:
        """The fields of a spec that tell of the targets."""
        told = zip(self.targets, self.target_offset.tolist(), self.target_scale.tolist(), strict=True)
        return {"targets": tuple(Target(name=name, offset=offset, scale=scale) for name, offset, scale in told)}

    def labels_of(self, given: Any, records: int) -> Floats:
        """Targets (records, targets) in raw units; raises ValidationSetError."""
        return target_table(given, self.targets, records)

    def check_validation(self, validation: Any) -> tuple[Floats, Labels]:
        """Features (records, features) and targets (records, targets), both in raw units, of a pair (X, y).

        Raises ValidationSetError when they do not fit this model, or when clipping would blind it.
        """
        table, labels = super().check_validation(validation)
        scaled = np.clip((labels - self.target_offset) / self.target_scale, -CLIP, CLIP)
        steps = np.rint(scaled * 2.0**TARGET_BITS)
        constant = (steps == steps[0]).all(axis=0)
        if constant.any():
            raise ValidationSetError(
                f"target {self.targets[int(constant.argmax())]!r} is the same in every validation record once it is "
                "scaled: choose target_offset and target_scale so that it is spread over a few units"
            )
        return table, labels

    def check_scales(self, table: Floats, labels: Labels) -> None:
        """As of Model, and of targets (records, targets) in raw units."""
        super().check_scales(table, labels)
        check_clipped(labels.astype(np.float64), self.target_offset, self.target_scale, self.targets, "target")

    def module(self) -> "TrainedRegressor":
        """The model with its start weights as a torch module that predicts: what a campaign would start from."""
        from pysonar.results import TrainedRegressor

        return TrainedRegressor.of(
            self.features, self.targets, self.offset, self.scale, self.weights, self.feature_map, self.training,
            target_offset=self.target_offset, target_scale=self.target_scale,
        )  # fmt: skip

    @classmethod
    def _outputs_of_result(cls, result: Any) -> dict[str, Any]:
        if not hasattr(result, "targets"):
            raise ModelError(f"the result predicts classes, and a {cls.__name__} numbers: describe a LinearClassifier")
        return {
            "targets": result.targets,
            "target_offset": plain_array(result.target_offset),
            "target_scale": plain_array(result.target_scale),
        }

    @classmethod
    def _outputs_of_estimator(cls, classes: tuple[str, ...] | None, targets: int) -> dict[str, Any]:
        if classes is not None:
            raise ModelError(
                f"the estimator predicts {len(classes)} classes, and a {cls.__name__} predicts numbers: start a "
                "pysonar.LinearClassifier from it"
            )
        return {"targets": targets}

    def _told_outputs(self) -> str:
        return f"{len(self.targets)} target" + ("s" if len(self.targets) > 1 else "")


def _target_names(given: int | Iterable[str]) -> tuple[str, ...]:
    return ("target",) if isinstance(given, int) and given == 1 else names_of(given, "y", "targets", 1, MAX_CLASSES)
