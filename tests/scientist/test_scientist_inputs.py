"""What a notebook hands in: every plausible shape is taken, every mistake gets its own sentence."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import torch

import pysonar
from pysonar._inputs import class_indices, feature_table
from pysonar._terms import deadline_at, parts_per_million, wei
from pysonar.creation import make_plan
from pysonar.errors import ModelError, TermsError, ValidationSetError
from pysonar.models import Head, LinearClassifier
from sonar.chain.records import NATIVE
from sonar.protocol.spec import Encoding, FourierMap, IdentityMap


class Frame:
    """What pandas and polars have in common: columns by name, and an array of all."""

    def __init__(self, columns: dict[object, object]) -> None:
        self.columns = list(columns)
        self._columns = columns

    def __getitem__(self, name: object) -> object:
        return self._columns[name]

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.column_stack(list(self._columns.values()))


NAMES = ("a", "b", "c")
TABLE = np.arange(12.0).reshape(4, 3)


def test_counts_become_names_that_mines_can_match() -> None:
    model = LinearClassifier(features=3, classes=2)
    assert model.features == ("x0", "x1", "x2")
    assert model.classes == ("0", "1")
    assert model.shape == (4, 2)
    assert not model.weights.any()


def test_a_metric_needs_records_of_every_class() -> None:
    standardised = LinearClassifier.standardised(3, 3, TABLE, metric="macro_f1")
    assert standardised.metric == "macro_f1"
    standardised.check_validation((TABLE, [0, 1, 2, 0]))
    with pytest.raises(ValidationSetError, match="no record of class '2', without which macro_f1 has no value"):
        standardised.check_validation((TABLE, [0, 1, 1, 0]))
    LinearClassifier(3, 3).check_validation((TABLE, [0, 1, 1, 0]))


def test_a_feature_map_is_given_by_its_name_or_as_the_spec_has_it() -> None:
    values = {"kind": "fourier", "count": 9, "gamma": 0.5}
    model = LinearClassifier(3, 2, feature_map=values)
    assert model.feature_map == FourierMap(count=9, gamma=0.5, seed=0)
    assert LinearClassifier(3, 2, feature_map=model.feature_map).feature_map == model.feature_map
    assert LinearClassifier.standardised(3, 2, TABLE, feature_map=values).shape == model.shape == (10, 2)
    assert LinearClassifier(3, 2).feature_map == IdentityMap()


def test_a_model_publishes_its_constants_in_the_spec() -> None:
    features = LinearClassifier(["a", "b"], 2, offset=[1, 2], scale=3).spec_features()
    assert [(f.name, f.offset, f.scale) for f in features] == [("a", 1.0, 3.0), ("b", 2.0, 3.0)]


def test_standardised_takes_mean_and_deviation_and_survives_a_constant_column() -> None:
    table = np.array([[1.0, 5.0], [3.0, 5.0]])
    model = LinearClassifier.standardised(2, 2, like=table)
    np.testing.assert_array_equal(model.offset, [2.0, 5.0])
    np.testing.assert_array_equal(model.scale, [1.0, 1.0])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"features": 0, "classes": 2}, "0 features"),
        ({"features": 2048, "classes": 2}, "2048 features"),
        ({"features": 3, "classes": 1}, "1 classes"),
        ({"features": "abc", "classes": 2}, "'abc' must be a number or a list"),
        ({"features": True, "classes": 2}, "must be a number or a list"),
        ({"features": None, "classes": 2}, "must be a number or a list"),
        ({"features": ["a", "a"], "classes": 2}, "'a' appears twice in features"),
        ({"features": 2, "classes": ["x", "x"]}, "'x' appears twice in classes"),
        ({"features": 2, "classes": 2, "metric": "r2"}, "the metric r2 scores numbers"),
        ({"features": 2, "classes": 2, "metric": "recall"}, "none of accuracy, balanced_accuracy, macro_f1, auc"),
        ({"features": 2, "classes": 2, "scale": [1.0, 0.0]}, "scale of feature 'x1' is 0.0"),
        ({"features": 2, "classes": 2, "scale": [1, 2, 3]}, "scale has shape (3,)"),
        ({"features": 2, "classes": 2, "offset": "much"}, "offset cannot be read as numbers"),
        ({"features": 2, "classes": 2, "offset": float("nan")}, "numbers in the offset that are not finite"),
        ({"features": 2, "classes": 2, "weights": np.zeros((2, 2))}, "shape (2, 2), but the model needs (3, 2)"),
        ({"features": 2, "classes": 2, "weights": np.full((3, 2), np.inf)}, "not finite"),
        (
            {"features": 2, "classes": 2, "feature_map": "fourier"},
            """the feature_map 'fourier' does not work: must be an object with fields; write it like {"kind": """,
        ),
        (
            {"features": 2, "classes": 2, "feature_map": {"kind": "fourier", "count": 0, "gamma": 1.0}},
            "fourier: count: must be at least 1",
        ),
        ({"features": 2, "classes": 2, "feature_map": {"kind": "fourier", "count": 5}}, "gamma: is missing"),
        (
            {"features": 64, "classes": 2, "feature_map": {"kind": "polynomial"}},
            "the polynomial map of 64 features gives 2144, above the limit of 2047: take fewer features",
        ),
        (
            {"features": 2, "classes": 2, "feature_map": {"kind": "polynomial"}, "weights": np.zeros((3, 2))},
            "shape (3, 2), but the model needs (6, 2)",
        ),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_with_its_reason(arguments: dict, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        LinearClassifier(**arguments)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("backbone", "arguments", "says"),
    [
        (torch.nn.Linear(4, 3), {}, "give takes=(1, 28, 28), or features=784"),
        (lambda x: x, {"features": 4}, "a function is no backbone: give a torch.nn.Module"),
        (torch.nn.Sequential(torch.nn.Bilinear(4, 4, 3)), {"features": 4}, "Bilinear"),
        (torch.nn.Linear(4, 3), {"features": 5}, "the backbone cannot be published"),
        (torch.nn.Linear(400, 600), {"features": 400}, "the backbone cannot be published: parameters"),
        (
            torch.nn.Linear(4, 3),
            {"takes": (4,), "features": 3},
            "the backbone takes 4 numbers, and there are 3 features",
        ),
    ],
    ids=["no shape", "no module", "unknown layer", "another width", "too large", "other features"],
)
def test_a_backbone_that_cannot_be_published_is_refused_with_its_reason(backbone, arguments, says) -> None:
    with pytest.raises(ModelError) as caught:
        Head(backbone, 2, **arguments)
    assert says in str(caught.value)


def test_start_weights_above_the_bound_are_refused() -> None:
    model = LinearClassifier(1, 2, weights=[[65.0, 0.0], [0.0, 0.0]])
    with pytest.raises(ModelError, match="largest start weight is 65"):
        model.check_weights(Encoding())


def test_start_weights_may_be_a_tensor_that_is_being_trained() -> None:
    weights = torch.ones(2, 2, requires_grad=True)
    np.testing.assert_array_equal(LinearClassifier(1, 2, weights=weights).weights, np.ones((2, 2)))


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        TABLE.tolist(),
        TABLE.astype(np.int64),
        torch.tensor(TABLE, requires_grad=True),
        Frame(dict(zip(NAMES, TABLE.T, strict=True))),
        Frame({"c": TABLE[:, 2], "more": ["text"] * 4, "b": TABLE[:, 1], "a": TABLE[:, 0]}),
        Frame(dict(enumerate(TABLE.T))),
    ],
    ids=["array", "list", "integers", "tensor", "named frame", "shuffled frame with more columns", "unnamed frame"],
)
def test_features_come_in_every_usual_container(table: object) -> None:
    np.testing.assert_array_equal(feature_table(table, NAMES), TABLE)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (TABLE[:, :2], "shape (4, 2), but the model takes (records, 3)"),
        (TABLE[0], "shape (3,)"),
        ([[1, 2, 3], [4, 5]], "the values make no table"),
        (np.ma.masked_greater(TABLE, 9), "2 of the values are masked: remove or fill them"),
        (pd.DataFrame(TABLE[:, [0, 1, 2, 0]], columns=list("abca")), "the table has 2 columns 'a'"),
        (pd.DataFrame(TABLE, columns=list("abc")).assign(b=pd.Timestamp("2020-01-01")), "feature 'b' holds times"),
        (pd.DataFrame(TABLE, columns=list("abc")).assign(b=pd.Categorical(["x"] * 4)), "not all numbers"),
        ([["1", "2", "3"]], "not numbers"),
        ([["p", "q", "r"]], "not all numbers"),
        (TABLE.astype(np.complex128), "Complex data not supported"),
        (np.where(TABLE == 7, np.nan, TABLE), "feature 'b' of record 2 is NaN (1 such values in all)"),
        (np.where(TABLE > 9, np.inf, TABLE), "feature 'b' of record 3 is inf (2 such values in all)"),
        (Frame({"a": TABLE[:, 0], "b": TABLE[:, 1], "z": TABLE[:, 2]}), "no column 'c'"),
        (Frame({"z": TABLE[:, 0]}), "no column 'a'"),
    ],
)
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_features_that_do_not_fit_are_refused_with_their_reason(table: object, says: str) -> None:
    with pytest.raises(ValidationSetError) as caught:
        feature_table(table, NAMES)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "classes", "indices"),
    [
        ([0, 2, 1], ("cat", "dog", "owl"), [0, 2, 1]),
        ([0.0, 2.0, 1.0], ("cat", "dog", "owl"), [0, 2, 1]),
        ([[0], [2], [1]], ("cat", "dog", "owl"), [0, 2, 1]),
        (["dog", "cat", "owl"], ("cat", "dog", "owl"), [1, 0, 2]),
        (np.array(["dog", "cat", "owl"], dtype=object), ("cat", "dog", "owl"), [1, 0, 2]),
        ([7, 3, 7], ("3", "7"), [1, 0, 1]),
        ([-1, 1, 1], ("-1", "1"), [0, 1, 1]),
        (["7", "3", "7"], ("3", "7"), [1, 0, 1]),
        ([True, False, True], ("no", "yes"), [1, 0, 1]),
        (torch.tensor([1, 0, 1]), ("no", "yes"), [1, 0, 1]),
    ],
)
def test_labels_are_names_or_indices(labels: object, classes: tuple[str, ...], indices: list[int]) -> None:
    np.testing.assert_array_equal(class_indices(labels, classes, 3), indices)


@pytest.mark.parametrize(
    ("labels", "classes", "says"),
    [
        ([0, 1, 3], ("cat", "dog", "owl"), "label 3 is outside the model's 3 classes"),
        ([0, -1, 1], ("cat", "dog", "owl"), "label -1 is outside"),
        ([0, 1, 3], ("0", "1", "2"), "label '3' is not among the model's classes 0, 1, 2"),
        (["cat", "bat", "rat"], ("cat", "dog"), "label 'bat' is not among the model's classes cat, dog (2 such"),
        ([0.5, 1, 1], ("cat", "dog"), "label 0.5 is not a whole number"),
        ([np.nan, 1, 1], ("cat", "dog"), "label nan is not a whole number"),
        ([0, 1], ("cat", "dog"), "there are 3 records"),
        (np.eye(3), ("cat", "dog", "owl"), "give one label a record"),
        ([1j, 1, 1], ("cat", "dog"), "name no class"),
    ],
)
def test_labels_outside_the_classes_are_refused(labels: object, classes: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValidationSetError) as caught:
        class_indices(labels, classes, 3)
    assert says in str(caught.value)


@pytest.mark.parametrize("classes", [(1, 2, 3), (-1, 0, 1), (2, 1, 0), ("10", "9", "8"), (1.0, 2.0, 3.0)], ids=str)
def test_classes_named_by_whole_numbers_are_scored_by_their_names_from_the_start(classes: tuple) -> None:
    rng, places = np.random.default_rng(0), np.arange(300) % 3
    features = rng.normal(size=(300, 3)) + 3 * np.eye(3)[places]
    labels = np.array([int(name) for name in classes])[places]
    model = LinearClassifier(3, classes).fitted_on(features, labels)
    assert model.classes == tuple(str(int(name)) for name in classes)
    table, indices = model.check_validation((features, labels))
    np.testing.assert_array_equal(indices, places)
    score = model.module().score(features, labels)
    assert score > 0.9
    assert model.start_score(table, indices) == model.module().campaign_score(features, labels) == pytest.approx(score)
    plan = make_plan(
        LinearClassifier(3, classes), (features, labels), bounty=1, token=NATIVE, target=0.9, deadline="2h", now=0
    )
    assert plan.spec.classes == model.classes


def test_a_validation_set_that_the_clip_would_blind_is_refused() -> None:
    table = np.array([[0.0, 1e6], [1.0, 2e6]])
    with pytest.raises(ValidationSetError, match=r"feature 'x1' lies beyond 16 scales on 100%"):
        LinearClassifier(2, 2).check_validation((table, [0, 1]))
    LinearClassifier.standardised(2, 2, like=table).check_validation((table, [0, 1]))


@pytest.mark.parametrize(
    ("validation", "says"),
    [
        (TABLE, "must be a pair"),
        ((TABLE,), "must be a pair"),
        ((TABLE[:1], [0]), "1 records"),
        ((TABLE, [1, 1, 1, 1]), "every validation record is of class '1'"),
    ],
)
def test_a_validation_set_that_says_nothing_is_refused(validation: object, says: str) -> None:
    with pytest.raises(ValidationSetError) as caught:
        LinearClassifier(3, 2).check_validation(validation)
    assert says in str(caught.value)


def test_amounts_are_whole_wei() -> None:
    assert wei(pysonar.ether("0.5"), "bounty") == 5 * 10**17
    assert wei(np.int64(7), "bounty") == 7
    for wrong in (1.0, -1, True, "1"):
        with pytest.raises(TermsError, match=r"pysonar\.ether"):
            wei(wrong, "bounty")


def test_targets_are_fractions_up_to_one() -> None:
    assert parts_per_million(0.92, "target") == 920_000
    assert parts_per_million(1, "target") == 1_000_000
    assert parts_per_million(np.float32(0.5), "target") == 500_000
    for wrong in (0, -0.1, 1.01, 92, float("nan"), "0.9", True, 1e-9):
        with pytest.raises(TermsError, match=r"0\.92 for 92%"):
            parts_per_million(wrong, "target")


def test_deadlines_are_durations_seconds_or_datetimes() -> None:
    assert deadline_at("2h", 1000) == 8200
    assert deadline_at(60, 1000) == 1060
    assert deadline_at(timedelta(hours=2), 1000) == deadline_at(pd.Timedelta("2h"), 1000) == 8200
    assert deadline_at(datetime.fromtimestamp(5000, tz=UTC), 1000) == 5000
    assert deadline_at(datetime.fromtimestamp(5000), 1000) == 5000


@pytest.mark.parametrize("wrong", [0, -5, "0s", "soon", 1.5, None, True, datetime(1970, 1, 1, 0, 10, tzinfo=UTC)])
def test_a_deadline_that_is_no_time_ahead_is_refused(wrong: object) -> None:
    with pytest.raises(TermsError, match="deadline"):
        deadline_at(wrong, 1000)


def test_errors_leave_with_the_scientists_exit_code() -> None:
    assert all(error.exit_code == 10 for error in (ModelError, TermsError, ValidationSetError))


@pytest.mark.parametrize("wrong", [0, -5, np.int64(-5)])
def test_negative_seconds_are_told_from_what_is_no_duration(wrong: object) -> None:
    with pytest.raises(TermsError, match=rf"the deadline {wrong} is not ahead: give '2h', seconds from now above 0"):
        deadline_at(wrong, 1000)


def test_columns_of_other_names_are_not_taken_by_their_places() -> None:
    table = pd.DataFrame([[1.0, 2.0]], columns=["age", "pressure"])
    assert feature_table(table, ["pressure", "age"]).tolist() == [[2.0, 1.0]]
    with pytest.raises(ValidationSetError, match="columns age, pressure, and the model the features x0, x1"):
        feature_table(table, ["x0", "x1"])
    assert feature_table(table.to_numpy(), ["x0", "x1"]).tolist() == [[1.0, 2.0]]
    assert feature_table(pd.DataFrame([[1.0, 2.0]]), ["x0", "x1"]).tolist() == [[1.0, 2.0]]


def test_a_head_takes_its_public_scaling_from_a_table():
    table = np.random.default_rng(0).normal(5.0, 3.0, size=(40, 4))
    backbone = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh())
    head = Head.standardised(4, 3, table, backbone=backbone, l2=0.1)
    np.testing.assert_array_equal(head.offset, table.mean(axis=0))
    np.testing.assert_array_equal(head.scale, table.std(axis=0))
    assert (head.shape, head.training["l2"]) == ((7, 3), 0.1)
