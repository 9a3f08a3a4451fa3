"""The process apart recognises and sums records for the mechanism, and what it says is checked."""

from pathlib import Path

import numpy as np
import psycopg
import pytest

from mine.apart.private import dump_contents, dump_sums, load_contents, load_sums
from mine.apart.workroom import Limits, Workroom
from mine.data import Source, inspect, match
from mine.gathering import Gatherer
from mine.ledger import Ledger
from mine.policy import Policy
from mine.privacy.clipping import SENSITIVITY, Clip
from mine.privacy.reading import contents_of, sums_of
from sonar.protocol.spec import Feature, Payout, Spec
from sonar.sandbox import FrameError
from sonar.storage import open_store
from sonar.units import PPM

KEY, CLIP = b"k" * 32, Clip.of(2, 1.0, 1.0)
SPEC = Spec.build(
    name="any", features=(Feature(name="a"), Feature(name="b")), classes=("0", "1"), payout=Payout(target=PPM),
    min_records=2,
)  # fmt: skip


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    lines = [f"{a},{b},{at % 2}" for at, (a, b) in enumerate(rng.normal(size=(200, 2)).tolist())]
    path = tmp_path / "data.csv"
    path.write_text("\n".join(["a,b,target", *lines]) + "\n")
    return path


def test_a_process_apart_says_the_same_as_this_one(csv: Path) -> None:
    dataset, warned = inspect("d", csv, "target"), []
    room = Workroom(warned.append)
    contents = room.recognise(KEY, dataset, Limits(), lambda _: None)
    here = contents_of(KEY, dataset)
    assert contents.digest == here.digest
    assert (contents.rows == here.rows).all()
    told: list[float] = []
    sums, read = room.sum(dataset, match(dataset, SPEC), SPEC, CLIP, Limits(), told.append)
    expected, _ = sums_of(dataset, match(dataset, SPEC), SPEC, CLIP)
    assert (sums.gram == expected.gram).all()
    assert (sums.moment == expected.moment).all()
    assert sums.records == read.used == 200


def test_who_renews_has_the_records_of_a_server_noised_again_when_they_changed(
    tmp_path: Path, postgres_url: str
) -> None:
    url = postgres_url.replace("postgresql+psycopg", "postgresql")
    room = Workroom(lambda _: None, insecurely_in_this_process=True)
    with (
        psycopg.connect(url, autocommit=True) as database,
        Ledger(tmp_path / "mine.db") as ledger,
        open_store("memory:") as store,
    ):
        database.execute(
            "CREATE TABLE t AS SELECT sin(n) AS a, cos(n) AS b, n % 2 AS target FROM generate_series(1, 200) n"
        )
        dataset = inspect("d", Source.of(url, table="t"), "target")
        gatherer = Gatherer(ledger, store, room, lambda *_: None)
        for renew, charges in ((False, [1, 1]), (True, [1, 2])):
            policy = Policy.model_validate({"privacy": {"mode": "on", "renew": renew}})
            for expected in charges:
                gatherer.gather(dataset, match(dataset, SPEC), SPEC, policy)
                assert len(ledger.charges(1)) == expected
                if renew:
                    database.execute("INSERT INTO t VALUES (0.5, 0.25, 1)")


def test_sums_that_no_clipped_records_have_are_refused(csv: Path) -> None:
    dataset = inspect("d", csv, "target")
    sums, _ = sums_of(dataset, match(dataset, SPEC), SPEC, CLIP)
    body, blobs = dump_sums(sums)
    assert (load_sums(body, blobs, SPEC, CLIP).gram == sums.gram).all()
    large, lopsided = sums.gram.copy(), sums.gram.copy()
    large[0, 0] = 200 * SENSITIVITY + 1
    lopsided[0, 1] += 1
    for gram in (large, lopsided):
        with pytest.raises(FrameError, match="200 clipped records cannot have"):
            load_sums(body, (gram.tobytes(), blobs[1]), SPEC, CLIP)
    for bad_body, bad_blobs in (
        ({"records": -1}, blobs), ({"records": True}, blobs), ({}, blobs), (body, blobs[:1]),
        (body, (blobs[0][:-8], blobs[1])), ({**body, "more": 1}, blobs),
    ):  # fmt: skip
        with pytest.raises(FrameError, match="there are no sums in it"):
            load_sums(bad_body, bad_blobs, SPEC, CLIP)


def test_sketches_that_are_none_are_refused(csv: Path) -> None:
    contents = contents_of(KEY, inspect("d", csv, "target"))
    body, (sketch,) = dump_contents(contents)
    assert load_contents(body, (sketch,)).digest == contents.digest
    words = np.frombuffer(sketch, "<u8").copy()
    words[[-1, -2]] = words[[-2, -1]]
    for bad_body, bad in (
        (body, b""), (body, sketch[:-8]), (body, sketch + bytes(8)), (body, words.tobytes()), (body, b"\xff" * 64),
        ({**body, "digest": "00"}, sketch), ({**body, "records": -1}, sketch), ({"records": 3}, sketch),
    ):  # fmt: skip
        with pytest.raises(FrameError, match="there is no sketch in it"):
            load_contents(bad_body, (bad,))
