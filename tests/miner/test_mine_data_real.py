"""Real records from disk to a trained model: as good as scikit-learn's ridge on the same records in memory."""

import sqlite3

import duckdb
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from mine.data import Source, gather, inspect, match
from sonar.protocol.payloads import design_matrix, scaled_targets
from sonar.protocol.spec import Spec

L2 = 1e-3


def split(count, seed=0):
    """A third of the records to test on, the others to train on."""
    order = np.random.default_rng(seed).permutation(count)
    return order[: count // 3], order[count // 3 :]


def spec_of(data, names, kept, **changes) -> Spec:
    """A campaign on these features, standardised, trained to the end."""
    mean, spread = data.data[kept].mean(axis=0), data.data[kept].std(axis=0)
    features = tuple(
        {"name": name, "offset": float(a), "scale": float(b) or 1.0}
        for name, a, b in zip(names, mean, spread, strict=True)
    )
    values = {"name": "real", "features": features, "payout": {"target": 900_000}, "min_records": 50,
              "training": {"epochs": 1_000_000, "l2": L2}}  # fmt: skip
    return Spec.build(**{**values, **changes})


def trained(source, spec, targets):
    """The weights (features + 1, outputs) that a mine's whole training makes of zero, and the data set."""
    dataset = inspect("real", source, targets)
    gathered, _ = gather(dataset, match(dataset, spec), spec)
    return spec.training.schedule.training_map(gathered).constant, dataset


def reference(spec, features, targets):
    """The same by scikit-learn."""
    design = design_matrix(spec, features)
    model = Ridge(alpha=L2 * len(design), fit_intercept=False, solver="cholesky").fit(design, targets)
    return model.coef_.T


def test_breast_cancer_from_parquet_is_told_as_well_as_by_ridge_in_memory(tmp_path):
    data = load_breast_cancer()
    test, kept = split(len(data.data))
    names = [str(name) for name in data.feature_names]
    table = dict(zip(names, data.data[kept].T, strict=True)) | {"outcome": data.target[kept]}
    with duckdb.connect() as database:
        columns = ", ".join(f'"{name}"' for name in table)
        database.execute(f"CREATE TABLE t ({', '.join(f'{chr(34)}{name}{chr(34)} DOUBLE' for name in table)})")
        database.executemany(
            f"INSERT INTO t VALUES ({', '.join('?' * len(table))})", np.column_stack(list(table.values())).tolist()
        )
        database.execute(f"COPY (SELECT {columns} FROM t) TO '{tmp_path}/clinic.parquet'")
    spec = spec_of(data, names, kept, classes=("0", "1"), target_column="outcome")
    weights, dataset = trained(Source.of(tmp_path / "clinic.parquet"), spec, "outcome")
    assert dataset.records == len(kept) == 380
    np.testing.assert_allclose(weights, reference(spec, data.data[kept], np.eye(2)[data.target[kept]]), atol=1e-6)
    right = (design_matrix(spec, data.data[test]) @ weights).argmax(axis=1) == data.target[test]
    assert right.mean() > 0.93


def test_wine_from_json_lines_is_told_as_well_as_by_ridge_in_memory(tmp_path):
    import json

    data = load_wine()
    test, kept = split(len(data.data))
    lines = [
        json.dumps({**dict(zip(data.feature_names, row.tolist(), strict=True)), "grape": data.target_names[label]})
        for row, label in zip(data.data[kept], data.target[kept], strict=True)
    ]
    (tmp_path / "wine.jsonl").write_text("\n".join(lines) + "\n")
    spec = spec_of(data, data.feature_names, kept, classes=tuple(map(str, data.target_names)), target_column="grape")
    weights, _ = trained(Source.of(tmp_path / "wine.jsonl"), spec, "grape")
    np.testing.assert_allclose(weights, reference(spec, data.data[kept], np.eye(3)[data.target[kept]]), atol=1e-6)
    right = (design_matrix(spec, data.data[test]) @ weights).argmax(axis=1) == data.target[test]
    assert right.mean() > 0.95


def test_digits_as_images_on_disk_are_told_as_well_as_by_ridge_in_memory(tmp_path):
    data = load_digits()
    test, kept = split(len(data.data))
    data.data = data.data * 15  # 0 to 240, as an image has them
    for at in kept:
        place = tmp_path / "digits" / str(data.target[at])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.data[at].reshape(8, 8).astype(np.uint8)).save(place / f"{at}.png")
    spec = spec_of(
        data, [f"pixel {at}" for at in range(64)], kept, classes=tuple(map(str, range(10))),
        image={"width": 8, "height": 8}, target_column="label",
    )  # fmt: skip
    weights, dataset = trained(Source.of(tmp_path / "digits"), spec, ())
    assert dataset.records == len(kept) == 1198
    np.testing.assert_allclose(weights, reference(spec, data.data[kept], np.eye(10)[data.target[kept]]), atol=1e-6)
    right = (design_matrix(spec, data.data[test]) @ weights).argmax(axis=1) == data.target[test]
    assert right.mean() > 0.92


@pytest.mark.parametrize("on_bad", ["refuse", "drop"])
def test_diabetes_from_sqlite_is_predicted_as_well_as_by_ridge_in_memory(tmp_path, on_bad):
    data = load_diabetes(scaled=False)
    test, kept = split(len(data.data))
    path = tmp_path / "clinic.sqlite"
    columns = ", ".join(f'"{name}"' for name in [*data.feature_names, "progression"])
    with sqlite3.connect(path) as db:
        db.execute(f"CREATE TABLE patients ({columns})")
        rows = np.column_stack([data.data, data.target])[kept].tolist()
        spoilt = [[None, *row[1:]] for row in rows[:5]] if on_bad == "drop" else []
        db.executemany(f"INSERT INTO patients VALUES ({', '.join('?' * 11)})", rows + spoilt)
    db.close()
    spec = spec_of(
        data, data.feature_names, kept, metric="r2", targets=({"name": "progression", "offset": 150.0, "scale": 80.0},),
    )  # fmt: skip
    dataset = inspect("clinic", Source.of(path, table="patients"), "progression")
    gathered, read = gather(dataset, match(dataset, spec), spec, on_bad)
    assert dict(read.dropped) == ({"missing": 5} if on_bad == "drop" else {})
    weights = spec.training.schedule.training_map(gathered).constant
    wanted = scaled_targets(spec, data.target[:, None])
    np.testing.assert_allclose(weights, reference(spec, data.data[kept], wanted[kept]).reshape(-1, 1), atol=1e-6)
    assert r2_score(wanted[test], design_matrix(spec, data.data[test]) @ weights) > 0.4
