"""Records in memory, as the privacy mechanisms read a data set, and a campaign that asks for them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mine.data import Provenance
from mine.privacy.clipping import Clip, IntegerSums
from mine.privacy.sketch import Contents, Sketcher
from sonar.protocol.payloads import design_matrix, scaled_targets
from sonar.protocol.spec import Feature, Payout, Spec
from sonar.units import PPM

__all__ = ["Table", "records_of", "spec_of"]


@dataclass
class Table:
    """Records in memory, as the mechanism reads a data set."""

    values: np.ndarray = field(repr=False)
    labels: list[str] = field(repr=False)
    spec: Spec = field(repr=False)
    dataset: str = "clinic"
    origin: str = "/data/clinic.csv"
    chosen: tuple[str, ...] = ()
    read: int = 0
    during: Callable[[], None] = lambda: None

    @property
    def places(self) -> tuple[str, ...]:
        return (self.origin,)

    def state(self) -> object:
        return self.values.tobytes()

    def contents(self, key: bytes) -> Contents:
        names = sorted(set(self.labels))
        sketcher = Sketcher(key, self.values.shape[1])
        for start in range(0, len(self.values), 100):
            part = slice(start, start + 100)
            sketcher.add(self.values[part], names, np.array([names.index(label) for label in self.labels[part]]))
        return sketcher.finish()

    def sums(self, clip: Clip) -> tuple[IntegerSums, Provenance]:
        self.read += 1
        self.during()
        design = design_matrix(self.spec, self.values[:, : len(self.spec.features)])
        if self.spec.targets:
            targets = scaled_targets(self.spec, self.values[:, -1:])
        else:
            targets = np.eye(len(self.spec.classes))[[int(label) for label in self.labels]]
        count, weights = len(design), self.spec.training.class_weights
        read = Provenance(self.dataset, "csv", self.origin, None, "", (), count, count, (), 0, 0.0)
        return IntegerSums.of([(design, targets)], *self.spec.shape, clip, weights), read


def spec_of(**more: object) -> Spec:
    values = {
        "name": "any", "features": tuple(Feature(name=f"f{i}") for i in range(4)), "classes": ("0", "1"),
        "payout": Payout(target=PPM), "min_records": 50,
    }  # fmt: skip
    return Spec.build(**(values | more))


def records_of(seed: int = 1, count: int = 500) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 4)), [str(label) for label in rng.integers(0, 2, count)]
