"""The delivered module computes what the judge scored."""

import numpy as np
import pytest
import torch

from pysonar.errors import ModelError, ValidationSetError
from pysonar.models import LinearClassifier
from pysonar.results import TrainedClassifier
from sonar.protocol.payloads import design_matrix
from sonar.protocol.spec import Spec
from sonar.syft import Identity


def _model(rng: np.random.Generator) -> tuple[Spec, np.ndarray, TrainedClassifier]:
    description = LinearClassifier(["p", "q", "r"], ["cat", "dog"], offset=[1, 2, 3], scale=[2, 4, 8])
    spec = Spec.build(
        name="t", features=description.spec_features(), classes=description.classes, payout={"target": 900_000}
    )
    weights = rng.integers(-(1 << 24), 1 << 24, size=spec.shape)
    return spec, weights, TrainedClassifier.from_encoded(spec, weights)


def test_the_module_computes_the_same_logits_as_the_judges_design_matrix() -> None:
    rng = np.random.default_rng(1)
    spec, weights, model = _model(rng)
    table = rng.normal(scale=100, size=(50, 3))
    expected = design_matrix(spec, table) @ (weights / 2**24)
    logits = model(torch.tensor(table))
    np.testing.assert_allclose(logits.detach().numpy(), expected, atol=1e-12)
    np.testing.assert_array_equal(model.predict_index(table), expected.argmax(axis=1))
    assert model(torch.tensor(table, dtype=torch.float32)).shape == (50, 2)


MAPS = [
    {"kind": "fourier", "count": 200, "gamma": 0.3, "seed": 5},
    {"kind": "polynomial", "degree": 2},
    {"kind": "polynomial", "degree": 3},
    {"kind": "polynomial", "degree": 3, "powers": False},
]


@pytest.mark.parametrize("feature_map", MAPS)
def test_the_module_maps_features_as_the_judge_does(feature_map: dict[str, object]) -> None:
    rng = np.random.default_rng(1)
    spec, _, _ = _model(rng)
    spec = Spec.build(**{**dict(spec), "feature_map": feature_map})
    weights = rng.integers(-(1 << 20), 1 << 20, size=spec.shape)
    model = TrainedClassifier.from_encoded(spec, weights)
    table = rng.normal(scale=5, size=(50, 3))
    expected = design_matrix(spec, table)
    scaled = torch.tensor(np.clip((table - [1, 2, 3]) / [2, 4, 8], -16, 16))
    # The judge rounds Fourier features and what goes into them to 24 fractional bits.
    near = 1e-6 if feature_map["kind"] == "fourier" else 1e-12
    np.testing.assert_allclose(model.map(scaled).numpy(), expected[:, :-1], rtol=0, atol=near)
    logits = model(torch.tensor(table)).detach().numpy()
    np.testing.assert_allclose(logits, expected @ (weights / 2**24), rtol=0, atol=near)
    other = TrainedClassifier.from_encoded(spec, np.zeros_like(weights))
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.predict(table), model.predict(table))
    assert sum(parameter.numel() for parameter in model.parameters()) == weights.size


def test_a_mapped_result_starts_another_campaign_on_the_same_map_only() -> None:
    spec, _, _ = _model(np.random.default_rng(1))
    spec = Spec.build(**{**dict(spec), "feature_map": MAPS[0]})
    weights = np.arange(402).reshape(201, 2)
    model = TrainedClassifier.from_encoded(spec, weights)
    names = [feature.name for feature in spec.features]
    scaling = {"offset": [1, 2, 3], "scale": [2, 4, 8]}
    again = LinearClassifier(names, spec.classes, feature_map=MAPS[0], weights=model, **scaling)
    np.testing.assert_array_equal(again.weights * 2**24, weights)
    with pytest.raises(ModelError, match="features are scaled otherwise"):
        LinearClassifier(names, spec.classes, feature_map=MAPS[0], weights=model)
    with pytest.raises(ModelError, match=r"the start model has the feature map RandomFourier.*seed=5.*seed=6"):
        LinearClassifier(names, spec.classes, feature_map={**MAPS[0], "seed": 6}, weights=model)
    with pytest.raises(ModelError, match="but this one Identity"):
        LinearClassifier(names, spec.classes, weights=model)


def test_weights_that_do_not_fit_a_module_are_refused() -> None:
    with pytest.raises(ModelError, match=r"weights of shape \(4, 2\) and a map of 2 features do not fit a model of 3"):
        TrainedClassifier()._become(("a", "b", "c"), ("x", "y"), np.zeros(3), np.ones(3), np.zeros((4, 2)), Identity(2))


def test_score_takes_names_and_indices() -> None:
    rng = np.random.default_rng(2)
    _, _, model = _model(rng)
    table = rng.normal(size=(20, 3))
    found = model.predict_index(table)
    assert model.score(table, found) == 1.0
    assert model.score(table, model.predict(table)) == 1.0
    assert model.predict(table).tolist() == [model.classes[index] for index in found]
    assert model.score(table, 1 - found) == 0.0
    with pytest.raises(ValidationSetError):
        model.score(table, found + 5)


def test_a_result_starts_another_campaign_exactly_where_it_ended() -> None:
    spec, weights, model = _model(np.random.default_rng(3))
    names = [feature.name for feature in spec.features]
    again = LinearClassifier(names, spec.classes, weights=model, offset=[1, 2, 3], scale=[2, 4, 8])
    np.testing.assert_array_equal(np.round(again.weights * 2**24), weights)
    copied = LinearClassifier.from_fitted(model)
    assert (copied.features, copied.classes) == (again.features, again.classes)
    np.testing.assert_array_equal(copied.weights, again.weights)
    np.testing.assert_array_equal(copied.scale, [2, 4, 8])


def test_the_module_survives_torchs_own_state_dict() -> None:
    rng = np.random.default_rng(4)
    spec, weights, model = _model(rng)
    other = TrainedClassifier.from_encoded(spec, np.zeros_like(weights))
    other.load_state_dict(model.state_dict())
    table = rng.normal(size=(5, 3))
    np.testing.assert_array_equal(other.predict(table), model.predict(table))
