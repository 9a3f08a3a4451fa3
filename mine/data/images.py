"""A folder of images with labels: sub-folders that are named by the label, or a file labels.csv that lists both.

Every image is hostile until it is decoded: few formats, a limit on bytes and on pixels before they are decoded, nothing
but ordinary files, and no link out of the folder.
"""

import csv
import hashlib
import os
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mine.data.source import Source, walk
from mine.data.tables import Chunk, Chunks, Floats, Labels, check_columns, chunk_rows, numbers_of, require_columns
from mine.errors import DataError

__all__ = ["IMAGE_FORMATS", "LABELS_FILE", "MAX_PIXELS", "ImageFolder", "Size"]

IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
LABELS_FILE = "labels.csv"
MAX_PIXELS = 64_000_000
_MAX_BYTES = 64 << 20
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_DEEP = ("I", "F")
"""Pillow's modes of more than 8 bits a channel, of which a conversion would keep the lower part or clip it."""
_FOLDER_LABEL = "label"


@dataclass(frozen=True, slots=True)
class Size:
    """What a campaign wants of every image, in pixels and channels: 1 for grey, 3 for red, green and blue."""

    width: int
    height: int
    channels: int

    @property
    def features(self) -> int:
        """Numbers an image: row by row from the top, each pixel's channels together."""
        return self.width * self.height * self.channels


class ImageFolder:
    """The images of a folder in an order that is mixed but always the same; a context manager.

    With a `size` every image is turned as its camera says, put on black where it is transparent, and resized with
    Pillow's bilinear filter over the whole area that a pixel covers; `values` are then 0 to 255. Without one the images
    are only decoded. What is no readable image becomes a record of infinities.
    """

    left: tuple[str, ...] = ()

    def __init__(self, source: Source, size: Size | None = None) -> None:
        self._folder = Path(source.location)
        self._real = self._folder.resolve()
        self._size = size
        self._rows, self.columns = self._listed()
        if not self._rows:
            raise DataError(
                f"{self._folder} has no images ({', '.join(sorted(_SUFFIXES))}): put them in sub-folders named "
                f"by their labels, or list them in {LABELS_FILE}"
            )
        self.digest = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def chunks(self, numbers: Sequence[str], label: str | None, labels: Labels) -> Chunks:
        """The images: their pixels first, then the columns `numbers` of labels.csv; else as `Table.chunks` says."""
        require_columns(str(self._folder), self.columns, [*numbers, *([] if label is None else [label])])
        pixels = 0 if self._size is None else self._size.features
        # In the order of a hash: sorted by label, a mini-batch would see a single class.
        order = sorted(self._rows, key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).digest())
        size = min(256, chunk_rows(pixels or 1))
        for start in range(0, len(order), size):
            names = order[start : start + size]
            values = np.empty((len(names), max(1, pixels) + len(numbers)))
            for at, name in enumerate(names):
                values[at, : max(1, pixels)] = self._pixels(name)
                values[at, max(1, pixels) :] = numbers_of([self._rows[name][column] for column in numbers])
            codes = None if label is None else labels.codes(self._rows[name][label] for name in names)
            yield Chunk(values, codes)

    def _pixels(self, name: str) -> Floats | float:
        """The pixels of an image (features,); infinity if it is none, and without a size 0 if it is one."""
        data = self._read(name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(BytesIO(data), formats=IMAGE_FORMATS) as image:
                    if image.width * image.height > MAX_PIXELS or image.mode.startswith(_DEEP):
                        return np.inf
                    if self._size is None:
                        image.load()
                        return 0.0
                    return _resized(image, self._size)
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError,
                Image.DecompressionBombWarning, MemoryError, EOFError, ArithmeticError, LookupError):  # fmt: skip
            return np.inf

    def _read(self, name: str) -> bytes:
        """An ordinary file's bytes; what it links to must lie in the folder."""
        real = (self._folder / name).resolve()
        if not real.is_relative_to(self._real):
            raise DataError(f"the image {name!r:.200} is a link out of {self._folder}: put the image itself there")
        try:
            descriptor = os.open(real, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            with open(descriptor, "rb") as file:  # noqa: PTH123  (a descriptor has no path)
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_BYTES:
                    raise DataError(f"the image {name!r:.200} is no ordinary file of {_MAX_BYTES >> 20} MiB at most")
                data = file.read(_MAX_BYTES)
        except OSError as error:
            raise DataError(f"the image {name!r:.200} cannot be read: {error.strerror}") from error
        self.digest.update(hashlib.sha256(data).digest() + name.encode(errors="surrogateescape") + b"\0")
        return data

    def _listed(self) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
        """What is told of each image, by its name in the folder, and of what columns that is."""
        table = self._folder / LABELS_FILE
        if table.is_file():
            return self._from_table(table)
        rows = {}
        for file in walk(self._folder):
            name = file.relative_to(self._folder)
            if file.suffix.lower() in _SUFFIXES and len(name.parts) > 1:
                rows[str(name)] = {_FOLDER_LABEL: name.parts[0]}
        return rows, (_FOLDER_LABEL,)

    def _from_table(self, table: Path) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
        rows: dict[str, dict[str, str]] = {}
        try:
            with table.open(encoding="utf-8-sig", newline="") as stream:
                lines = csv.reader(stream, strict=True)
                header = [name.strip() for name in next(lines, [])]
                check_columns(str(table), header)
                if len(header) < 2:
                    raise DataError(f"{table} must name the file in its first column and what it shows in others")
                for number, cells in enumerate(lines, start=2):
                    if not cells:
                        continue
                    if len(cells) != len(header):
                        raise DataError(f"{table}: line {number} has {len(cells)} cells, the first has {len(header)}")
                    name = _inside(table, number, cells[0].strip())
                    if name in rows:
                        raise DataError(f"{table}: line {number} has the file {name!r:.200} a second time")
                    rows[name] = dict(zip(header[1:], cells[1:], strict=True))
        except OSError as error:
            raise DataError(f"{table} cannot be read: {error.strerror}") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{table} is not a readable CSV file in UTF-8: {error}") from error
        return rows, tuple(header[1:])


def _inside(table: Path, number: int, name: str) -> str:
    path = Path(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts:
        raise DataError(f"{table}: line {number} names {name!r:.200}: give a file's path inside of the folder")
    return str(path)


def _resized(image: Any, size: Size) -> Floats:
    turned = ImageOps.exif_transpose(image)
    if turned.has_transparency_data:
        turned = Image.alpha_composite(Image.new("RGBA", turned.size, (0, 0, 0, 255)), turned.convert("RGBA"))
    plain = turned.convert("L" if size.channels == 1 else "RGB")
    small = plain.resize((size.width, size.height), Image.Resampling.BILINEAR)
    pixels: Floats = np.asarray(small, dtype=np.float64).reshape(-1)
    return pixels
