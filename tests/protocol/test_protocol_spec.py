"""The campaign spec: canonical bytes, strict reading, terms that match the contract's."""

import json
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sonar import canonical
from sonar.protocol.errors import SpecError
from sonar.protocol.spec import MAX_SPEC_BYTES, Encoding, Feature, Payout, Rounds, Spec
from sonar.syft import Layout, PublicKey, Schedule
from sonar.units import Wei


def make_spec(**changes: object) -> Spec:
    values = {
        "name": "digits",
        "features": (Feature(name="a", scale=16.0), Feature(name="b", offset=-1.5)),
        "classes": ("no", "yes"),
        "payout": Payout(target=900_000),
    }
    return Spec.build(**{**values, **changes})


def test_a_spec_survives_its_own_bytes():
    spec = make_spec()
    assert Spec.parse(spec.to_bytes()) == spec


REGRESSION = {"metric": "r2", "classes": (), "targets": ({"name": "price", "offset": 50.0, "scale": 20.0},)}


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "auc"])
def test_a_classifier_may_be_scored_by_any_metric_of_classes(metric):
    spec = make_spec(metric=metric)
    assert Spec.parse(spec.to_bytes()) == spec
    assert spec.metric == metric


def test_a_regression_has_targets_instead_of_classes():
    spec = make_spec(**REGRESSION)
    assert Spec.parse(spec.to_bytes()) == spec
    assert spec.shape == (3, 1)
    assert json.loads(spec.to_bytes())["targets"] == [{"name": "price", "offset": 50.0, "scale": 20.0}]


MAPS = [
    {"kind": "identity"},
    {"kind": "fourier", "count": 300, "gamma": 0.25, "seed": 2**53 - 1},
    {"kind": "polynomial", "degree": 3, "powers": False},
]


@pytest.mark.parametrize("feature_map", MAPS, ids=lambda values: values["kind"])
def test_every_feature_map_survives_in_bytes_and_is_the_same_map(feature_map):
    spec = make_spec(feature_map=feature_map)
    again = Spec.parse(spec.to_bytes())
    assert again == spec
    assert again.mapping == spec.mapping
    assert json.loads(spec.to_bytes())["feature_map"] == feature_map


@pytest.mark.parametrize(("feature_map", "rows"), list(zip(MAPS, [3, 301, 4], strict=True)))
def test_the_shape_counts_mapped_features_and_the_bias(feature_map, rows):
    assert make_spec(feature_map=feature_map).shape == (rows, 2)


def test_training_options_survive_in_bytes_and_make_the_same_schedule():
    training = {"loss": "taylor-logistic", "epochs": 7, "rate": 0.5, "l2": 0.25, "batch_size": 32,
                "class_weights": (1.0, 2.5)}  # fmt: skip
    spec = make_spec(training=training)
    assert Spec.parse(spec.to_bytes()) == spec
    assert spec.training.schedule == Schedule(**training)
    assert make_spec(training={**training, "class_weights": [1, 2.5]}) == spec
    plain = make_spec().training.schedule
    assert plain == Schedule(epochs=100, rate=1.0, l2=1e-3)


def test_what_a_spec_says_of_its_inputs_survives_in_bytes():
    features = tuple(Feature(name=f"p{at}", type="integer", unit="grey", minimum=0.0, maximum=255.0) for at in range(6))
    spec = make_spec(features=features, image={"width": 3, "height": 2}, purpose="sorting post", licence="CC-BY-NC-4.0")
    again = Spec.parse(spec.to_bytes())
    assert again == spec
    assert again.image.features == 6
    plain = json.loads(make_spec().to_bytes())
    assert (plain["purpose"], plain["licence"], plain["image"]) == ("", "", None)
    assert plain["features"][0] == {
        "maximum": None, "minimum": None, "name": "a", "offset": 0.0, "scale": 16.0, "type": "number", "unit": "",
    }  # fmt: skip


@pytest.mark.parametrize(("count", "batch_size"), [(127, 16), (511, 64), (512, 65), (2047, 256)])
def test_a_batch_of_an_eighth_of_the_rows_will_do(count, batch_size):
    feature_map = {"kind": "fourier", "count": count, "gamma": 1.0}
    assert make_spec(feature_map=feature_map, training={"batch_size": batch_size}).training.batch_size == batch_size


@pytest.mark.parametrize("spelled", ["3.0", "true", '"3"'])
def test_a_number_of_another_type_is_no_degree(spelled):
    data = make_spec(feature_map={"kind": "polynomial", "degree": 3}).to_bytes()
    with pytest.raises(SpecError):
        Spec.parse(data.replace(b'"degree":3', b'"degree":' + spelled.encode()))


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(min_value=1e-300, max_value=1e300))
def test_every_finite_constant_survives_exactly(offset, scale):
    spec = make_spec(features=(Feature(name="a", offset=offset, scale=scale),))
    assert Spec.parse(spec.to_bytes()).features == spec.features


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_spec_error(data):
    with pytest.raises(SpecError):
        Spec.parse(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_no_json_value_raises_anything_but_a_spec_error(value):
    with pytest.raises(SpecError):
        Spec.parse(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("no", "no")}, "class 'no' appears twice"),
        ({"classes": ("no",)}, "the metric accuracy scores classes: name at least two classes, and no targets"),
        ({"classes": ()}, "name at least two classes"),
        ({"targets": ({"name": "price"},)}, "the metric accuracy scores classes: .* no targets"),
        ({"metric": "r2"}, "the metric r2 scores numbers: name at least one of targets, and no classes"),
        ({"metric": "r2", "classes": ()}, "name at least one of targets"),
        ({"metric": "recall"}, r"'auc' or 'r2' \(got 'recall'\)"),
        ({**REGRESSION, "targets": ({"name": "a"},)}, "target column 'a' is also a feature"),
        ({**REGRESSION, "targets": ({"name": "p"}, {"name": "p"})}, "target 'p' appears twice"),
        ({**REGRESSION, "targets": ({"name": "p", "scale": 0.0},)}, r"\(got 0.0\)"),
        ({**REGRESSION, "training": {"loss": "taylor-logistic"}}, "targets are trained by the loss ridge"),
        ({**REGRESSION, "training": {"class_weights": (1.0, 2.0)}}, "without class_weights"),
        ({"features": ()}, "must have 1 entries or more"),
        ({"features": (Feature(name="a"), Feature(name="a"))}, "feature 'a' appears twice"),
        ({"target_column": "a"}, "target column 'a' is also a feature"),
        ({"features": ({"name": "a", "type": "text"},)}, r"'number', 'integer' or 'boolean' \(got 'text'\)"),
        ({"features": ({"name": "a", "minimum": 2.0, "maximum": 2.0},)}, "the minimum 2 must be below the maximum 2"),
        ({"features": ({"name": "a", "type": "boolean", "maximum": 1.0},)}, "a boolean is 0 or 1"),
        ({"features": ({"name": "a", "unit": "k\ng"},)}, "must be printable"),
        ({"image": {"width": 2, "height": 2}}, "an image of 2 x 2 with 1 channels has 4 features, but 2 are named"),
        ({"image": {"width": 1, "height": 1, "channels": 2}}, r"\(got 2\)"),
        ({"purpose": "x" * 201}, "at most 200|200 characters"),
        ({"licence": " CC-BY-4.0"}, "without white space at its ends"),
        ({"name": " digits"}, "without white space at its ends"),
        ({"name": "dig\nits"}, "must be printable"),
        ({"mode": "plaintext"}, "encrypted-linear"),
        ({"unknown": 1}, "there is no such field"),
        ({"feature_map": "identity"}, r"feature_map: .* \(got 'identity'\)"),
        ({"feature_map": {"kind": "wavelet"}}, "'identity', 'fourier', 'polynomial'"),
        ({"feature_map": {"kind": "identity", "count": 3}}, r"feature_map.identity.count: there is no such field"),
        ({"feature_map": {"kind": "fourier", "count": 2048, "gamma": 1.0}}, r"at most 2047 \(got 2048\)"),
        ({"feature_map": {"kind": "fourier", "count": 1, "gamma": 0.0}}, r"\(got 0.0\)"),
        ({"feature_map": {"kind": "fourier", "count": 1, "gamma": 1.0, "seed": -1}}, r"\(got -1\)"),
        ({"feature_map": {"kind": "fourier", "gamma": 1.0}}, "feature_map.fourier.count: is missing"),
        ({"feature_map": {"kind": "polynomial", "degree": 4}}, r"at most 3 \(got 4\)"),
        (
            {"feature_map": {"kind": "polynomial"}, "features": tuple(Feature(name=f"f{i}") for i in range(64))},
            "the polynomial map of 64 features gives 2144, above the limit of 2047",
        ),
        ({"training": {"loss": "hinge"}}, r"'ridge' or 'taylor-logistic' \(got 'hinge'\)"),
        ({"training": {"batch_size": 15}}, r"at least 16 \(got 15\)"),
        (
            {"feature_map": {"kind": "fourier", "count": 512, "gamma": 1.0}, "training": {"batch_size": 64}},
            "a batch_size of 64 is less than an eighth of the 513 rows of weights: .* give at least 65",
        ),
        (
            {"training": {"class_weights": (1.0, 2.0, 3.0)}},
            "spec: there are 3 class_weights for 2 classes: give one for each$",
        ),
        ({"training": {"class_weights": (1.0, 101.0)}}, "class weight 101 is above 100 times the class weight 1"),
        ({"training": {"class_weights": (1.0, 0.0)}}, r"training.class_weights.1: .*\(got 0.0\)"),
        ({"training": {"class_weights": (1.0, "2")}}, r"training.class_weights.1: .*\(got '2'\)"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused_with_its_reason(change, message):
    with pytest.raises(SpecError, match=message):
        make_spec(**change)


def test_steps_too_coarse_for_a_round_are_refused():
    rounds = {"round_size": 64, "min_mines": 2}
    assert make_spec(rounds=rounds, encoding={"step_bits": 8}).encoding.step_bits == 8
    with pytest.raises(SpecError, match="step_bits 7 are too few for a round_size of 64"):
        make_spec(rounds=rounds, encoding={"step_bits": 7})


def test_slots_too_small_for_a_round_are_refused():
    with pytest.raises(ValueError, match="slot_width 64 is too small: one round of these scales needs 65 bits"):
        Encoding(slot_width=64)


@pytest.mark.parametrize(("weight_bits", "weight_bound_bits"), [(32, 4), (28, 8)])
def test_the_widest_slot_holds_every_choice_and_no_wider_one_is_taken(weight_bits, weight_bound_bits):
    widest = Encoding(
        weight_bits=weight_bits, weight_bound_bits=weight_bound_bits, map_bits=24, factor_bits=24, step_bits=16,
        gradient_bound_bits=24, slot_width=128,
    )  # fmt: skip
    total = (widest.weight_bound << 64) + (widest.gradient_bound << 16)
    assert total < 1 << 127
    with pytest.raises(ValueError, match="less than or equal to 128"):
        Encoding(slot_width=129)


@given(st.data())
def test_slots_hold_a_round_at_every_bound_of_every_encoding(data):
    weight_bits, bound_bits = data.draw(st.integers(8, 32)), data.draw(st.integers(0, 8))
    assume(weight_bits + bound_bits <= 36)
    fields = {
        "weight_bits": weight_bits, "weight_bound_bits": bound_bits, "map_bits": data.draw(st.integers(8, 24)),
        "step_bits": data.draw(st.integers(0, 16)), "gradient_bound_bits": data.draw(st.integers(0, 24)),
        "factor_bits": data.draw(st.integers(0, 24)),
    }  # fmt: skip
    narrowest = next(width for width in range(16, 129) if _fits(width, fields))
    encoding = Encoding(slot_width=narrowest, **fields)
    total = (encoding.weight_bound << (encoding.gradient_shift + encoding.step_bits)) + (
        encoding.gradient_bound << encoding.step_bits
    )
    assert total < 1 << (narrowest - 1)


def _fits(width, fields):
    try:
        Encoding(slot_width=width, **fields)
    except ValueError:
        return False
    return True


def test_large_models_get_room_for_thin_factors():
    assert Encoding.for_rows(65) == Encoding()
    assert Encoding.for_rows(785).factor_bits == 14
    assert Encoding.for_rows(785).gradient_scale == 53


def test_the_rows_of_a_gradient_are_stacked_as_high_as_key_and_spec_allow():
    key = PublicKey((1 << 3072) - 1)
    for most, outputs, rows in ((64, 10, 4), (3, 10, 3), (1, 10, 1), (64, 1, 42), (64, 22, 1), (64, 100, 1)):
        encoding = Encoding(stacked_rows=most)
        assert encoding.stride(key, outputs) == rows
        assert encoding.gradient_layout(key, outputs) == Layout(3072, 72, outputs, rows, rows)
    assert Encoding().stride(PublicKey((1 << 8192) - 1), 1) == 64
    for wrong in (0, 65):
        with pytest.raises(ValueError, match="stacked_rows"):
            Encoding(stacked_rows=wrong)


def test_rounds_that_could_never_advance_are_refused():
    with pytest.raises(ValueError, match="min_mines 3 is above round_size 2"):
        Rounds(min_mines=3, round_size=2)


def test_an_oversized_spec_is_refused_before_it_is_read():
    with pytest.raises(SpecError, match="above the limit"):
        Spec.parse(b" " * (MAX_SPEC_BYTES + 1))


def test_bytes_that_are_not_canonical_are_refused():
    pretty = json.dumps(json.loads(make_spec().to_bytes()), indent=1).encode()
    with pytest.raises(SpecError, match="not canonical"):
        Spec.parse(pretty)


def test_a_default_left_out_is_refused_so_that_one_spec_has_one_digest():
    fields = json.loads(make_spec().to_bytes())
    del fields["training"]
    with pytest.raises(SpecError, match="every field written out"):
        Spec.parse(canonical.dumps(fields))


def test_terms_from_the_spec_pass_its_own_check():
    spec = make_spec()
    spec.check_terms(spec.terms(bounty=Wei(5), deadline=100))


@pytest.mark.parametrize("field", ["bond", "slash", "target", "min_gain", "min_mines", "round_size", "max_rounds",
                                   "round_seconds", "settlement_seconds"])  # fmt: skip
def test_terms_that_break_the_specs_promise_are_named(field):
    spec = make_spec()
    terms = spec.terms(bounty=Wei(5), deadline=100)
    with pytest.raises(SpecError, match=f"the spec promises {field} = "):
        spec.check_terms(replace(terms, **{field: getattr(terms, field) + 1}))
