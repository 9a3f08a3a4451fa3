"""Decoders of a Capsule's own: sealed records, keys, backups, settings, and what its judge processes say.

What is sealed holds random numbers, so these seeds differ from run to run; the keys that open them do not.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from capsule.config import FILE, Settings
from capsule.judge import Judgement
from capsule.sandbox.answers import read_admitted, read_judgement, read_opened
from capsule.secret import CapsuleSecretError, Record, SecretKey, Vault
from capsule.secret.stream import FRAME_BYTES, SealedReader, SealedWriter
from capsule.secret.stretching import Stretched
from hostile.messages import spec
from hostile.mutations import json_text
from hostile.target import Target
from sonar.errors import ConfigError
from sonar.protocol.payloads import encode_weights
from sonar.sandbox import FrameError
from sonar.sandbox.frames import Frame, encode, read
from sonar.syft import PublicKeyError
from sonar.units import Ppm

__all__ = ["frame_of", "json_head", "targets"]

_CHEAP = (1, 8192)
"""The least stretching that libsodium does."""
_SECRET = b"a secret of some length"


def targets(stack: ExitStack) -> Iterator[Target]:
    """Secrets at rest, settings and frames; files go with the stack."""
    yield from _sealed()
    yield from _frames()
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="sonar-fuzz-")))
    seed = b'port = 8700\nlog_format = "json"\ntrusted_proxies = ["10.0.0.0/8"]\ndatabase = "sqlite:///x.db"\n'

    def settings(data: bytes) -> object:
        (folder / FILE).write_bytes(data)
        return Settings.load(folder, {}, {})

    yield Target("settings-file", settings, (ConfigError,), (seed,), weight=0.3)


def _sealed() -> Iterator[Target]:
    magic = b"sonar vault 2\n"
    header = Stretched("words", bytes(16), _CHEAP, magic=magic).header
    vault = Vault("words", header)
    record = vault.seal(_SECRET, Record.WEIGHTS, b"subject")
    other = vault.seal(_SECRET, Record.VALIDATION, b"subject")
    assert _refused(lambda: vault.open(other, Record.WEIGHTS, b"subject"))
    yield Target(
        "vault-record",
        lambda data: vault.open(data, Record.WEIGHTS, b"subject"),
        (CapsuleSecretError,),
        (record,),
        (lambda random, data, _: _swapped(random, data, other),),
    )
    yield Target("vault-header", lambda data: Vault("words", data), (CapsuleSecretError,), (header,), weight=0.3)
    key = _small_secret()
    yield Target(
        "secret-key",
        lambda data: SecretKey.from_bytes(data, allow_insecure_small_key=True),
        (CapsuleSecretError, PublicKeyError),
        (key.to_bytes(),),
        again=SecretKey.to_bytes,
        weight=0.3,
    )
    backups = tuple(_backup(data) for data in (b"", b"x" * 100, b"y" * FRAME_BYTES))
    yield Target("backup-stream", _read_backup, (CapsuleSecretError,), backups, weight=0.3)


def _swapped(random: Random, data: bytes, other: bytes) -> bytes:
    """The record with a piece of another one in the same place."""
    start, end = sorted(random.randint(0, len(data)) for _ in range(2))
    return data[:start] + other[start:end] + data[end:]


def _refused(open_it: Callable[[], object]) -> bool:
    try:
        open_it()
    except CapsuleSecretError:
        return True
    return False


def _small_secret() -> SecretKey:
    """Two fixed primes of 64 bits."""
    return SecretKey(0xD3C21BCECCEDA107, 0xE95FCF9A3B6F4CE7, allow_insecure_small_key=True)


def _backup(data: bytes) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, "words", cost=_CHEAP)
    writer.write(len(data).to_bytes(4, "big") + data)
    writer.finish()
    return file.getvalue()


def _read_backup(data: bytes) -> object:
    """To the end, as a restore reads: in pieces whose sizes it was told."""
    reader = SealedReader(io.BytesIO(data), "words")
    found = reader.read(int.from_bytes(reader.read(4), "big"))
    reader.finish()
    return found


def _frames() -> Iterator[Target]:
    """What a judge process may send over its pipe, and each kind of answer in it."""
    small = spec()
    results = [
        {"verdict": "KEPT", "weight": 512, "share": 500_000, "reason": "kept"},
        {"verdict": "KEPT", "weight": 512, "share": 500_000, "reason": "kept"},
        {"verdict": "LEFT_OUT", "weight": 0, "share": 0, "reason": "alike"},
    ]
    body = {"score": 600_000, "exponent": 10, "sampling_error": 0, "results": results}
    weights = encode_weights(np.zeros(small.shape, dtype=np.int64))
    judged = b"".join(encode(Frame(body, (weights,))))
    admitted = b"".join(encode(Frame({"score": 500_000}, (weights,))))
    refused = b"".join(encode(Frame({"refused": "bad_model", "message": "no"})))
    opened = b"".join(encode(Frame({}, (b"12345678",))))
    invalid = b"".join(encode(Frame({"invalid": "no"})))

    def judgement(data: bytes) -> Judgement:
        return read_judgement(frame_of(data), small, Ppm(500_000), 3)

    yield Target("frame", frame_of, (FrameError,), (judged, admitted, refused, opened, invalid), (json_head,))
    yield Target("judge-judgement", judgement, (FrameError,), (judged,), (json_head,))
    yield Target(
        "judge-admission", lambda data: read_admitted(frame_of(data), small), (FrameError,), (admitted, refused),
        (json_head,),
    )  # fmt: skip
    yield Target(
        "judge-opening", lambda data: read_opened(frame_of(data), 8), (FrameError,), (opened, invalid), (json_head,)
    )  # fmt: skip


def frame_of(data: bytes) -> Frame:
    stream = io.BytesIO(data)

    def take(size: int) -> bytes:
        piece = stream.read(size)
        if len(piece) != size:
            raise FrameError("the stream ends early")
        return piece

    return read(take, 1 << 16)


def json_head(random: Random, data: bytes, seeds: Any) -> bytes:
    size = int.from_bytes(data[:4], "little")
    head = json_text(random, data[4 : 4 + size], seeds)
    return len(head).to_bytes(4, "little") + head + data[4 + size :]
