"""Results keep scikit-learn's conventions: its own checks, and the tools that people use them with."""

import pickle
import warnings
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score, f1_score, r2_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import pysonar
from pysonar._scoring import measured
from pysonar.errors import ModelError, ValidationSetError
from pysonar.results import TrainedClassifier, TrainedRegressor
from sonar.protocol.spec import MetricName, Spec

APPLY_NOT = {
    "check_no_attributes_set_in_init": "every torch.nn.Module has a flag `training`",
    "check_dtype_object": "it wants a TypeError of cells that are no numbers, and ours is a ValueError",
    "check_array_api_input": "other array libraries than numpy are for SCIPY_ARRAY_API=1",
}
"""scikit-learn's checks that do not apply, and why."""


def checks_of(kind: type) -> list:
    """scikit-learn's checks of an estimator of this kind, with the estimator."""
    with warnings.catch_warnings():
        # That it does not inherit from BaseEstimator: scikit-learn is not needed to use a result.
        warnings.simplefilter("ignore", UserWarning)
        return [
            (estimator, check, name_of(check)) for estimator, check in estimator_checks_generator(kind(), mark=None)
        ]


def name_of(check) -> str:
    """A check's name, whatever arguments it is bound to."""
    while hasattr(check, "func"):
        check = check.func
    return check.__name__


def applying() -> list:
    """Every check of either kind that applies."""
    return [
        pytest.param(estimator, check, id=f"{kind.__name__}-{name}")
        for kind in (TrainedClassifier, TrainedRegressor)
        for estimator, check, name in checks_of(kind)
        if name not in APPLY_NOT
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), applying())
def test_scikit_learns_own_check_passes(estimator, check) -> None:
    check(estimator)


def test_what_does_not_apply_is_little_and_still_there() -> None:
    names = {name for _, _, name in checks_of(TrainedClassifier)}
    assert set(APPLY_NOT) <= names
    assert len(names) > 45


@pytest.fixture(scope="module")
def irises() -> TrainedClassifier:
    """A result as a campaign delivers it."""
    data = load_iris(as_frame=True)
    description = pysonar.LinearClassifier.standardised(
        data.feature_names, data.target_names, data.data, metric="macro_f1"
    ).fitted_on(data.data, data.target)
    spec = Spec.build(
        name="t", features=description.spec_features(), classes=description.classes, metric="macro_f1",
        payout={"target": 900_000},
    )  # fmt: skip
    return TrainedClassifier.from_encoded(spec, np.rint(description.weights * 2**24).astype(np.int64))


def test_a_result_is_a_torch_module_and_a_classifier(irises) -> None:
    data = load_iris(as_frame=True)
    assert isinstance(irises, torch.nn.Module)
    assert is_classifier(irises)
    assert irises.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert (irises.n_features_in_, irises.feature_names_in_.tolist()) == (4, data.feature_names)
    chances = irises.predict_proba(data.data)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert chances.min() >= 0
    np.testing.assert_array_equal(irises.classes_[chances.argmax(axis=1)], irises.predict(data.data))
    np.testing.assert_array_equal(irises.decision_function(data.data).argmax(axis=1), irises.predict_index(data.data))
    assert irises.score(data.data, data.target) == irises.score(data.data, data.target_names[data.target]) > 0.8
    with torch.no_grad():
        logits = irises(torch.tensor(data.data.to_numpy()))
    np.testing.assert_allclose(logits.numpy(), irises.decision_function(data.data))


def test_a_data_frames_columns_are_taken_by_name_and_more_of_them_ignored(irises) -> None:
    frame = load_iris(as_frame=True).data
    shuffled = frame[frame.columns[::-1]].assign(colour="blue")
    np.testing.assert_array_equal(irises.predict(shuffled), irises.predict(frame.to_numpy()))
    with pytest.raises(ValidationSetError, match=r"no column 'petal width \(cm\)'"):
        irises.predict(frame.drop(columns="petal width (cm)"))


def test_the_tools_of_scikit_learn_take_a_result(irises) -> None:
    data = load_iris(as_frame=True)
    names = data.target_names[data.target]
    found = permutation_importance(irises, data.data, names, n_repeats=2, random_state=0)
    assert found.importances_mean[2:].min() > found.importances_mean[1]
    calibrated = CalibratedClassifierCV(FrozenEstimator(irises)).fit(data.data, names)
    assert calibrated.score(data.data, names) > 0.8
    search = GridSearchCV(clone(irises), {"l2": [1e-3, 1e2]}, cv=3).fit(data.data, data.target)
    assert search.best_params_ == {"l2": 1e-3}
    assert cross_val_score(make_pipeline(StandardScaler(), TrainedClassifier()), data.data, names).mean() > 0.75


def test_a_result_survives_pickle_clone_and_state_dict(irises) -> None:
    table = load_iris().data
    again = pickle.loads(pickle.dumps(irises))
    np.testing.assert_array_equal(again.predict(table), irises.predict(table))
    empty = clone(irises)
    assert empty.get_params() == irises.get_params()
    with pytest.raises(NotFittedError, match="has learned nothing yet: fit it, or take a campaign's result"):
        empty.predict(table)
    with pytest.raises(ModelError, match=r"TrainedClassifier has no parameter 'depth': it has batch_size"):
        empty.set_params(depth=3)


def test_two_classes_have_one_decision_and_the_probabilities_of_its_sign() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 3)), np.where(rng.normal(size=200) > 0, "yes", "no")
    X[y == "yes", 0] += 2
    for loss in ("ridge", "taylor-logistic"):
        model = TrainedClassifier(loss=loss).fit(X, y)
        decided = model.decision_function(X)
        assert decided.shape == (200,)
        np.testing.assert_array_equal(model.predict(X) == "yes", decided > 0)
        np.testing.assert_array_equal(model.predict_proba(X)[:, 1] > 0.5, decided > 0)


def test_fit_solves_the_ridge_regression_of_scikit_learn() -> None:
    data = load_diabetes(as_frame=True, scaled=False)
    model = TrainedRegressor(epochs=1_000_000, l2=1e-2).fit(data.data, data.target)
    assert is_regressor(model)
    scaled = StandardScaler().fit_transform(data.data)
    # Ours shrinks the bias as well, of targets whose mean is 0.
    theirs = Ridge(1e-2 * len(scaled)).fit(scaled, data.target)
    np.testing.assert_allclose(model.predict(data.data), theirs.predict(scaled), rtol=1e-6)
    assert model.score(data.data, data.target) == pytest.approx(r2_score(data.target, theirs.predict(scaled)))
    assert model.campaign_score(data.data, data.target) == pytest.approx(model.score(data.data, data.target), abs=1e-9)


def test_fit_decides_as_the_ridge_classifier_of_scikit_learn() -> None:
    X, y = load_iris(return_X_y=True)
    model = TrainedClassifier(epochs=1_000_000, l2=1e-3).fit(X, y)
    theirs = RidgeClassifier(1e-3 * len(X)).fit(StandardScaler().fit_transform(X), y)
    assert (model.predict(X) == theirs.predict(StandardScaler().fit_transform(X))).mean() > 0.99


def test_several_targets_are_predicted_in_their_own_units() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(300, 3))
    y = pd.DataFrame({"price": 1e5 + 2e4 * X[:, 0], "area": 80 + 10 * X[:, 1] - 5 * X[:, 2]})
    description = pysonar.LinearRegressor.standardised(3, ["price", "area"], like=(X, y), l2=0.0)
    model = description.fitted_on(X, y).module()
    np.testing.assert_allclose(model.predict(X), y.to_numpy(), rtol=1e-6)
    assert model.score(X, y[["area", "price"]]) == pytest.approx(1.0)
    with pytest.raises(ValidationSetError, match="a target is the same in every record"):
        model.score(X, np.ones((300, 2)))


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "auc"])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_campaigns_metric_is_scikit_learns(metric: MetricName, classes: int) -> None:
    rng = np.random.default_rng(3)
    labels, scores = np.arange(60) % classes, np.round(rng.normal(size=(60, classes)), 1)
    predicted = scores.argmax(axis=1)
    if metric == "auc" and classes == 2:
        told = roc_auc_score(labels, scores[:, 1] - scores[:, 0])
    elif metric == "auc":
        told = np.mean([roc_auc_score(labels == k, scores[:, k]) for k in range(classes)])
    elif metric == "macro_f1":
        told = f1_score(labels, predicted, average="macro")
    else:
        told = (predicted == labels).mean() if metric == "accuracy" else balanced_accuracy_score(labels, predicted)
    assert measured(metric, scores, labels) == pytest.approx(told)


def networks() -> list[pysonar.models.Model]:
    """Descriptions of a network that drops some of its numbers in training, by what it predicts."""
    layers = torch.nn.Linear(4, 32), torch.nn.ReLU(), torch.nn.Dropout(0.7)
    classes, numbers = (torch.nn.Sequential(*layers, torch.nn.Linear(32, outputs)) for outputs in (3, 1))
    return [pysonar.Network(classes, 4, classes=["p", "q", "r"]), pysonar.Network(numbers, 4, targets=["weight"])]


@pytest.mark.parametrize("description", networks(), ids=["classes", "numbers"])
def test_a_network_predicts_with_all_of_its_numbers_also_while_it_is_being_trained(description) -> None:
    table, result = load_iris().data, description.module()
    told = result.eval().predict(table)
    result.train()
    for _ in range(3):
        np.testing.assert_array_equal(result.predict(table), told)
    assert result.training
    assert all(module.training for module in result.network.modules())
    inputs = torch.tensor(table)
    assert not torch.equal(result(inputs), result(inputs)), "a torch module drops in its training mode"


DESCRIPTIONS = [
    pysonar.LinearClassifier(4, 3, weights=np.eye(5)[:, :3]),
    pysonar.KernelClassifier(4, 3, count=20, weights=np.ones((21, 3)) * np.arange(3)),
    pysonar.PolynomialClassifier(4, 3, weights=np.ones((15, 3)) * np.arange(3)),
    pysonar.Head(torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh()), 3, features=4, weights=np.eye(7)[:, :3]),
    *networks(),
]


@pytest.mark.parametrize("description", DESCRIPTIONS, ids=lambda one: one.name[:12])
def test_a_result_is_kept_as_tensors_and_made_of_its_description_again(description, tmp_path) -> None:
    table, result = load_iris().data, description.module()
    with torch.no_grad():
        for parameter in result.parameters():
            parameter.add_(torch.randn_like(parameter) if parameter.requires_grad else 0.0)
    told = result.predict(table)
    torch.save(result.state_dict(), tmp_path / "result.pt")
    save_file(result.state_dict(), tmp_path / "result.safetensors")
    for state in (torch.load(tmp_path / "result.pt", weights_only=True), load_file(tmp_path / "result.safetensors")):
        again = description.module()
        again.load_state_dict(state)
        np.testing.assert_array_equal(again.predict(table), told)
    for copy in (deepcopy(result), pickle.loads(pickle.dumps(result))):
        np.testing.assert_array_equal(copy.predict(table), told)
    single = deepcopy(result).float()
    assert single(torch.tensor(table, dtype=torch.float32)).dtype == torch.float32
    if told.dtype.kind == "f":
        np.testing.assert_allclose(single.predict(table), told, rtol=1e-4, atol=1e-4)
    else:
        assert (single.predict(table) == told).mean() > 0.97


def test_a_clone_of_a_networks_result_says_that_it_has_no_layers() -> None:
    description = networks()[0]
    result, data = description.module(), load_iris()
    with pytest.raises(ModelError, match=r"has no layers: .*FrozenEstimator\(result\)"):
        clone(result).fit(data.data, data.target)
    assert FrozenEstimator(result).fit(data.data, data.target).predict(data.data).shape == (150,)
    with pytest.raises(ModelError, match=r"the start model is a network.*pysonar\.Network\(result\.network"):
        pysonar.LinearClassifier(4, 3, weights=result)


@pytest.mark.parametrize("weights", [[1.0, 2.0], -np.ones(150), np.zeros(150), np.full(150, np.nan), ["heavy"] * 150])
def test_weights_of_records_that_are_none_are_refused(weights) -> None:
    data = load_iris()
    classifier, regressor = (
        kind().fit(data.data, labels)
        for kind, labels in ((TrainedClassifier, data.target), (TrainedRegressor, data.data[:, 0]))
    )
    with pytest.raises(ValidationSetError, match="sample_weight"):
        classifier.score(data.data, data.target, sample_weight=weights)
    with pytest.raises(ValidationSetError, match="sample_weight"):
        regressor.score(data.data, data.data[:, 0], sample_weight=weights)
