"""The campaign spec: everything public about a campaign that a mine must know before it trains.

Canonical JSON, committed to on chain by its SHA-256. It repeats the terms that the contract enforces, so a mine that
compares both knows that what it was promised is what will be paid.
"""

from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sonar import canonical
from sonar.chain.records import NATIVE, PayoutBase, Terms
from sonar.protocol.errors import SpecError
from sonar.syft import (
    FeatureMap,
    Identity,
    Layout,
    Polynomial,
    PublicKey,
    RandomFourier,
    Schedule,
    TrainingError,
    rows_that_fit,
)
from sonar.syft.statistics import check_class_weights
from sonar.syft.wire import MAX_STRIDE
from sonar.units import PPM, Address, Ppm, Wei
from sonar.wording import told

__all__ = [
    "MAX_SPEC_BYTES", "METRICS", "AnyMap", "Encoding", "Feature", "FourierMap", "IdentityMap", "MetricName", "Payout",
    "PolynomialMap", "Rounds", "Spec", "Target", "Training",
]  # fmt: skip

MAX_SPEC_BYTES = 1_000_000
MAX_FEATURES = 2047
"""What a feature map may give. With the bias 2048 rows: the judge's integer scores then fit 63 bits."""
MAX_CLASSES = 256
MetricName = Literal["accuracy", "balanced_accuracy", "macro_f1", "auc", "r2"]
METRICS: tuple[MetricName, ...] = get_args(MetricName)
"""What a model can be scored by, as scikit-learn defines them; `capsule.judge.metrics` says how, to the last bit."""
MIN_BATCH = 16
"""Every batch costs a mine a step on the whole map: smaller ones would let a spec waste its time."""
_STEPS = 4
"""The judge tries a quarter of the kept gradients' mean too, and each one's part of that must not round to nothing."""
_ROWS_PER_RECORD = 8
"""A batch has at least a record for so many rows of weights, for the same reason."""


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip() or not text:
        raise ValueError(f"{text!r} must be printable, without white space at its ends, and not empty")
    return text


ClassWeight = Annotated[float, Field(ge=1e-3, le=1e3)]
# A list will do, as a notebook writes it.
ClassWeights = Annotated[tuple[ClassWeight, ...], Field(min_length=2, max_length=MAX_CLASSES, strict=False)]
Name = Annotated[str, Field(max_length=200), AfterValidator(_printable)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Feature(_Strict):
    """One input column. The model sees clip((value - offset) / scale) with public constants, the same for all."""

    name: Name
    offset: float = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0


class Target(_Strict):
    """One number to predict. The model is trained and scored on clip((value - offset) / scale)."""

    name: Name
    offset: float = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0


class IdentityMap(_Strict):
    """The model sees the scaled features themselves."""

    kind: Literal["identity"] = "identity"

    def of(self, inputs: int) -> FeatureMap:
        """The map of so many features."""
        return Identity(inputs)


class FourierMap(_Strict):
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


class PolynomialMap(_Strict):
    """The model sees the features and their products of up to `degree`, without any feature twice unless `powers`.

    `sonar.syft.Polynomial` says which, and in which order.
    """

    kind: Literal["polynomial"] = "polynomial"
    degree: Annotated[int, Field(ge=2, le=3)] = 2
    powers: bool = True

    def of(self, inputs: int) -> FeatureMap:
        """The map of so many features."""
        return Polynomial(inputs, self.degree, self.powers)


AnyMap = Annotated[IdentityMap | FourierMap | PolynomialMap, Field(discriminator="kind")]


class Training(_Strict):
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
    batch_size: Annotated[int, Field(ge=MIN_BATCH, le=1_000_000_000)] | None = None
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


_LARGE_ROWS = 192
"""From here on a map of low rank is so much cheaper than a square one that room for it is worth wider slots."""


class Encoding(_Strict):
    """The fixed-point scales and slot sizes of weights, training map and gradient, in bits; all public.

    Weights are integers at scale 2^weight_bits and below 2^weight_bound_bits in magnitude, the training map has scale
    2^map_bits, a gradient 2^(weight_bits + map_bits + factor_bits) with magnitude below 2^gradient_bound_bits, and a
    settlement's weights a_i sum to at most 2^step_bits. `factor_bits` let a mine whose map is nearly of low rank train
    through two thin factors (`sonar.syft.plan`). The widest slot holds every choice of the others; wider ones would
    only make everybody's work and artifacts larger. Up to `stacked_rows` rows of a gradient share a ciphertext where
    its slots allow it; with 1 none do.
    """

    slot_width: Annotated[int, Field(ge=16, le=128)] = 72
    weight_bits: Annotated[int, Field(ge=8, le=32)] = 24
    map_bits: Annotated[int, Field(ge=8, le=24)] = 15
    factor_bits: Annotated[int, Field(ge=0, le=24)] = 0
    step_bits: Annotated[int, Field(ge=0, le=16)] = 10
    weight_bound_bits: Annotated[int, Field(ge=0, le=8)] = 6
    gradient_bound_bits: Annotated[int, Field(ge=0, le=24)] = 14
    stacked_rows: Annotated[int, Field(ge=1, le=MAX_STRIDE)] = MAX_STRIDE

    @property
    def weight_bound(self) -> int:
        """The largest magnitude of an encoded weight, at scale 2^weight_bits."""
        return (1 << (self.weight_bits + self.weight_bound_bits)) - 1

    @property
    def gradient_scale(self) -> int:
        """The fractional bits of an encoded gradient."""
        return self.weight_bits + self.gradient_shift

    @property
    def gradient_shift(self) -> int:
        """How many fractional bits a gradient has more than the weights."""
        return self.map_bits + self.factor_bits

    @classmethod
    def for_rows(cls, rows: int) -> Self:
        """What suits a model of so many rows: large ones get the room that thin factors need."""
        return cls(factor_bits=14, slot_width=80) if rows >= _LARGE_ROWS else cls()

    @property
    def gradient_bound(self) -> int:
        """The largest magnitude of an encoded gradient element, at scale 2^gradient_scale."""
        return (1 << (self.gradient_scale + self.gradient_bound_bits)) - 1

    def stride(self, key: PublicKey, outputs: int) -> int:
        """How many slots apart the outputs of a row lie under this key, which is how many rows of a gradient stack."""
        return min(self.stacked_rows, rows_that_fit(key.bits, self.slot_width, outputs))

    def gradient_layout(self, key: PublicKey, outputs: int) -> Layout:
        """How the rows of a gradient, and of a round's product, go into the plaintexts of this key.

        Raises EncodingOverflowError for a key that not even one slot fits.
        """
        stride = self.stride(key, outputs)
        return Layout(key.bits, self.slot_width, outputs, stride, rows_per_plaintext=stride)

    @model_validator(mode="after")
    def _slots_hold_a_round(self) -> Self:
        need = self.gradient_scale + self.step_bits + max(self.weight_bound_bits, self.gradient_bound_bits) + 2
        if self.slot_width < need:
            raise ValueError(f"slot_width {self.slot_width} is too small: one round of these scales needs {need} bits")
        if self.weight_bits + self.weight_bound_bits > 36:
            raise ValueError("weight_bits + weight_bound_bits must not pass 36, or the judge's integers overflow")
        return self


class Rounds(_Strict):
    """How gradients are taken and judged together; the contract enforces all but `noise`, the judge all."""

    round_size: Annotated[int, Field(ge=1, le=64)] = 8
    round_seconds: Annotated[int, Field(ge=1, le=30 * 86400)] = 300
    settlement_seconds: Annotated[int, Field(ge=600, le=365 * 86400)] = 86400
    max_rounds: Annotated[int, Field(ge=1, le=65535)] = 20
    min_mines: Annotated[int, Field(ge=1, le=64)] = 2
    min_gain: Annotated[int, Field(ge=1, le=PPM)] = 1_000
    noise: Annotated[float, Field(ge=0, le=10)] = 2.0
    """Credit starts above this many standard errors of a gradient's value on the validation set."""

    @model_validator(mode="after")
    def _size_covers_mines(self) -> Self:
        if self.min_mines > self.round_size:
            raise ValueError(
                f"min_mines {self.min_mines} is above round_size {self.round_size}: no round could advance"
            )
        return self


class Payout(_Strict):
    """What the bounty is paid for: ppm of score; bond in wei."""

    target: Annotated[int, Field(ge=1, le=PPM)]
    base: Literal["target", "gain"] = "target"
    bond: Annotated[int, Field(ge=0, lt=1 << 96)] = 10**15
    slash: Annotated[int, Field(ge=0, le=PPM)] = 100_000


class Spec(_Strict):
    """A campaign's public description. `parse` reads untrusted bytes, `to_bytes` writes the canonical ones.

    A classifier has two or more `classes`, named in the mines' `target_column`; a regression, scored by R2, has one or
    more `targets` instead, columns of their own.
    """

    format: Literal[1] = 1
    name: Name
    description: Annotated[str, Field(max_length=10_000)] = ""
    mode: Literal["encrypted-linear"] = "encrypted-linear"
    metric: MetricName = "accuracy"
    target_column: Name = "target"
    features: Annotated[tuple[Feature, ...], Field(min_length=1, max_length=MAX_FEATURES)]
    classes: Annotated[tuple[Name, ...], Field(max_length=MAX_CLASSES)] = ()
    targets: Annotated[tuple[Target, ...], Field(max_length=MAX_CLASSES)] = ()
    feature_map: AnyMap = IdentityMap()
    min_records: Annotated[int, Field(ge=2, le=10**12)] = 100
    training: Training = Training()
    encoding: Encoding = Encoding()
    rounds: Rounds = Rounds()
    payout: Payout

    @model_validator(mode="after")
    def _outputs_suit_the_metric(self) -> Self:
        if self.metric == "r2":
            if self.classes or not self.targets:
                raise ValueError("the metric r2 scores numbers: name at least one of targets, and no classes")
        elif self.targets or len(self.classes) < 2:
            raise ValueError(f"the metric {self.metric} scores classes: name at least two classes, and no targets")
        if self.targets and (self.training.loss != "ridge" or self.training.class_weights is not None):
            raise ValueError("targets are trained by the loss ridge, without class_weights")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        features, targets = [feature.name for feature in self.features], [target.name for target in self.targets]
        for what, names in (("feature", features), ("class", list(self.classes)), ("target", targets)):
            seen: set[str] = set()
            for name in names:
                if name in seen:
                    raise ValueError(f"{what} {name!r} appears twice")
                seen.add(name)
        for name in targets or [self.target_column]:
            if name in features:
                raise ValueError(f"target column {name!r} is also a feature")
        return self

    @model_validator(mode="after")
    def _maps_and_weights_fit(self) -> Self:
        if self.mapping.outputs > MAX_FEATURES:
            raise ValueError(
                f"the {self.feature_map.kind} map of {len(self.features)} features gives {self.mapping.outputs}, above "
                f"the limit of {MAX_FEATURES}"
            )
        rows, batch_size = self.mapping.outputs + 1, self.training.batch_size
        if batch_size is not None and _ROWS_PER_RECORD * batch_size < rows:
            raise ValueError(
                f"a batch_size of {batch_size} is less than an eighth of the {rows} rows of weights: every batch costs "
                f"a step on all of them, so give at least {-(-rows // _ROWS_PER_RECORD)}"
            )
        weights = self.training.class_weights
        if weights is not None and len(weights) != len(self.classes):
            raise ValueError(f"there are {len(weights)} class_weights for {len(self.classes)} classes")
        return self

    @model_validator(mode="after")
    def _steps_suit_the_round(self) -> Self:
        least = (_STEPS * self.rounds.round_size - 1).bit_length()
        if self.encoding.step_bits < least:
            raise ValueError(
                f"step_bits {self.encoding.step_bits} are too few for a round_size of {self.rounds.round_size}: a "
                f"quarter of every gradient's part of the mean needs {least}"
            )
        return self

    @property
    def mapping(self) -> FeatureMap:
        """What the scaled features become before the model sees them."""
        return self.feature_map.of(len(self.features))

    @property
    def shape(self) -> tuple[int, int]:
        """The weights' shape: (mapped features + 1 for the bias, classes or targets)."""
        return self.mapping.outputs + 1, len(self.classes or self.targets)

    def to_bytes(self) -> bytes:
        """The canonical bytes, whose SHA-256 is committed to on chain."""
        return canonical.dumps(self.model_dump(mode="json"))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The spec in untrusted bytes; raises SpecError for anything but the canonical bytes of a valid spec."""
        if len(data) > MAX_SPEC_BYTES:
            raise SpecError(f"a spec of {len(data)} bytes is above the limit of {MAX_SPEC_BYTES}")
        try:
            canonical.loads(data)
            spec = cls.model_validate_json(data)
        except ValidationError as error:
            raise SpecError(f"the campaign spec is not valid: {_first(error)}") from error
        except ValueError as error:
            raise SpecError(f"the campaign spec cannot be read: {error}") from error
        if spec.to_bytes() != data:
            raise SpecError("the campaign spec is not in canonical form: every field written out, none in another type")
        return spec

    @classmethod
    def build(cls, **values: object) -> Self:
        """A spec from Python values; raises SpecError that names the first field in error."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SpecError(f"the campaign spec is not valid: {_first(error)}") from error

    def terms(self, *, bounty: Wei, deadline: int, token: Address = NATIVE) -> Terms:
        """The on-chain terms that this spec promises, for a bounty and a deadline (Unix seconds)."""
        return Terms(
            token=token,
            bounty=bounty,
            bond=Wei(self.payout.bond),
            slash=Ppm(self.payout.slash),
            target=Ppm(self.payout.target),
            payout_base=PayoutBase.GAIN if self.payout.base == "gain" else PayoutBase.TARGET,
            min_gain=Ppm(self.rounds.min_gain),
            min_mines=self.rounds.min_mines,
            round_size=self.rounds.round_size,
            max_rounds=self.rounds.max_rounds,
            round_seconds=self.rounds.round_seconds,
            settlement_seconds=self.rounds.settlement_seconds,
            deadline=deadline,
        )

    def check_terms(self, terms: Terms) -> None:
        """Raises SpecError unless the contract's terms are the ones that this spec promises."""
        promised = self.terms(bounty=terms.bounty, deadline=terms.deadline, token=terms.token)
        for field in Terms.__dataclass_fields__:
            says, holds = getattr(promised, field), getattr(terms, field)
            if says != holds:
                raise SpecError(f"the spec promises {field} = {says}, but the contract holds {holds}: do not take part")


def _first(error: ValidationError) -> str:
    value = repr(error.errors(include_url=False)[0].get("input"))
    return f"{told(error, 'spec')} (got {value if len(value) <= 80 else value[:77] + '...'})"
