"""Folders of images: pixels as the campaign sizes them, labels by folder or list, and files that mean harm."""

import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mine.data import Source, file_state, gather, inspect, match, watching
from mine.errors import DataError
from sonar.protocol.spec import Spec


def spec(width=2, height=2, channels=1, **changes) -> Spec:
    count = width * height * channels
    # Twice the largest pixel, so that nothing is clipped and sums can be told exactly.
    values = {
        "name": "scans", "features": tuple({"name": f"p{at}", "scale": 512.0} for at in range(count)),
        "image": {"width": width, "height": height, "channels": channels}, "classes": ("cat", "dog"),
        "target_column": "label", "min_records": 2, "payout": {"target": 900_000},
    }  # fmt: skip
    return Spec.build(**{**values, **changes})


def save(path, pixels, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8), mode).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two images of two classes, 2 x 2 and grey."""
    place = tmp_path / "scans"
    save(place / "cat" / "a.png", [[0, 64], [128, 255]])
    save(place / "dog" / "b.bmp", [[1, 2], [3, 4]])
    return place


def pixels_of(dataset, of, on_bad="refuse"):
    """The sum over all images of each feature, in pixels; and what was read."""
    found, read = gather(dataset, match(dataset, of), of, on_bad)
    return (found.gram[-1, :-1] * 512).round(6).tolist(), read


def test_sub_folders_are_labels_and_images_of_the_size_keep_their_pixels(folder):
    dataset = inspect("scans", Source.of(folder))
    assert (dataset.records, dataset.labels, dataset.targets) == (2, (("cat", 1), ("dog", 1)), ("label",))
    sums, read = pixels_of(dataset, spec())
    assert sums == [1, 66, 131, 259]
    assert (read.kind, read.rows, read.used) == ("images", 2, 2)


def test_a_list_gives_labels_and_numbers(folder):
    (folder / "labels.csv").write_text("file,kind,age\ncat/a.png,cat,3\ndog/b.bmp,dog,5.5\n")
    dataset = inspect("scans", Source.of(folder), "kind")
    assert dict(dataset.labels) == {"cat": 1, "dog": 1}
    of = spec(metric="r2", classes=(), targets=({"name": "age", "scale": 10.0},))
    found, _ = gather(inspect("scans", Source.of(folder), "age"), match(inspect("s", Source.of(folder), "age"), of), of)
    assert found.moment[-1].tolist() == pytest.approx([0.85])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must name the file"),
        ("file\n", "must name the file"),
        ("file,label\n../secret.png,cat\n", "line 2 names '../secret.png'"),
        ("file,label\n/etc/passwd,cat\n", "inside of the folder"),
        ("file,label\ncat/a.png,cat\ncat/a.png,dog\n", "a second time"),
        ("file,label\ncat/a.png\n", "line 2 has 1 cells"),
        ("file,label\ncat/none.png,cat\ncat/a.png,dog\n", "none.png' cannot be read"),
        ('file,label\n"cat/a.png,cat\n', "not a readable CSV"),
        ("file,label,Label\n", "twice"),
        ("file,label\n", "no images"),
    ],
)
def test_a_bad_list_is_refused_with_its_line(folder, text, says):
    (folder / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        inspect("scans", Source.of(folder))


def test_an_image_of_another_size_is_resized_over_the_area_of_each_pixel(tmp_path):
    place = tmp_path / "scans"
    save(place / "cat" / "a.png", np.full((40, 60), 100))
    save(place / "dog" / "b.png", np.kron([[0, 200], [200, 0]], np.ones((30, 30))))
    dataset = inspect("scans", Source.of(place))
    # A triangle of twice the new pixel's width around its middle, as far as the image goes: on each axis a part of it
    # lies in the other half.
    weights = 1 - np.abs(np.arange(45) + 0.5 - 15) / 30
    other = weights[30:].sum() / weights.sum()
    near, far = 200 * 2 * other * (1 - other), 200 * (other**2 + (1 - other) ** 2)
    sums, _ = pixels_of(dataset, spec())
    assert sums == pytest.approx([100 + near, 100 + far, 100 + far, 100 + near], abs=1.5)
    assert pixels_of(dataset, spec())[0] == sums, "the same each time"


def test_colours_become_grey_or_three_channels_side_by_side(tmp_path):
    place = tmp_path / "scans"
    save(place / "cat" / "a.png", [[[255, 0, 0], [0, 255, 0]]])
    save(place / "dog" / "b.png", [[7, 9]])
    dataset = inspect("scans", Source.of(place))
    assert pixels_of(dataset, spec(2, 1, 3))[0] == [262, 7, 7, 9, 264, 9]
    assert pixels_of(dataset, spec(2, 1))[0] == [76 + 7, 150 + 9]  # ITU-R 601-2 luma, as Pillow has it


def test_what_is_transparent_is_black_and_a_turned_photograph_is_turned_back(tmp_path):
    place = tmp_path / "scans"
    save(place / "cat" / "a.png", [[[200, 200, 200, 0], [200, 200, 200, 255]]])
    turned = Image.new("L", (1, 2))
    turned.putdata([10, 20])
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held a quarter turn clockwise
    (place / "dog").mkdir()
    turned.save(place / "dog" / "b.png", exif=exif)
    assert pixels_of(inspect("scans", Source.of(place)), spec(2, 1))[0] == [0 + 20, 200 + 10]


def png(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels, and has none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image",
        png(60_000, 60_000),
        png(16_000, 16_000),
        png(9_000, 9_000),
        png(0x7FFFFFFF, 0x7FFFFFFF),
        png(2, 2),
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 100,
        b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        b"\xff\xd8\xff\xe0" + b"\0" * 50,
        b"RIFF\x24\0\0\0WEBPVP8 " + b"\0" * 40,
    ],
    ids=["empty", "text", "3.6 gigapixels", "256 megapixels", "81 megapixels", "no end of pixels", "no pixels",
         "broken", "another format", "a program", "broken jpeg", "broken webp"],
)  # fmt: skip
def test_a_file_that_is_no_sane_image_is_counted_and_dropped_or_refused(folder, data):
    (folder / "cat" / "c.png").write_bytes(data)
    dataset = inspect("scans", Source.of(folder))
    assert (dataset.records, dataset.bad_images) == (3, 1)
    assert "1 file is no image" in match(dataset, spec()).faults[0]
    sums, read = pixels_of(dataset, spec(), "drop")
    assert (sums, dict(read.dropped)) == ([1, 66, 131, 259], {"no image": 1})
    with pytest.raises(DataError, match="has no image that can be decoded"):
        pixels_of(dataset, spec())


def test_more_than_8_bits_a_channel_are_not_cut_down(folder):
    Image.fromarray(np.full((2, 2), 40_000, dtype=np.uint16)).save(folder / "cat" / "deep.png")
    assert inspect("scans", Source.of(folder)).bad_images == 1


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_followed(folder, tmp_path):
    (folder / "dog" / "inside.png").symlink_to(folder / "cat" / "a.png")
    assert inspect("scans", Source.of(folder)).records == 3
    secret = save(tmp_path / "secret.png", [[9, 9]])
    (folder / "dog" / "outside.png").symlink_to(secret)
    with pytest.raises(DataError, match="is a link out of"):
        inspect("scans", Source.of(folder))


def test_what_is_no_ordinary_file_is_passed_over(folder):
    os.mkfifo(folder / "cat" / "pipe.png")
    (folder / "cat" / ".hidden.png").write_bytes(b"x")
    (folder / "cat" / "notes.txt").write_bytes(b"x")
    (folder / "stray.png").write_bytes(b"x")
    assert inspect("scans", Source.of(folder)).records == 2


def test_a_file_in_the_list_that_would_never_end_is_refused(folder):
    os.mkfifo(folder / "pipe.png")
    (folder / "labels.csv").write_text("file,label\npipe.png,cat\ndog/b.bmp,dog\n")
    with pytest.raises(DataError, match="no ordinary file"):
        inspect("scans", Source.of(folder))


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(DataError, match="has no images"):
        inspect("scans", Source.of(tmp_path))


def test_classes_are_mixed_in_an_order_that_is_always_the_same(tmp_path):
    place = tmp_path / "scans"
    for at in range(40):
        save(place / ("cat" if at < 20 else "dog") / f"{at}.png", [[at, at]])
    of = spec(2, 1, training={"batch_size": 16})
    dataset = inspect("scans", Source.of(place))
    first, _ = gather(dataset, match(dataset, of), of)
    again, _ = gather(dataset, match(dataset, of), of)
    np.testing.assert_array_equal(first.augmented, again.augmented)
    # A batch of one class alone would pull all the way to it; mixed ones meet in between.
    assert 0.2 < first.augmented[-1, 3] < 0.8


def test_a_large_folder_is_looked_at_file_by_file_only_where_something_changed(folder, monkeypatch):
    looked = []
    real = watching.source_state
    monkeypatch.setattr(watching, "source_state", lambda source: looked.append(1) or real(source))
    dataset = inspect("scans", Source.of(folder))
    now = iter([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 599.0, 606.0, 607.0, 608.0])

    def state():
        return file_state(dataset, clock=lambda: next(now))

    first = state()
    assert (first, state(), looked) == (dataset.state, dataset.state, [1])
    save(folder / "cat" / "c.png", [[0, 1], [2, 3]])
    second = state()
    assert (second != first, state() == second, len(looked)) == (True, True, 2)
    (folder / "bird" / "owl").mkdir(parents=True)
    assert (state(), len(looked)) == (second, 3), "an empty folder is no image"
    save(folder / "bird" / "owl" / "d.png", [[0, 1], [2, 3]])
    third = state()
    assert (third != second, len(looked)) == (True, 4)
    os.utime(folder / "cat" / "a.png", ns=(1, 1))
    assert (state(), len(looked)) == (third, 4), "it is seen when all files are looked at again"
    assert (state() != third, len(looked)) == (True, 5)
    (folder / "labels.csv").write_text("file,label\ncat/a.png,cat\n")
    assert (state() != third, len(looked)) == (True, 6)
    shutil.rmtree(folder)
    assert state() is None
