"""Validation sets and weights on the wire, and the scaling that every actor must do alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from sonar.protocol.errors import ProtocolError
from sonar.protocol.payloads import (
    decode_validation,
    decode_weights,
    design_matrix,
    encode_validation,
    encode_weights,
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
