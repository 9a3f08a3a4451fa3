"""What the mechanism reads of files: the same records are recognised in every format, and summed as trained on."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image

from mine.data import Dataset, Source, inspect, match
from mine.data.footprint import places_of
from mine.privacy.clipping import Clip, IntegerSums
from mine.privacy.declared import declared
from mine.privacy.reading import contents_of, stand_in, sums_of
from mine.privacy.sketch import Contents, Sketcher, share_records
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
    sums, read = sums_of(dataset, match(dataset, spec), spec, CLIP, told.append)
    values = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(1, 0))
    expected = IntegerSums.of([(design_matrix(spec, values), np.eye(2)[np.arange(400) % 2])], 3, 2, CLIP)
    assert (sums.gram == expected.gram).all()
    assert (sums.moment == expected.moment).all()
    assert sums.records == read.used == 400
    assert told[-1] == 1


def test_no_campaign_chooses_by_ranges_and_types_which_records_count(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv")
    path.write_text(path.read_text() + ",1,1,yes\n3,9,nan,no\n1,1,1,\n1,1,1,perhaps\n")
    dataset = inspect("a", path, "target")
    features = (
        Feature(name="a", minimum=-0.25, maximum=0.5), Feature(name="b", type="integer", offset=2.0),
        Feature(name="c", minimum=1.0, maximum=2.0),
    )  # fmt: skip
    spec = spec_of(features=features)
    sums, read = sums_of(dataset, match(declared(dataset, 2), spec), spec, CLIP)
    values = np.vstack([np.loadtxt(path, delimiter=",", skiprows=1, usecols=(0, 1, 2), max_rows=400),
                        [[0.0, 1, 1], [3, 9, 1.5]]])  # fmt: skip
    expected = np.column_stack([values[:, 0].clip(-0.25, 0.5), np.rint(values[:, 1]), values[:, 2].clip(1, 2)])
    classes = np.eye(2)[[*(np.arange(400) % 2), 1, 0]]
    wanted = IntegerSums.of([(design_matrix(spec, expected), classes)], 4, 2, CLIP)
    assert (sums.gram == wanted.gram).all()
    assert (sums.moment == wanted.moment).all()
    assert sums.records == read.used == 402
    assert dict(read.dropped) == {"no label or unknown class": 2}


@pytest.mark.parametrize(
    ("feature", "taken"),
    [
        (Feature(name="a"), 0.0),
        (Feature(name="a", offset=3.5), 3.5),
        (Feature(name="a", offset=52.0, minimum=0, maximum=120), 52.0),
        (Feature(name="a", minimum=40, maximum=90), 65.0),
        (Feature(name="a", minimum=40), 40.0),
        (Feature(name="a", type="boolean"), 0.5),
    ],
)
def test_a_gap_is_filled_with_what_the_campaign_declares_and_never_with_what_stands_in_the_data(
    feature: Feature, taken: float
) -> None:
    assert stand_in(feature) == taken


def test_whether_a_data_set_fits_does_not_depend_on_its_least_values_types_and_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"{at + 40},{at}.5,{at % 2}" for at in range(105)]
    path.write_text("\n".join(["age,dose,outcome", "31,7.25,2", *rows]) + "\n")
    seen = declared(inspect("a", path, "outcome"), 5)
    assert (seen.records, [label for label, _ in seen.labels]) == (100, ["0", "1"])
    for high in (30.0, 31.0, 74.5, 1e6):
        for kind in ("number", "integer"):
            features = (Feature(name="age", minimum=high - 1, maximum=high), Feature(name="dose", type=kind))
            spec = spec_of(features=features, classes=("0", "1"), target_column="outcome", min_records=100)
            assert match(seen, spec).columns == ("age", "dose")
    path.write_text("\n".join(["age,dose,outcome", *rows]) + "\n")
    without = declared(inspect("a", path, "outcome"), 5)
    assert (without.records, without.labels) == (seen.records, seen.labels)
    assert [column.name for column in without.columns] == [column.name for column in seen.columns]


def held_of(values: np.ndarray) -> Contents:
    sketcher = Sketcher(KEY, values.shape[1])
    for start in range(0, len(values), 5000):
        sketcher.add(values[start : start + 5000])
    return sketcher.finish()


def coarse(seed: int, count: int = 20_190) -> np.ndarray:
    """Records of small whole numbers, nearly all distinct, as of a survey."""
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.integers(0, most, count) for most in (72, 2, 30, 100, 4, 50)]).astype(float)


@pytest.mark.parametrize(
    ("first", "second"),
    [((0, 1, 2, 3, 4), (0, 1, 2, 3)), ((0, 1, 2, 3, 4), (0, 1, 2, 3, 5)), ((0, 1, 2, 3, 4, 5), (0, 1, 2, 3, 5))],
    ids=["a column less", "a column exchanged, as with another target", "a column more"],
)
def test_coarse_records_are_recognised_with_a_column_left_out(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    values = coarse(1)
    assert share_records(held_of(values[:, first]), held_of(values[:, second]))


def test_coarse_records_of_others_are_not_taken_for_the_same() -> None:
    assert not share_records(held_of(coarse(1)), held_of(coarse(2)))
    others = coarse(2) + np.array([0, 0, 0, 0, 0, 60])
    for of_one, of_other in (((0, 1, 2, 3, 4), (0, 1, 2, 3, 5)), ((0, 1, 2, 3, 4), (0, 1, 2, 3))):
        assert not share_records(held_of(coarse(1)[:, of_one]), held_of(others[:, of_other]))


@pytest.mark.parametrize(("shared", "known"), [(0, False), (16, True), (150, True)])
def test_sixteen_of_many_records_are_enough_where_no_two_are_alike(shared: int, known: bool) -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(20_000, 6)).round(3), rng.normal(size=(20_000, 6)).round(3)
    other[:shared] = one[:shared]
    assert share_records(held_of(one), held_of(other)) is known


def test_two_queries_of_one_database_are_one_place(tmp_path: Path) -> None:
    path, link = tmp_path / "h.db", tmp_path / "link.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE v (a REAL, b REAL)")
    link.symlink_to(path)
    queries = [Source.of(place, query=query) for place in (path, link)
               for query in ("SELECT a FROM v", "SELECT b FROM v WHERE 1 = 1")]  # fmt: skip
    assert {places_of(source) for source in queries} == {(str(path.resolve()),)}


def test_files_are_places_whatever_pattern_or_query_reads_them(tmp_path: Path) -> None:
    for name in ("jan", "feb"):
        write_csv(tmp_path / f"{name}.csv")
        copied(tmp_path / f"{name}.csv", tmp_path / f"{name}.parquet", "SELECT * FROM {file}")
    jan, feb = (str((tmp_path / f"{name}.parquet").resolve()) for name in ("jan", "feb"))
    assert places_of(Source.of(tmp_path / "*.parquet")) == (feb, jan)
    assert places_of(Source.of(tmp_path / "jan.parquet")) == (jan,)
    assert places_of(Source.of(tmp_path, query="SELECT a, target FROM 'jan.parquet'")) == (jan,)


def test_a_server_and_its_database_are_a_place_in_whatever_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)

    def of(url: str) -> str:
        (place,) = places_of(Source.of(url, query="SELECT 1"))
        return place

    same = [
        "postgresql://ann@db.example/clinic", "postgres://bob@DB.example:5432/clinic?sslmode=require",
        "postgresql:///clinic?host=db.example", "postgresql://ann@/?host=db.example&dbname=clinic&port=5432",
    ]  # fmt: skip
    assert {of(url) for url in same} == {"postgresql://db.example:5432/clinic"}
    here = ["postgresql:///clinic", "postgresql://localhost/clinic", "postgresql://%2Frun%2Fpg/clinic",
            "postgresql://[::1]/clinic", "postgresql://127.0.0.1:5432/clinic"]  # fmt: skip
    assert {of(url) for url in here} == {"postgresql://localhost:5432/clinic"}
    assert of("postgresql://clinic@localhost") == of("postgresql://localhost/clinic")
    others = ["postgresql://db.example/other", "postgresql://db.example:5433/clinic", "postgresql://db2.example/clinic"]
    assert len({of(url) for url in (*others, *same)}) == 4
    monkeypatch.setenv("PGHOST", "db.example")
    assert of("postgresql:///clinic") == "postgresql://db.example:5432/clinic"
    monkeypatch.delenv("PGHOST")
    (tmp_path / "services").write_text("[clinic]\nhost=db.example\ndbname=clinic\n[port]\nhost=db.example\nport=5433\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    more = [
        "postgresql:///?service=clinic", "postgresql:///clinic?service=clinic",
        "postgresql://alias/x?host=db.example&dbname=clinic",
        "postgresql://db.example.:05432/clinic", "postgresql://db.example/?service=clinic",
    ]  # fmt: skip
    assert {of(url) for url in more} == {"postgresql://db.example:5432/clinic"}
    assert of("postgresql:///clinic?service=port") == "postgresql://db.example:5433/clinic"
    monkeypatch.setenv("PGSERVICE", "clinic")
    assert of("postgresql:///") == "postgresql://db.example:5432/clinic"


def test_a_campaign_for_images_is_summed_at_its_own_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for at in range(20):
        place = tmp_path / "images" / ("no", "yes")[at % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9, 9), dtype=np.uint8)).save(place / f"{at}.png")
    dataset = inspect("images", Source.of(tmp_path / "images"))
    size = ImageSize(width=2, height=2, channels=1)
    features = tuple(Feature(name=f"p{at}", scale=255.0) for at in range(4))
    spec = spec_of(features=features, image=size, target_column="label")
    sums, _ = sums_of(dataset, match(dataset, spec), spec, Clip.of(4, 1.0, 1.0))
    assert sums.gram.shape == (5, 5)
    assert sums.records == 20
