"""A campaign on encrypted gradients, by the jobs of the Capsule's judge processes, beside its twin in plain numbers.

Every gradient, judgement and model must be the same to the last bit; the row says how long each part took.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import bench_judge_mines as sim
import numpy as np
from bench_judge_mines import Split
from bench_judge_tables import Sizes, Table

from capsule.judge import judge_round, score
from capsule.sandbox.integers import unpack_integers
from capsule.sandbox.jobs import Jobs
from capsule.secret import SecretKey, decrypt, generate_key
from mine.trainer import train
from sonar.protocol.payloads import design_matrix, encode_validation, encode_weights
from sonar.sandbox.frames import Frame
from sonar.syft import Obfuscator, dump_model, encrypt, load_model
from sonar.units import Ppm

MINES = 8


class DisagreementError(Exception):
    """The encrypted campaign and its twin are not the same; the message says where."""


def encrypted(sizes: Sizes) -> Table:
    """Digits with eight mines, until a round does not advance."""
    table = Table(
        "encrypted", f"Digits with {MINES} mines on encrypted gradients, {sizes.bits} bits, beside its plain twin",
        ["round", "score", "kept", "same gradients, judgement and model", "decrypting, CPU s", "judging, CPU s"],
        ["the parts of one round in the Capsule's judge process, on one core; 65 x 10 weights, 359 validation records"],
    )  # fmt: skip
    data = sim.split("digits", 0, MINES)
    campaign = _Campaign(data, sizes.bits)
    for number in range(1 if sizes.bits < 2048 else 3):
        row = campaign.round(number)
        if row is None:
            break
        table.rows.append(row)
    return table


class _Campaign:
    """What the Capsule and the mines hold between rounds."""

    def __init__(self, data: Split, bits: int) -> None:
        self.data, self.bits, self.small = data, bits, bits < 2048
        self.jobs = Jobs(allow_insecure_small_key=self.small)
        self.spec_bytes = data.spec.to_bytes()
        self.secret = self.key()
        self.weights, self.now = data.start, score(data.validation, data.start)
        self.model = self.encrypt(self.weights)
        self.seconds: dict[str, float] = defaultdict(float)
        schedule = data.spec.training.schedule
        one_hot = np.eye(data.spec.shape[1])
        self.gathered = [
            schedule.gather([(design_matrix(data.spec, X), one_hot[y])], *data.spec.shape) for X, y in data.shares
        ]

    def key(self) -> SecretKey:
        return generate_key(self.bits, allow_insecure_small_key=self.small)

    def encrypt(self, weights: np.ndarray) -> bytes:
        encoding, key = self.data.spec.encoding, self.secret.public
        tensor = encrypt(
            weights, key, Obfuscator(key), slot_width=encoding.slot_width, scale=encoding.weight_bits,
            bound=encoding.weight_bound, stride=encoding.stride(key, self.data.spec.shape[1]),
        )  # fmt: skip
        return dump_model(tensor)

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        started = time.process_time()
        yield
        self.seconds[part] += time.process_time() - started

    def round(self, number: int) -> list[str | float] | None:
        """One round, checked against its twin; None where it does not advance."""
        self.seconds.clear()
        spec, head = self.data.spec, bytes([number])
        plain = [mine.gradients(spec, self.weights, np.random.default_rng(0))[0] for mine in sim.honest(self.data)]
        payloads = [
            train(spec, self.model, self.secret.public.key_id, one, allow_insecure_small_key=self.small).payload
            for one in self.gathered
        ]
        with self.on("decrypting"):
            opened = [self.jobs.do(self.frame("open", self.secret.to_bytes(), payload)) for payload in payloads]
        values = [frame.blobs[0] for frame in opened]
        for index, (ours, theirs) in enumerate(zip(values, plain, strict=True)):
            if (unpack_integers(ours, spec.shape, spec.encoding.gradient_bound) != theirs).any():
                raise DisagreementError(f"round {number}: gradient {index} is not its twin")
        request = self.frame(
            "judge", encode_validation(*self.data.raw), encode_weights(self.weights), head, *values, score=self.now
        )
        answer = self.jobs.do(request)
        with self.on("judging"):  # once more: the first time parses the spec and its validation set
            twin = judge_round(spec, self.data.validation, self.weights, Ppm(self.now), plain, head)
        told = [(one.verdict.name, one.weight, one.share, one.reason) for one in twin.results]
        if [tuple(r[k] for k in ("verdict", "weight", "share", "reason")) for r in answer.body["results"]] != told:
            raise DisagreementError(f"round {number}: the judgements differ")
        if twin.weights is None:
            return None
        self.advance(number, twin.weights, [payloads[i] for i, one in enumerate(twin.results) if one.kept],
                     [one.weight for one in twin.results if one.kept], twin.exponent)  # fmt: skip
        self.weights, self.now = twin.weights, twin.score
        kept = f"{sum(one.kept for one in twin.results)} of {MINES}"
        return [str(number), twin.score / 1e6, kept, "yes", self.seconds["decrypting"], self.seconds["judging"]]

    def advance(self, number: int, weights: np.ndarray, kept: list[bytes], factors: list[int], exponent: int) -> None:
        """The next model under a fresh key."""
        following = self.key()
        modulus = following.public.n.to_bytes(-(-self.bits // 8), "big")
        request = self.frame(
            "advance", self.model, modulus, encode_weights(weights), *kept, multipliers=factors, exponent=exponent
        )
        _, self.model = self.jobs.do(request).blobs
        self.secret = following
        tensor = load_model(self.model, allow_insecure_small_key=self.small)
        if (decrypt(following, tensor) != weights).any():
            raise DisagreementError(f"round {number}: the next model is not its twin")

    def frame(self, job: str, *blobs: bytes, **body: object) -> Frame:
        return Frame({"job": job, **body}, (self.spec_bytes, *blobs))
