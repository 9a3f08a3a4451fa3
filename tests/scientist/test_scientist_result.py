"""The delivered module computes what the judge scored."""

import numpy as np
import pytest
import torch

from pysonar.errors import ValidationSetError
from pysonar.linear import LinearModel
from pysonar.models import LinearClassifier
from sonar.protocol.payloads import design_matrix
from sonar.protocol.spec import Spec


def _model(rng: np.random.Generator) -> tuple[Spec, np.ndarray, LinearModel]:
    description = LinearClassifier(["p", "q", "r"], ["cat", "dog"], offset=[1, 2, 3], scale=[2, 4, 8])
    spec = Spec.build(
        name="t", features=description.spec_features(), classes=description.classes, payout={"target": 900_000}
    )
    weights = rng.integers(-(1 << 24), 1 << 24, size=spec.shape)
    return spec, weights, LinearModel.from_encoded(spec, weights)


def test_the_module_computes_the_same_logits_as_the_judges_design_matrix() -> None:
    rng = np.random.default_rng(1)
    spec, weights, model = _model(rng)
    table = rng.normal(scale=100, size=(50, 3))
    expected = design_matrix(spec, table) @ (weights / 2**24)
    logits = model(torch.tensor(table))
    np.testing.assert_allclose(logits.detach().numpy(), expected, atol=1e-12)
    np.testing.assert_array_equal(model.predict(table), expected.argmax(axis=1))
    assert model(torch.tensor(table, dtype=torch.float32)).shape == (50, 2)


def test_score_takes_names_and_indices() -> None:
    rng = np.random.default_rng(2)
    _, _, model = _model(rng)
    table = rng.normal(size=(20, 3))
    found = model.predict(table)
    assert model.score(table, found) == 1.0
    assert model.score(table, [model.classes[index] for index in found]) == 1.0
    assert model.score(table, 1 - found) == 0.0
    with pytest.raises(ValidationSetError):
        model.score(table, found + 5)


def test_a_result_starts_another_campaign_exactly_where_it_ended() -> None:
    spec, weights, model = _model(np.random.default_rng(3))
    names = [feature.name for feature in spec.features]
    again = LinearClassifier(names, spec.classes, weights=model)
    np.testing.assert_array_equal(np.round(again.weights * 2**24), weights)


def test_the_module_survives_torchs_own_state_dict() -> None:
    rng = np.random.default_rng(4)
    spec, weights, model = _model(rng)
    other = LinearModel.from_encoded(spec, np.zeros_like(weights))
    other.load_state_dict(model.state_dict())
    table = rng.normal(size=(5, 3))
    np.testing.assert_array_equal(other.predict(table), model.predict(table))
