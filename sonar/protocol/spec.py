"""The campaign spec: everything public about a campaign that a mine must know before it trains.

Canonical JSON, committed to on chain by its SHA-256. It repeats the terms that the contract enforces, so a mine that
compares both knows that what it was promised is what will be paid.
"""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator

from sonar import canonical
from sonar.chain.records import NATIVE, PayoutBase, Terms
from sonar.protocol._strict import Strict
from sonar.protocol.encoding import Encoding
from sonar.protocol.errors import SpecError
from sonar.protocol.inputs import Feature, ImageSize, Name, Remark, Target
from sonar.protocol.networks import NetworkTerms
from sonar.protocol.training import (
    MAX_CLASSES,
    MAX_FEATURES,
    AnyMap,
    FourierMap,
    IdentityMap,
    PolynomialMap,
    Training,
)
from sonar.syft import FeatureMap
from sonar.units import PPM, Address, Ppm, Wei
from sonar.wording import told

__all__ = [
    "MAX_CLASSES", "MAX_FEATURES", "MAX_SPEC_BYTES", "METRICS", "MODES", "AnyMap", "Attribution", "Encoding", "Feature",
    "FourierMap", "IdentityMap", "ImageSize", "MetricName", "Mode", "NetworkTerms", "Payout", "PolynomialMap", "Rounds",
    "Spec", "Target", "Training",
]  # fmt: skip

MAX_SPEC_BYTES = 1_000_000
MetricName = Literal["accuracy", "balanced_accuracy", "macro_f1", "auc", "r2"]
METRICS: tuple[MetricName, ...] = get_args(MetricName)
"""What a model can be scored by, as scikit-learn defines them; `capsule.judge.metrics` says how, to the last bit."""
Mode = Literal["encrypted-linear", "network"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""How a campaign's model is trained: without being seen by a mine, or in the clear by those that the terms admit."""
Attribution = Literal["validation", "open"]
"""What the owner learns of mines' parts in the model: their shares of what it predicts, or the parts themselves."""
_STEPS = 4
"""The judge tries a quarter of the kept gradients' mean too, and each one's part of that must not round to nothing."""
_LEAST_MAP_BITS = 8
_OF_MODE = {"encrypted-linear": {"network"}, "network": {"feature_map", "training", "attribution"}}
"""What is not written in a spec of a mode: it says nothing there."""
_ROWS_PER_RECORD = 8
"""A batch has at least a record for so many rows of weights: it costs a mine a step on all of them."""


class Rounds(Strict):
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


class Payout(Strict):
    """What the bounty is paid for: ppm of score; bond in wei."""

    target: Annotated[int, Field(ge=1, le=PPM)]
    base: Literal["target", "gain"] = "target"
    bond: Annotated[int, Field(ge=0, lt=1 << 96)] = 10**15
    slash: Annotated[int, Field(ge=0, le=PPM)] = 100_000


class Spec(Strict):
    """A campaign's public description. `parse` reads untrusted bytes, `to_bytes` writes the canonical ones.

    A classifier has two or more `classes`, named in the mines' `target_column`; a regression, scored by R2, has one or
    more `targets` instead, columns of their own. With `image` the features are an image's pixels. `purpose` and
    `licence` tell data owners what the model is for and under which terms it may be used; policies may ask for it.

    In the mode `encrypted-linear` no mine ever reads the model. In the mode `network` every mine that the terms admit
    does, and only what it posts is encrypted: `network` then takes the place of `feature_map` and `training`.

    With `attribution` open the owner is given what each mine added to the model's weights, once the campaign is over.
    It is written where it is open alone.
    """

    format: Literal[1] = 1
    name: Name
    description: Annotated[str, Field(max_length=10_000)] = ""
    purpose: Remark = ""
    licence: Remark = ""
    mode: Mode = "encrypted-linear"
    metric: MetricName = "accuracy"
    target_column: Name = "target"
    features: Annotated[tuple[Feature, ...], Field(min_length=1, max_length=MAX_FEATURES)]
    image: ImageSize | None = None
    classes: Annotated[tuple[Name, ...], Field(max_length=MAX_CLASSES)] = ()
    targets: Annotated[tuple[Target, ...], Field(max_length=MAX_CLASSES)] = ()
    feature_map: AnyMap = IdentityMap()
    min_records: Annotated[int, Field(ge=2, le=10**12)] = 100
    training: Training = Training()
    encoding: Encoding = Encoding()
    rounds: Rounds = Rounds()
    network: NetworkTerms | None = None
    attribution: Attribution = "validation"
    payout: Payout

    @model_validator(mode="after")
    def _mode_has_its_parts(self) -> Self:
        network = self.network
        if (self.mode == "network") != (network is not None):
            raise ValueError(f"mode {self.mode!r} and {'no' if network is None else 'a'} network contradict each other")
        if network is None:
            if self.encoding.map_bits < _LEAST_MAP_BITS:
                raise ValueError(
                    f"map_bits {self.encoding.map_bits} are too few for a map: give {_LEAST_MAP_BITS} to 24"
                )
            return self
        graph, encoding = network.graph, self.encoding
        if self.attribution != "validation":
            raise ValueError("a network's predictions do not split by mines: leave attribution out")
        if self.feature_map != IdentityMap() or self.training != Training():
            raise ValueError("a network has a training of its own and no feature map: leave both out")
        if (graph.features, graph.outputs) != (len(self.features), len(self.classes or self.targets)):
            raise ValueError(
                f"the network takes {graph.features} numbers and gives {graph.outputs}, but there are "
                f"{len(self.features)} features and {len(self.classes or self.targets)} classes or targets"
            )
        if (network.training.loss == "mse") != bool(self.targets):
            raise ValueError("a network learns classes by the loss cross_entropy and targets by mse")
        if encoding.gradient_shift:
            raise ValueError("a network's gradients have the scale of its weights: give map_bits and factor_bits of 0")
        if not network.accounts and not self.payout.bond:
            raise ValueError(
                "with neither bond nor accounts everybody is given the weights: ask for a bond, or name the accounts"
            )
        network.check_sizes(self.rounds.round_size, self.shape[0], encoding.slot_width)
        return self

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
    def _image_has_the_features(self) -> Self:
        if self.image is not None and self.image.features != len(self.features):
            size = self.image
            raise ValueError(
                f"an image of {size.width} x {size.height} with {size.channels} channels has {size.features} features, "
                f"but {len(self.features)} are named: name one for each pixel and channel"
            )
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
            raise ValueError(
                f"there are {len(weights)} class_weights for {len(self.classes)} classes: give one for each"
            )
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
    def outputs(self) -> int:
        """How many classes or targets there are."""
        return len(self.classes or self.targets)

    @property
    def shape(self) -> tuple[int, int]:
        """The weights' shape: (mapped features + 1 for the bias, classes or targets), of a network its rows."""
        if self.network is not None:
            return self.network.shape(self.encoding.slot_width)
        return self.mapping.outputs + 1, self.outputs

    def to_bytes(self) -> bytes:
        """The canonical bytes, whose SHA-256 is committed to on chain."""
        usual = {"attribution"} if self.attribution == "validation" else set()
        return canonical.dumps(self.model_dump(mode="json", exclude=_OF_MODE[self.mode] | usual))

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
    given = error.errors(include_url=False)[0].get("input")
    value = repr(given)
    # Of a whole table nobody would find the place in it.
    shown = "" if isinstance(given, dict) else f" (got {value if len(value) <= 80 else value[:77] + '...'})"
    return told(error, "spec") + shown
