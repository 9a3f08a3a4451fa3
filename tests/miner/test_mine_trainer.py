"""From a model and gathered records to a gradient: what is compared before, and what nobody can tell after."""

from dataclasses import replace

import numpy as np
import pytest

from capsule.secret import decrypt, generate_key
from mine.errors import PolicyError
from mine.trainer import train
from sonar.protocol.spec import Encoding, Feature, Payout, Spec
from sonar.syft import Obfuscator, Statistics, TrainingError, dump_model, encrypt, load_gradient

SECRET = generate_key(1024, allow_insecure_small_key=True)
SPEC = Spec.build(
    name="three", features=tuple(Feature(name=f"x{i}") for i in range(3)), classes=("a", "b"),
    payout=Payout(target=900_000),
)  # fmt: skip


def _model(spec: Spec, **changes) -> bytes:
    encoding = spec.encoding
    says = {
        "slot_width": encoding.slot_width, "scale": encoding.weight_bits, "bound": encoding.weight_bound,
        "stride": encoding.stride(SECRET.public, spec.shape[1]), **changes,
    }  # fmt: skip
    return dump_model(encrypt(np.zeros(spec.shape, np.int64), SECRET.public, Obfuscator(SECRET.public), **says))


def _gathered(spec: Spec, scale: float = 1.0) -> Statistics:
    rng = np.random.default_rng(1)
    design = np.hstack([rng.normal(size=(50, 3)), np.ones((50, 1))])
    return Statistics.empty(*spec.shape).add_batch(design, scale * rng.normal(size=(50, 2)))


def _train(spec: Spec, model: bytes, gathered: Statistics) -> np.ndarray:
    gradient = train(spec, model, SECRET.public.key_id, gathered, allow_insecure_small_key=True)
    tensor = load_gradient(gradient.payload, SECRET.public)
    assert tensor.bound == spec.encoding.gradient_bound
    return decrypt(SECRET, tensor) / 2.0**spec.encoding.gradient_scale


def test_a_gradient_is_the_schedules_map_of_the_model():
    gathered = _gathered(SPEC)
    expected = SPEC.training.schedule.training_map(gathered).constant
    np.testing.assert_allclose(_train(SPEC, _model(SPEC), gathered).astype(float), expected, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "value"), [("slot_width", 71), ("stride", 2), ("scale", 23), ("bound", (1 << 30) - 2)]
)
def test_a_model_that_is_not_what_the_spec_says_is_not_trained(name, value):
    with pytest.raises(PolicyError, match=f"its model has {name} {value}"):
        train(SPEC, _model(SPEC, **{name: value}), SECRET.public.key_id, _gathered(SPEC), allow_insecure_small_key=True)


def test_whether_a_mine_posts_does_not_depend_on_its_records():
    """Targets a thousand times larger than any class would push the gradient out of its bound: it is clipped."""
    tight = SPEC.model_copy(update={"encoding": Encoding(gradient_bound_bits=8)})
    largest = tight.encoding.gradient_bound / 2.0**tight.encoding.gradient_scale
    wild = _gathered(tight, 1e4)
    constant = tight.training.schedule.training_map(wild).constant
    assert np.abs(constant).max() > largest
    found = _train(tight, _model(tight), wild).astype(float)
    assert np.abs(found).max() <= largest
    assert (np.sign(found) == np.sign(constant)).all()
    small = np.abs(constant) < 100
    np.testing.assert_allclose(found[small], constant[small], atol=1e-9)


def test_a_bound_that_cannot_hold_every_map_is_refused_by_the_spec_alone():
    tight = SPEC.model_copy(update={"encoding": Encoding(gradient_bound_bits=6)})
    for gathered in (_gathered(tight), _gathered(tight, 0.0), _gathered(tight, 1e4)):
        with pytest.raises(TrainingError, match="cannot hold every map of 4 features on weights up to 64"):
            train(tight, _model(tight), SECRET.public.key_id, gathered, allow_insecure_small_key=True)


@pytest.mark.parametrize("norm", [1.0, 2.0])
@pytest.mark.parametrize("features", [1, 2, 65, 2048])
def test_the_room_left_by_clipping_is_enough_for_the_worst_map(norm, features):
    """The worst row of a matrix of norm 1: all entries alike. Everything rounds up, weights are at their bound."""
    encoding = Encoding.for_rows(features)
    affine = SPEC.training.schedule.training_map(_gathered(SPEC))
    row = np.full((1, features), norm / np.sqrt(features))
    worst = replace(
        affine, change=np.repeat(row, features, axis=0), constant=np.full((features, 1), 1e9), norm=norm
    ).within(
        encoding.gradient_bound / 2.0**encoding.gradient_scale,
        weight_bound=encoding.weight_bound / 2.0**encoding.weight_bits,
        rounding=2.0**-encoding.map_bits,
    )  # fmt: skip
    entry = int(np.ceil(row[0, 0] * 2**encoding.map_bits)) << encoding.factor_bits
    total = features * entry * encoding.weight_bound + int(np.ceil(worst.constant[0, 0] * 2.0**encoding.gradient_scale))
    assert total <= encoding.gradient_bound
