"""Where training starts: what a fitted estimator or an earlier result decides, the start model decides too."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import (
    Lasso,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PolynomialFeatures, RobustScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC, OneClassSVM

from pysonar import (
    KernelClassifier,
    LinearClassifier,
    LinearRegressor,
    PolynomialClassifier,
)
from pysonar import RidgeClassifier as RidgeModel
from pysonar.errors import ModelError, ValidationSetError
from sonar.protocol.spec import Encoding

IRISES, TUMOURS, DIABETES = load_iris(as_frame=True), load_breast_cancer(), load_diabetes(scaled=False)


@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler(), RobustScaler(), MaxAbsScaler(), "passthrough"])
@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(max_iter=5000),
        RidgeClassifier(),
        RidgeClassifierCV(),
        LinearDiscriminantAnalysis(),
        SGDClassifier(random_state=0),
        SGDClassifier(loss="log_loss", random_state=0),
        LinearSVC(random_state=0, dual=False),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.parametrize("table", ["irises", "two of them"])
def test_the_start_decides_as_the_estimator_does(estimator, scaler, table: str) -> None:
    rows = slice(None) if table == "irises" else IRISES.target < 2
    X, y = IRISES.data[rows], IRISES.target_names[IRISES.target[rows]]
    fitted = make_pipeline(scaler, estimator).fit(X, y)
    model = LinearClassifier.from_fitted(fitted)
    assert model.features == tuple(IRISES.data.columns)
    np.testing.assert_array_equal(model.module().predict(X), fitted.predict(X))


@pytest.mark.parametrize(
    "fitted",
    [
        make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=5000)),
        make_pipeline(StandardScaler(with_std=False), LogisticRegression(max_iter=5000)),
        make_pipeline(RobustScaler(with_centering=False), LogisticRegression(max_iter=5000)),
        make_pipeline(StandardScaler(), MinMaxScaler((-3, 7)), RobustScaler(), LogisticRegression(max_iter=5000)),
        make_pipeline(make_pipeline(StandardScaler(), "passthrough"), make_pipeline(RidgeClassifier())),
        make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", fit_intercept=False)),
        GridSearchCV(make_pipeline(StandardScaler(), RidgeClassifier()), {"ridgeclassifier__alpha": [1, 10]}),
        Perceptron(),
    ],
    ids=["no mean", "no deviation", "no centre", "several", "nested", "balanced", "searched", "perceptron"],
)
def test_a_start_decides_as_the_estimator_does_whatever_its_scaler_leaves_out(fitted) -> None:
    X, y = IRISES.data, IRISES.target
    fitted.fit(X, y)
    np.testing.assert_array_equal(LinearClassifier.from_fitted(fitted).module().predict(X), fitted.predict(X))


def test_a_start_is_carried_over_to_other_scales_and_another_order() -> None:
    X, y = IRISES.data, IRISES.target
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)).fit(X, y)
    reversed_names = list(X.columns[::-1])
    model = LinearClassifier(reversed_names, ["0", "2", "1"], offset=3.0, scale=2.0, weights=fitted)
    np.testing.assert_array_equal(model.module().predict(X), fitted.predict(X))
    again = LinearClassifier.standardised(reversed_names, ["0", "2", "1"], X, weights=model.module())
    np.testing.assert_array_equal(again.module().predict(X), fitted.predict(X))
    assert not np.allclose(again.weights, model.weights)


def test_the_scores_of_a_start_are_about_probabilities() -> None:
    X, y = TUMOURS.data, TUMOURS.target
    fitted = make_pipeline(StandardScaler(), RidgeClassifier(10)).fit(X, y)
    module = RidgeModel.from_fitted(fitted).module()
    np.testing.assert_allclose(module.decision_function(X), fitted.decision_function(X), atol=1e-6)
    np.testing.assert_allclose(module.campaign_score(X, y), fitted.score(X, y))
    with torch.no_grad():
        scores = module(torch.tensor(X)).numpy()
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    logistic = make_pipeline(StandardScaler(), LogisticRegression(C=1e-4)).fit(X, y)
    near = LinearClassifier.from_fitted(logistic).module().predict_proba(X)
    # To the first order, and the logits of so small a C are small.
    assert np.abs(near - logistic.predict_proba(X)).max() < 0.05


def test_the_start_is_inside_the_encodings_bound_and_rounding_changes_no_decision() -> None:
    X, y = IRISES.data, IRISES.target
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=1000, max_iter=5000)).fit(X, y)
    model = LinearClassifier.from_fitted(fitted)
    model.check_weights(Encoding())
    rounded = LinearClassifier.from_fitted(fitted, weights=np.rint(model.weights * 2**24) / 2**24)
    np.testing.assert_array_equal(rounded.module().predict(X), fitted.predict(X))


@pytest.mark.parametrize("estimator", [Ridge(), LinearRegression(), Lasso(0.1)], ids=lambda one: type(one).__name__)
def test_a_regression_starts_where_an_estimator_predicts(estimator) -> None:
    X, y = DIABETES.data, DIABETES.target
    fitted = make_pipeline(StandardScaler(), estimator).fit(X, y)
    model = LinearRegressor.from_fitted(fitted, target_offset=150, target_scale=77)
    np.testing.assert_allclose(model.module().predict(X), fitted.predict(X), rtol=1e-9)
    result = LinearRegressor.from_fitted(model.module())
    np.testing.assert_allclose(result.weights, model.weights)
    other = LinearRegressor.standardised(10, 1, like=(X, y), weights=model.module())
    np.testing.assert_allclose(other.module().predict(X), fitted.predict(X), rtol=1e-9)
    both = make_pipeline(StandardScaler(), Ridge()).fit(X, np.column_stack([y, -y]))
    assert LinearRegressor.from_fitted(both, target_scale=100).module().predict(X).shape == (len(y), 2)


@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("products", [{}, {"interaction_only": True}, {"include_bias": False}], ids=str)
def test_products_of_scaled_features_find_their_places(degree: int, products: dict) -> None:
    X, y = IRISES.data, IRISES.target
    scaler = StandardScaler().fit(X)
    # Inside the clip on products, beyond which the two differ.
    inside = np.abs(PolynomialFeatures(degree).fit_transform(scaler.transform(X))).max(axis=1) <= 16
    fitted = make_pipeline(StandardScaler(), PolynomialFeatures(degree, **products), RidgeClassifier(1)).fit(X, y)
    powers = "interaction_only" not in products
    model = PolynomialClassifier.from_fitted(fitted, degree=degree, powers=powers)
    assert inside.mean() > 0.9
    np.testing.assert_array_equal(model.module().predict(X[inside]), fitted.predict(X[inside]))
    plain = make_pipeline(StandardScaler(), RidgeClassifier(1)).fit(X, y)
    linear = PolynomialClassifier.from_fitted(plain)
    np.testing.assert_array_equal(linear.module().predict(X), plain.predict(X))


def test_a_torch_layer_and_a_fit_of_ones_own_are_starts_too() -> None:
    layer = torch.nn.Linear(4, 3)
    model = LinearClassifier(4, 3, weights=layer)
    table = torch.randn(5, 4)
    np.testing.assert_allclose(model.module()(table).detach().numpy(), layer(table).detach().numpy(), atol=1e-6)
    X, y = IRISES.data.to_numpy(), IRISES.target.to_numpy()
    started = KernelClassifier.standardised(4, 3, X, count=40).fitted_on(X[::2], y[::2])
    assert isinstance(started, KernelClassifier)
    assert started.module().score(X[1::2], y[1::2]) > 0.9
    np.testing.assert_array_equal(KernelClassifier.from_fitted(started.module()).weights, started.weights)
    with pytest.raises(ValueError, match="read-only"):
        started.weights[0, 0] = 1.0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LinearClassifier(30, 2).fitted_on(*load_breast_cancer(return_X_y=True)), "feature .* lies beyond 16"),
        (lambda: LinearRegressor(10).fitted_on(*load_diabetes(return_X_y=True)), "target .* lies beyond 16"),
    ],
)  # fmt: skip
def test_a_start_is_not_trained_on_records_of_which_clipping_would_leave_little(
    make: Callable[[], object], said: str
) -> None:
    with pytest.raises(ValidationSetError, match=said):
        make()


def fitted_on_irises(*steps: object) -> object:
    return make_pipeline(*steps).fit(IRISES.data.to_numpy(), IRISES.target)


NAMED = LogisticRegression(max_iter=5000).fit(pd.DataFrame(IRISES.data.to_numpy(), columns=list("abcd")), IRISES.target)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (LogisticRegression(), "the LogisticRegression has no coef_ and intercept_, as it is not fitted"),
        (RandomForestClassifier(), "the RandomForestClassifier has no coef_ and intercept_"),
        (KMeans(), "has no coef_ and intercept_"),
        (fitted_on_irises(StandardScaler(), PCA(4), RidgeClassifier()), "step PCA cannot be published as a scaling"),
        (fitted_on_irises(MinMaxScaler(clip=True), RidgeClassifier()), "a MinMaxScaler that clips is not a scaling"),
        (
            fitted_on_irises(PolynomialFeatures(), StandardScaler(), RidgeClassifier()),
            "after PolynomialFeatures: scale",
        ),
        (fitted_on_irises(PolynomialFeatures(), RidgeClassifier()), "linear in its features and their products"),
        (LinearRegression().fit(IRISES.data, IRISES.target), "predicts numbers, and the model classes"),
        # As many pairs of classes as classes: coefficients of the right shape that mean something else.
        (fitted_on_irises(SVC(kernel="linear")), "the SVC predicts something else than its coef_ and intercept_"),
        (RidgeClassifier().fit(IRISES.data, np.eye(3)[IRISES.target]), "predicts something else than its coef_"),
        (OneClassSVM(kernel="linear").fit(IRISES.data), "predicts something else than its coef_"),
        (PoissonRegressor().fit(IRISES.data, IRISES.target + 1), "or has a link between"),
        (RidgeClassifier().fit(IRISES.data.iloc[:, :3], IRISES.target), "fitted on 3 features, and the model has 4"),
        (
            RidgeClassifier().fit(IRISES.data.to_numpy(), IRISES.target + 5),
            "classes 5, 6, 7 are not the model's 0, 1, 2",
        ),
        (NAMED, "the estimator has the feature 'a', and the model has not"),
        (np.zeros((3, 3)), "shape (3, 3), but the model needs (5, 3)"),
        ("zero", "cannot be read as numbers"),
        (LinearClassifier(4, ["p", "q", "r"]).module(), "the start model has other classes ('p')"),
        (LinearClassifier(list("abcd"), 3).module(), "the start model has other features ('a')"),
        (LinearClassifier(5, 3).module(), "the start model has other features ('5 in all')"),
        (KernelClassifier(4, 3).module(), "the start model has the feature map RandomFourier"),
    ],
    ids=lambda given: given[:40] if isinstance(given, str) else type(given).__name__,
)
def test_a_start_that_does_not_fit_is_refused_with_its_reason(start: object, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        LinearClassifier(4, 3, weights=start)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "start", "says"),
    [
        (
            KernelClassifier,
            fitted_on_irises(StandardScaler(), RidgeClassifier()),
            "and the model in those of RandomFouri",
        ),
        (KernelClassifier, LinearClassifier(4, 3).module(), "the result has the feature map identity"),
        (LinearRegressor, fitted_on_irises(StandardScaler(), RidgeClassifier()), "the estimator predicts 3 classes"),
        (
            LinearRegressor,
            LinearClassifier(4, 3).module(),
            "the result predicts classes, and a LinearRegressor numbers",
        ),
        (LinearClassifier, LinearRegressor(4).module(), "the result predicts numbers, and a LinearClassifier classes"),
        (LinearClassifier, Ridge().fit([[0.0], [1.0]], [0.0, 1.0]), "the estimator predicts 1 number(s)"),
    ],
)
def test_a_model_of_another_kind_is_not_described_by_it(kind: type, start: object, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        kind.from_fitted(start)
    assert says in str(caught.value)
