"""What the mechanism reads of files: the same records are recognised in every format, and summed as trained on."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image

from mine.data import Dataset, Source, inspect, match
from mine.errors import DataError
from mine.privacy.clipping import Clip, IntegerSums
from mine.privacy.reading import contents_of, sums_of
from mine.privacy.sketch import Contents, share_records
from sonar.protocol.payloads import design_matrix
from sonar.protocol.spec import Feature, ImageSize, Payout, Spec
from sonar.units import PPM

KEY = b"k" * 32
CLIP = Clip.of(3, 1.0, 1.0)


def write_csv(path: Path, seed: int = 1, rows: slice = slice(None)) -> Path:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(400, 3)).round(4)
    lines = [",".join([*map(str, row), ("no", "yes")[at % 2]]) for at, row in enumerate(values.tolist())]
    path.write_text("\n".join(["a,b,c,target", *lines[rows]]) + "\n")
    return path


def spec_of(**more: object) -> Spec:
    values = {
        "name": "any", "features": tuple(Feature(name=name) for name in "abc"), "classes": ("no", "yes"),
        "payout": Payout(target=PPM), "min_records": 2,
    }  # fmt: skip
    return Spec.build(**(values | more))


def held(dataset: Dataset) -> Contents:
    return contents_of(KEY, dataset)


def copied(path: Path, to: Path, query: str) -> Path:
    table = f"read_csv('{path}')"
    duckdb.execute(f"COPY ({query.format(file=table)}) TO '{to}'")
    return to


COPIES: dict[str, Callable[[Path, Path], Path]] = {
    "parquet": lambda path, folder: copied(path, folder / "copy.parquet", "SELECT * FROM {file}"),
    "shuffled": lambda path, folder: copied(path, folder / "copy.csv", "SELECT * FROM {file} ORDER BY hash(a)"),
    "renamed": lambda path, folder: copied(
        path, folder / "copy.csv", "SELECT c AS x, a AS y, b AS z, target FROM {file}"
    ),
    "single precision": lambda path, folder: copied(
        path, folder / "copy.parquet", "SELECT a::FLOAT AS a, b::FLOAT AS b, c::FLOAT AS c, target FROM {file}"
    ),
    "a few of them": lambda path, folder: copied(path, folder / "copy.csv", "SELECT * FROM {file} LIMIT 20"),
    "a column less": lambda path, folder: copied(path, folder / "copy.csv", "SELECT a, target FROM {file}"),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
def test_records_are_recognised_in_another_file(tmp_path: Path, copy: Callable[[Path, Path], Path]) -> None:
    original = write_csv(tmp_path / "a.csv")
    again = inspect("again", copy(original, tmp_path), "target")
    assert share_records(held(inspect("a", original, "target")), held(again))


def test_an_exact_copy_has_the_same_digest_and_other_records_share_nothing(tmp_path: Path) -> None:
    original = held(inspect("a", write_csv(tmp_path / "a.csv"), "target"))
    assert held(inspect("b", write_csv(tmp_path / "b.csv"), "target")).digest == original.digest
    other = held(inspect("c", write_csv(tmp_path / "c.csv", seed=2), "target"))
    assert not share_records(original, other)
    halves = [held(inspect("h", write_csv(tmp_path / f"{at}.csv", rows=slice(at * 200, at * 200 + 200)), "target"))
              for at in (0, 1)]  # fmt: skip
    assert not share_records(*halves)
    assert all(share_records(original, half) for half in halves)


def test_a_column_of_few_values_does_not_make_two_data_sets_one(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        rng = np.random.default_rng(seed)
        lines = [f"{rng.integers(0, 90)},{value},{at % 2}" for at, value in enumerate(rng.normal(size=300))]
        (tmp_path / f"{name}.csv").write_text("age,marker,target\n" + "\n".join(lines) + "\n")
    one, other = (held(inspect(name, tmp_path / f"{name}.csv", "target")) for name in "ab")
    assert not share_records(one, other)


def test_images_are_recognised_whatever_size_a_campaign_wants(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for folder in ("first", "again", "other"):
        for at in range(40):
            place = tmp_path / folder / str(at % 2)
            place.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 255, (12, 12), dtype=np.uint8)
            if folder == "again":
                (place / f"renamed{39 - at}.png").write_bytes(
                    (tmp_path / "first" / str(at % 2) / f"{at}.png").read_bytes()
                )
            else:
                Image.fromarray(pixels).save(place / f"{at}.png")
    first, again, other = (held(inspect(name, Source.of(tmp_path / name))) for name in ("first", "again", "other"))
    assert first.digest == again.digest
    assert not share_records(first, other)


def test_sums_are_those_of_the_records_as_training_sees_them(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv")
    dataset, spec = (
        inspect("a", path, "target"),
        spec_of(features=(Feature(name="b", offset=0.5, scale=2.0), Feature(name="a"))),
    )
    told: list[float] = []
    sums, read = sums_of(dataset, match(dataset, spec), spec, "refuse", CLIP, told.append)
    values = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(1, 0))
    expected = IntegerSums.of([(design_matrix(spec, values), np.eye(2)[np.arange(400) % 2])], 3, 2, CLIP)
    assert (sums.gram == expected.gram).all()
    assert (sums.moment == expected.moment).all()
    assert sums.records == read.used == 400
    assert told[-1] == 1


def test_bad_records_are_dropped_or_refused_as_the_policy_says(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv")
    path.write_text(path.read_text() + ",1,1,yes\n")
    dataset, spec = inspect("a", path, "target"), spec_of()
    sums, read = sums_of(dataset, match(dataset, spec), spec, "drop", CLIP)
    assert sums.records == 400
    assert dict(read.dropped) == {"missing": 1}
    with pytest.raises(DataError, match="record 401 has nothing in 'a'"):
        sums_of(dataset, match(dataset, spec), spec, "refuse", CLIP)
    assert held(dataset).records == 401


def test_a_campaign_for_images_is_summed_at_its_own_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for at in range(20):
        place = tmp_path / "images" / ("no", "yes")[at % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9, 9), dtype=np.uint8)).save(place / f"{at}.png")
    dataset = inspect("images", Source.of(tmp_path / "images"))
    size = ImageSize(width=2, height=2, channels=1)
    spec = spec_of(features=tuple(Feature(name=f"p{at}", scale=255.0) for at in range(4)), image=size)
    sums, _ = sums_of(dataset, match(dataset, spec), spec, "refuse", Clip.of(4, 1.0, 1.0))
    assert sums.gram.shape == (5, 5)
    assert sums.records == 20
