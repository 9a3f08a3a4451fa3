"""A schedule of local training: what is public about it, and the two passes that make its map.

    a mine's records --Schedule.gather--> Statistics or Epoch --Schedule.training_map--> AffineMap

The first pass reads the records once and is worth keeping: it depends on little of the schedule (`pass_key`).
"""

from dataclasses import dataclass

from sonar.syft._blas import small_matrices
from sonar.syft.engines.base import Progress
from sonar.syft.epoch import Epoch, EpochBuilder
from sonar.syft.errors import TrainingError
from sonar.syft.statistics import Batches, Statistics, check_class_weights, fold
from sonar.syft.training import AffineMap, Loss, check_schedule, training_map

__all__ = ["Gathered", "Schedule"]

Gathered = Statistics | Epoch
"""What one pass over the records leaves; both know how many `records` there were and as how many they count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """`epochs` of gradient descent with steps `rate` / L, 0 < rate <= 1, on a loss with ridge `l2` >= 0.

    Full batch unless `batch_size` (records, in the data's order) is given; what remains at the end joins the batch
    before it, so that none is smaller unless all records are fewer. `class_weights` are public constants above 0, one a
    class and none above 100 times another, by which records count; only their ratios matter. Raises TrainingError for
    anything else.
    """

    epochs: int
    rate: float
    l2: float
    loss: Loss = "ridge"
    batch_size: int | None = None
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_schedule(self.epochs, self.rate, self.l2, self.loss)
        if self.batch_size is not None and self.batch_size < 1:
            raise TrainingError(f"a batch size of {self.batch_size} takes no record: give at least 1")
        if self.class_weights is not None:
            check_class_weights(self.class_weights, len(self.class_weights))

    @property
    def pass_key(self) -> tuple[object, ...]:
        """What `gather` depends on: schedules with the same key may share what was gathered from the same records."""
        if self.batch_size is None:
            return (self.class_weights,)
        return self.class_weights, self.batch_size, self.rate, self.l2, self.loss

    def gather(
        self,
        batches: Batches,
        features: int,
        outputs: int,
        *,
        total: int | None = None,
        progress: Progress | None = None,
    ) -> Gathered:
        """One pass over the records, in batches of any size, in memory O(features^2); `features` counts the bias.

        The last column of every design must be a constant 1. `progress` needs the `total` of records and is told the
        part that is done. Raises TrainingError for shapes that do not fit, values that are not finite and, for
        mini-batches, records that teach nothing.
        """
        if self.batch_size is None:
            return Statistics.of(
                batches, features, outputs, class_weights=self.class_weights, total=total, progress=progress
            )
        builder = EpochBuilder(
            features,
            outputs,
            batch_size=self.batch_size,
            rate=self.rate,
            l2=self.l2,
            loss=self.loss,
            class_weights=self.class_weights,
        )
        with small_matrices(features):
            return fold(builder, batches, total=total, progress=progress).finish()

    def training_map(self, gathered: Gathered, *, progress: Progress | None = None) -> AffineMap:
        """The affine map of the whole schedule on the records that this schedule, or one of its key, has gathered.

        `progress` is told of powers of mini-batch epochs; the full batch is one decomposition of a matrix (1.4 s with
        2048 features), which tells nothing until it is done.

        Raises TrainingError for what another kind of schedule has gathered, no records, and a map that leaves float64
        or expands.
        """
        if isinstance(gathered, Epoch) != (self.batch_size is not None):
            kind = "an Epoch" if isinstance(gathered, Epoch) else "Statistics"
            raise TrainingError(f"a schedule of batch size {self.batch_size} cannot use {kind}: gather with it")
        if isinstance(gathered, Epoch):
            with small_matrices(len(gathered.augmented)):
                return gathered.training_map(self.epochs, progress=progress)
        if gathered.class_weights != self.class_weights:
            raise TrainingError(
                f"the statistics have class weights {gathered.class_weights}, the schedule {self.class_weights}: "
                "gather with it"
            )
        return training_map(gathered, epochs=self.epochs, rate=self.rate, l2=self.l2, loss=self.loss)
