"""Validation sets and weights on the wire, and the scaling that every actor must do alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from sonar.protocol import payloads
from sonar.protocol.errors import ProtocolError
from sonar.protocol.payloads import (
    CLIP,
    MAX_VALIDATION_BYTES,
    check_validation_size,
    decode_validation,
    decode_weights,
    design_matrix,
    encode_validation,
    encode_weights,
    scaled_targets,
)
from sonar.protocol.spec import Feature, Payout, Spec

SPEC = Spec.build(
    name="demo", features=(Feature(name="a", offset=1.0, scale=2.0), Feature(name="b")), classes=("x", "y", "z"),
    payout=Payout(target=900_000),
)  # fmt: skip
X = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
Y = np.array([0, 2, 1])


def test_a_validation_set_survives_its_own_bytes():
    features, labels = decode_validation(encode_validation(X, Y), SPEC)
    np.testing.assert_array_equal(features, X)
    np.testing.assert_array_equal(labels, Y)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (X[:, :1], Y, r"needs \(records, 2\)"),
        (X, Y[:2], r"needs \(records, 2\)"),
        (X[:1], Y[:1], "1 records"),
        (np.where(X == 4.0, np.nan, X), Y, "not finite"),
        (X, np.array([0, 3, 1]), "labels outside 0 to 2"),
        (X, np.array([0, -1, 1]), "labels outside 0 to 2"),
    ],
)
def test_a_validation_set_that_does_not_fit_is_refused_with_its_reason(features, labels, message):
    with pytest.raises(ProtocolError, match=message):
        decode_validation(encode_validation(features, labels), SPEC)


REGRESSION = Spec.build(
    name="demo", features=SPEC.features, metric="r2", targets=({"name": "y", "offset": 10.0, "scale": 4.0},),
    payout=Payout(target=900_000),
)  # fmt: skip
NUMBERS = np.array([[10.0], [2.0], [900.0]])


def test_targets_survive_their_own_bytes_and_are_scaled_and_clipped():
    _, targets = decode_validation(encode_validation(X, NUMBERS), REGRESSION)
    np.testing.assert_array_equal(targets, NUMBERS)
    np.testing.assert_array_equal(scaled_targets(REGRESSION, targets), [[0.0], [-2.0], [16.0]])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (NUMBERS[:, 0], r"needs \(records, 2\) and \(records, 1\)"),
        (np.repeat(NUMBERS, 2, axis=1), r"needs \(records, 2\) and \(records, 1\)"),
        (np.array([[1.0], [np.inf], [2.0]]), "targets that are not finite"),
        (np.array([[2.0], [2.0], [2.0]]), "a target is the same in every validation record, so R2 has no value"),
        (np.array([[9e3, 1.0], [9e4, 2.0], [9e5, 3.0]])[:, :1], r"once it is scaled and clipped to \+-16"),
        (np.array([[0.0], [1e-7], [0.0]]), r"once it is scaled and clipped to \+-16"),
        (np.array([0, 1, 2]), "in their types"),
    ],
)
def test_targets_that_do_not_fit_are_refused_with_their_reason(labels, message):
    with pytest.raises(ProtocolError, match=message):
        decode_validation(encode_validation(X, labels), REGRESSION)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1", "auc"])
def test_a_metric_of_every_class_needs_records_of_every_class(metric):
    spec = Spec.build(**{**dict(SPEC), "metric": metric})
    decode_validation(encode_validation(X, Y), spec)
    with pytest.raises(ProtocolError, match=f"no record of class 'y', without which {metric} has no value"):
        decode_validation(encode_validation(X, np.array([0, 2, 0])), spec)


def test_large_rounds_take_fewer_records():
    check_validation_size(1 << 17, 1, 2, round_size=64)
    with pytest.raises(ProtocolError, match="above the limit of 131072"):
        check_validation_size((1 << 17) + 1, 1, 2, round_size=64)
    check_validation_size(1 << 21, 1, 2, round_size=4)


def test_a_curve_takes_fewer_records_because_they_are_sorted():
    check_validation_size(1 << 15, 1, 2, "auc")
    with pytest.raises(ProtocolError, match="above the limit of 32768"):
        check_validation_size((1 << 15) + 1, 1, 2, "auc")


@pytest.mark.parametrize(("features", "classes", "most"), [(1, 2, 1 << 21), (2047, 256, 16383), (100, 2, 332_220)])
def test_a_validation_set_is_small_enough_to_be_judged(features, classes, most):
    check_validation_size(most, features, classes)
    assert most * classes <= 1 << 22
    assert most * 8 * (features + 1) <= MAX_VALIDATION_BYTES
    with pytest.raises(ProtocolError, match=f"{most + 1} records, above the limit of {most}"):
        check_validation_size(most + 1, features, classes)


def test_a_set_with_more_class_scores_than_the_judge_holds_is_refused(monkeypatch):
    monkeypatch.setattr(payloads, "MAX_VALIDATION_SCORES", 8)
    with pytest.raises(ProtocolError, match="3 records, above the limit of 2 for 2 features and 3 classes"):
        decode_validation(encode_validation(X, Y), SPEC)


def test_a_long_header_is_refused_before_its_tensors_are_made(monkeypatch):
    monkeypatch.setattr(payloads, "load", lambda _: pytest.fail("parsed"))
    with pytest.raises(ProtocolError, match="a header of more than 1024 bytes"):
        decode_weights(save({f"weights{i}": np.zeros((0,)) for i in range(100)}), SPEC)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_payload_raise_the_documented_error(data):
    with pytest.raises(ProtocolError):
        decode_validation(data, SPEC)
    with pytest.raises(ProtocolError):
        decode_weights(data, SPEC)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8])
def test_tensors_of_another_type_are_refused(dtype):
    with pytest.raises(ProtocolError, match="in their types"):
        decode_weights(save({"weights": np.zeros((3, 3), dtype)}), SPEC)


def test_weights_survive_and_stay_within_their_bound():
    weights = np.array([[SPEC.encoding.weight_bound, 0, 1]] * 3)
    np.testing.assert_array_equal(decode_weights(encode_weights(weights), SPEC), weights)
    with pytest.raises(ProtocolError, match="outside the spec's bound"):
        decode_weights(encode_weights(weights + 1), SPEC)
    with pytest.raises(ProtocolError, match=r"shape \(2, 3\)"):
        decode_weights(encode_weights(weights[:2]), SPEC)


def test_features_are_scaled_clipped_and_given_a_bias():
    design = design_matrix(SPEC, np.array([[3.0, -100.0]]))
    np.testing.assert_array_equal(design, [[1.0, -16.0, 1.0]])


def test_extreme_constants_and_features_are_clipped_without_a_warning():
    spec = SPEC.model_copy(update={"features": (Feature(name="a", offset=-1.7e308), Feature(name="b", scale=5e-324))})
    design = design_matrix(spec, np.array([[1.7e308, -1.0], [-1.7e308, 0.0]]))
    np.testing.assert_array_equal(design, [[16.0, -16.0, 1.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    "feature_map", [{"kind": "fourier", "count": 9, "gamma": 0.5, "seed": 4}, {"kind": "polynomial", "degree": 3}]
)
def test_scaled_features_are_mapped_before_the_bias_in_blocks_of_any_size(feature_map, monkeypatch):
    spec = Spec.build(**{**dict(SPEC), "feature_map": feature_map})
    table = np.random.default_rng(1).normal(scale=20, size=(25, 2))
    scaled = np.clip((table - [1.0, 0.0]) / [2.0, 1.0], -16, 16)
    expected = np.hstack([spec.mapping.transform(scaled), np.ones((25, 1))])
    np.testing.assert_array_equal(design_matrix(spec, table), expected)
    assert np.abs(expected).max() <= CLIP
    monkeypatch.setattr(payloads, "_BLOCK", 7)
    np.testing.assert_allclose(design_matrix(spec, table), expected, atol=1e-13)


def test_a_validation_set_must_be_small_enough_for_what_the_feature_map_makes_of_it(monkeypatch):
    data = encode_validation(np.zeros((1000, 2)), np.arange(1000) % 3)
    monkeypatch.setattr(payloads, "MAX_VALIDATION_BYTES", 1 << 20)
    decode_validation(data, SPEC)
    spec = Spec.build(**{**dict(SPEC), "feature_map": {"kind": "fourier", "count": 200, "gamma": 1.0}})
    with pytest.raises(ProtocolError, match="1000 records, above the limit of 651 for 200 features"):
        decode_validation(data, spec)


def test_weights_have_a_row_for_each_mapped_feature():
    spec = Spec.build(**{**dict(SPEC), "feature_map": {"kind": "polynomial"}})
    weights = np.ones((6, 3), dtype=np.int64)
    np.testing.assert_array_equal(decode_weights(encode_weights(weights), spec), weights)
    with pytest.raises(ProtocolError, match=r"shape \(3, 3\), but the spec needs \(6, 3\)"):
        decode_weights(encode_weights(weights[:3]), spec)
