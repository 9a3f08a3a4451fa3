"""What each mine added to a finished campaign's model: shares for every owner, and parts where the spec opens them.

Nothing is stored for it. The gradients that a campaign kept are published, each still under its round's key, and these
keys stay as long as the weights do, in backups and through rotations; so what was asked for once can be computed again,
and is the same. The validation set and the gradients are opened in judge processes; this one adds integers.
"""

import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np

from capsule.errors import CapsuleError, CapsuleRefusedError, CapsuleUnavailableError
from capsule.judge import BigInts
from capsule.parts import Capsule
from capsule.sandbox import Desk, Invalid, JobLostError
from capsule.sandbox.integers import unpack_integers
from capsule.secret import CapsuleSecretError, Record, SecretKey
from capsule.state import StoredAdmission, Version
from capsule.story import Kept, Story, story_of
from capsule.weights import open_weights
from capsule.worker.admitted import check_admitted
from sonar.chain.records import CampaignRecord
from sonar.protocol.attribution import SHARE_STEP, Parts, Shares, encode_parts, encode_shares, in_page
from sonar.protocol.payloads import decode_weights
from sonar.protocol.sealing import BoxContext, Purpose, seal
from sonar.protocol.spec import Spec
from sonar.storage import Artifact, StorageError
from sonar.syft import gradient_size_limit
from sonar.units import PPM, Address, CampaignId, KeyId, digest_of

__all__ = ["Attributor", "told_shares"]

_log = logging.getLogger("capsule.attribution")

_LANE: Final = "attributions"
"""Whoever asks for attributions waits for those before, and no campaign's round does."""
_MOST_WAITING: Final = 3
_KNOWN: Final = 16
"""Campaigns of which it is known what was computed: asking again, after an answer that took too long, goes on there."""

_Place = tuple[int, int]
"""A gradient's round and its place there."""


@dataclass(frozen=True, slots=True)
class _Sums:
    """What is known of a campaign: of each gradient what it counts for in the movement."""

    final: KeyId
    counted: dict[_Place, int]


class Attributor:
    """Splits models by mines, one campaign at a time. Safe in threads.

    Raises CapsuleRefusedError with a stable code, and CapsuleUnavailableError for what may work later.
    """

    def __init__(self, capsule: Capsule) -> None:
        self._capsule = capsule
        self._working = threading.Lock()
        self._places = threading.Semaphore(_MOST_WAITING)
        self._known: OrderedDict[CampaignId, _Sums] = OrderedDict()

    def shares(self, record: CampaignRecord, final: Version, sealing_key: bytes) -> bytes:
        """Each mine's share of what the campaign changed, in a box for its owner; `final` is its last version."""
        with self._turn():
            work = self._begin(record)
            shares = self._shares(record, final, work)
        return self._give(record, encode_shares(shares), Purpose.ATTRIBUTION, sealing_key)

    def parts(self, record: CampaignRecord, final: Version, first: int, sealing_key: bytes) -> bytes:
        """What mines added to the weights, a page from the `first`th on, in a box for the owner."""
        with self._turn():
            work = self._begin(record)
            if work.spec.attribution != "open":
                raise CapsuleRefusedError(
                    "not_open",
                    f"the spec of campaign 0x{record.id.hex()} gives its owner mines' shares and not their parts, as "
                    "its mines were promised: ask for the attribution",
                )
            parts = self._parts(record, final, first, work)
        return self._give(record, encode_parts(parts), Purpose.PARTS, sealing_key)

    def _shares(self, record: CampaignRecord, final: Version, work: "_Work") -> Shares:
        story = work.story(record, final)
        if not story.versions:
            return Shares((), 0)
        sums = self._known.setdefault(record.id, _Sums(final.key, {}))
        if sums.final != final.key:  # a reorganisation gave the campaign another end
            sums = self._known[record.id] = _Sums(final.key, {})
        self._known.move_to_end(record.id)
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        start, end = (work.weights(version) for version in (story.versions[0].base, final))
        pull = work.pull(start, end)
        bits = story.scale - work.spec.encoding.weight_bits
        whole = _product(work.decoded(end) - work.decoded(start), pull) << bits
        by_mine: dict[Address, int] = defaultdict(int)
        for kept in story.kept:
            place = kept.round, kept.place
            if place not in sums.counted:
                sums.counted[place] = _product(work.values(kept), pull)
            by_mine[kept.mine] += kept.factor * sums.counted[place]
        # Each version was rounded by half a unit of its weights at most: more means that these are not its gradients.
        if abs(whole - sum(by_mine.values())) * 2 > len(story.versions) * int(np.abs(pull).sum()) << bits:
            raise CapsuleError("its kept gradients do not make its model")
        told = told_shares(by_mine, whole) if whole else ()
        return Shares(told, PPM - sum(ppm for _, ppm in told) if told else 0)

    def _parts(self, record: CampaignRecord, final: Version, first: int, work: "_Work") -> Parts:
        story = work.story(record, final)
        mines = sorted({kept.mine for kept in story.kept}, key=str.lower)
        asked = mines[first : first + in_page(work.spec)]
        sums: dict[Address, BigInts] = {mine: np.zeros(work.spec.shape, dtype=object) for mine in asked}
        for kept in story.kept:
            if kept.mine in sums:
                sums[kept.mine] = sums[kept.mine] + work.values(kept).astype(object) * kept.factor
        base = story.versions[0].base if story.versions else final
        return Parts(
            work.decoded(work.weights(base)), story.scale, len(story.versions), len(mines), tuple(asked),
            tuple(sums.values()),
        )  # fmt: skip

    def _begin(self, record: CampaignRecord) -> "_Work":
        stored = self._capsule.state.admission(record.id)
        if stored is None:
            raise CapsuleRefusedError("unknown_campaign", f"this Capsule admitted no campaign 0x{record.id.hex()}")
        check_admitted(self._capsule.domain, stored)
        spec = Spec.parse(stored.spec)
        if spec.network is not None:
            raise CapsuleRefusedError(
                "not_split",
                f"campaign 0x{record.id.hex()} trains a network, and what a network predicts is no sum of what its "
                "mines added: only linear models split",
            )
        if not stored.validation:
            raise CapsuleRefusedError(
                "deleted",
                f"the validation set and the keys of campaign 0x{record.id.hex()} were deleted after their retention "
                "time: attributions must be asked for before",
            )
        return _Work(self._capsule, stored, spec)

    def _give(self, record: CampaignRecord, payload: bytes, purpose: Purpose, sealing_key: bytes) -> bytes:
        chain = self._capsule.chain
        context = BoxContext(
            purpose, chain.chain_id, chain.address, record.owner, record.id.hex(), record.version
        )  # fmt: skip
        try:
            box = seal(payload, context, sealing_key)
        except (ValueError, TypeError, RuntimeError) as error:
            raise CapsuleRefusedError(
                "bad_key", "the sealing key is not an X25519 public key: make a new one"
            ) from error
        self._capsule.state.attributed(record.id, record.owner, record.version, purpose.value, digest_of(box))
        return box

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One after another; who finds several waiting comes later. What is not in order is the operator's to mend."""
        if not self._places.acquire(blocking=False):
            raise CapsuleUnavailableError(
                f"the Capsule has {_MOST_WAITING} attributions to deal with: try again in a minute"
            )
        try:
            with self._working:
                yield
        except (CapsuleRefusedError, CapsuleUnavailableError):
            raise
        except JobLostError as error:
            raise CapsuleUnavailableError(
                f"the Capsule could not split this model within its limits ({error.loss}): tell its operator"
            ) from error
        except (CapsuleError, CapsuleSecretError) as error:
            _log.error("a model cannot be split by its mines: run capsule audit verify: %s", error)
            raise CapsuleUnavailableError(
                "what this campaign was trained with is not in order in the Capsule's database: tell its operator"
            ) from error
        finally:
            self._places.release()


class _Work:
    """One campaign's secrets, opened as far as they are needed."""

    def __init__(self, capsule: Capsule, stored: StoredAdmission, spec: Spec) -> None:
        self._capsule, self._stored, self.spec = capsule, stored, spec
        self._desk: Desk = capsule.sandbox.desk(_LANE, spec, stored.spec)
        self._key: tuple[KeyId, SecretKey] | None = None

    def story(self, record: CampaignRecord, final: Version) -> Story:
        """What was kept of whom, as the chain settled it."""
        return story_of(self._capsule, self._stored.campaign, self.spec, record, final)

    def weights(self, version: Version) -> bytes:
        """A version's weights as `encode_weights` makes them."""
        return open_weights(self._capsule.vault, self._stored.campaign, version)

    def decoded(self, weights: bytes) -> BigInts:
        """The same as integers (rows, outputs)."""
        return decode_weights(weights, self.spec)

    def pull(self, start: bytes, end: bytes) -> BigInts:
        """What a unit of each weight counts for in the way from start to end, by the validation set."""
        validation = self._capsule.vault.open(self._stored.validation, Record.VALIDATION, self._stored.campaign)
        return self._desk.pull(validation, start, end)

    def values(self, kept: Kept) -> BigInts:
        """A kept gradient's integers (rows, outputs)."""
        if self._key is None or self._key[0] != kept.key:
            self._key = (kept.key, self._capsule.keys.secret(kept.key))
        secret, bound = self._key[1], self.spec.encoding.gradient_bound
        values = self._desk.open(secret.public, secret.to_bytes(), self._fetch(kept, secret))
        if isinstance(values, Invalid):
            raise CapsuleError(f"the gradient {kept.place} of round {kept.round}, which was kept, is invalid")
        return unpack_integers(values, self.spec.shape, bound)

    def _fetch(self, kept: Kept, secret: SecretKey) -> bytes:
        data = kept.where
        if isinstance(data, Artifact):
            rows, outputs = self.spec.shape
            limit = gradient_size_limit(rows, self.spec.encoding.gradient_layout(secret.public, outputs))
            try:
                data = self._capsule.store.get(data, max_bytes=limit)
            except StorageError as error:
                _log.warning("gradient %d of round %d cannot be fetched: %s", kept.place, kept.round, error)
                raise CapsuleUnavailableError(
                    f"the gradient {kept.place} of round {kept.round}, which the Capsule published, cannot be fetched "
                    "now: try again later"
                ) from error
        if digest_of(data) != kept.digest:
            raise CapsuleError(f"the gradient {kept.place} of round {kept.round} is not the one that was kept")
        return data


def told_shares(by_mine: dict[Address, int], whole: int) -> tuple[tuple[Address, int], ...]:
    """What is told of each mine's part of the whole, which is above 0: ppm, in ascending order of accounts.

    Shares are rounded to SHARE_STEP, or where the parts together are some times as long as the whole, to as many times
    that: an owner whose own mine undoes what the others did could make the whole as small as she likes otherwise, and
    their shares of it would have all the digits of their parts.
    """
    times = max(1, _rounded(sum(abs(part) for part in by_mine.values()), whole))
    step = SHARE_STEP * times
    return tuple((mine, step * _rounded(part * PPM, whole * step)) for mine, part in _ascending(by_mine))


def _product(weights: BigInts, pull: BigInts) -> int:
    return int((weights.astype(object) * pull).sum())


def _rounded(numerator: int, denominator: int) -> int:
    """The nearest integer of a fraction whose denominator is above 0, halves rounded up."""
    return (2 * numerator + denominator) // (2 * denominator)


def _ascending(by_mine: dict[Address, int]) -> Sequence[tuple[Address, int]]:
    return sorted(by_mine.items(), key=lambda item: item[0].lower())
