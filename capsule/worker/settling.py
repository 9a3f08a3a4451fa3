"""From a closed round to its signed settlement: has every gradient opened, the round judged, the next model made.

Nothing here is sent anywhere but to the content store: the settlement is in the database before anybody sees it. What
is computed from artifacts is computed in judge processes; this one decides and signs.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from capsule.errors import CapsuleError
from capsule.judge import Judged, Judgement
from capsule.parts import Capsule
from capsule.sandbox import JobLostError
from capsule.secret import Record
from capsule.state import StoredAdmission, StoredRound, Submission, Version
from capsule.weights import open_weights
from capsule.wire import RoundReply
from capsule.worker.admitted import check_admitted
from capsule.worker.advancing import Advance, Advancer
from capsule.worker.opening import Background, Missing, Opened, Opener, Rejected
from capsule.worker.patience import Patience
from capsule.worker.posted import check_on_chain
from capsule.worker.tally import Tally
from sonar.chain.lookups import block_hash
from sonar.chain.records import Entry, Outcome, RoundRecord, Settlement, Verdict
from sonar.errors import SonarError
from sonar.protocol.messages import sign_settlement
from sonar.protocol.sealing import BoxContext, Purpose
from sonar.protocol.spec import Spec
from sonar.syft import PublicKey
from sonar.units import CampaignId, Cid, Digest, KeyId, Ppm

__all__ = ["OpenedRound", "Settler"]

_log = logging.getLogger("capsule.judge")
_ZERO = bytes(32)

_PATIENCE_SECONDS = 2.0
"""How long a step waits for gradients that are being opened, before it serves other campaigns."""
_PAUSE_SECONDS = (30.0, 3600.0)
"""How long a round that could not be judged waits to be tried again: twice as long each time, up to the second."""

_AGAIN_SECONDS = (1.0, 15.0)
"""How long a gradient that could not be fetched is left alone: twice as long each time, up to the second."""

Result = Opened | Rejected
_REPEATED = Rejected(Verdict.COPY, "copy: another account submitted this gradient in an earlier round")
_Place = tuple[int, Entry]
"""A gradient's round and entry."""


@dataclass(frozen=True, slots=True)
class OpenedRound:
    """A round's submissions with what each of them is."""

    submissions: tuple[Submission, ...]
    results: tuple[Result, ...]

    def seed(self, head: bytes, block: bytes) -> bytes:
        """What decides the orders of a large round: all know it once its last gradient is in a block, nobody before.

        Whoever can still add a gradient can draw it anew that way, without knowing what is in the others.

        `block` is the hash of the block that has the round's last gradient.
        """
        return sha256(head + block).digest()


@dataclass(frozen=True, slots=True)
class _RoundKey:
    """The key that a version's gradients are under."""

    id: KeyId
    public: PublicKey
    secret: bytes

    def __repr__(self) -> str:
        return f"_RoundKey({self.public!r})"


class Settler:
    """Judges one campaign's rounds. Gradients of the present round are opened as they come, and kept in memory.

    Raises CapsuleError where its admission is not in the database as it was signed.
    """

    def __init__(self, capsule: Capsule, campaign: CampaignId, stored: StoredAdmission, tally: Tally) -> None:
        check_admitted(capsule.domain, stored)
        self._capsule, self._campaign, self._stored, self._tally = capsule, campaign, stored, tally
        self.spec = Spec.parse(stored.spec)
        self._desk = capsule.sandbox.desk(campaign.hex(), self.spec, stored.spec)
        self._advancer = Advancer(capsule, campaign, self._desk)
        self._background: Background[Result | Missing] = Background()
        self._opening: dict[_Place, Future[Result | Missing]] = {}
        self._opened: dict[_Place, Result] = {}
        self._missing_since: dict[_Place, float] = {}
        self._again: dict[_Place, Patience] = {}
        self.misses = False
        """Whether the round is closed, and gradients of it cannot be fetched."""
        self._key: _RoundKey | None = None
        self._pause, self._not_before = _PAUSE_SECONDS[0], 0.0
        self._problem: SonarError | None = None
        self._judged: tuple[object, Judgement] | None = None

    def open_round(self, version: Version, submissions: list[Submission], *, closed: bool) -> OpenedRound | None:
        """The round's gradients, opened as far as they can be fetched.

        None while some are missing and may yet come: a gradient that stays missing for the policy's `fetch_seconds`
        after the round was seen closed is unavailable. Until then it is fetched again, less and less often. Raises
        StoreUnavailableError where the store is down, and SandboxError where there are no judge processes.
        """
        key = self._round_key(version)
        opener = Opener(
            self._capsule.store, self._capsule.sealing, self._desk, key.public, key.secret, self._context
        )  # fmt: skip
        places = [(submission.round, submission.entry) for submission in submissions]
        self._forget_other_rounds(places)
        due = [
            (place, submission)
            for place, submission in zip(places, submissions, strict=True)
            if place not in self._opened and place not in self._opening and self._is_due(place)
        ]
        repeated = self._capsule.state.repeated(self._campaign, submissions[0].round) if due else frozenset()
        for place, submission in due:
            if submission.index in repeated:
                self._opened[place] = _REPEATED
            elif (future := self._background.start(partial(opener.open, submission))) is not None:
                self._opening[place] = future
        wait([self._opening[place] for place in places if place in self._opening], timeout=_PATIENCE_SECONDS)
        problem: SonarError | None = None
        for place in [place for place in places if place in self._opening and self._opening[place].done()]:
            try:
                self._take(place, self._opening.pop(place).result(), closed=closed)
            except SonarError as error:  # told when the others are taken
                problem = error
        if problem is not None:
            raise problem
        missing = [place for place in places if place not in self._opened]
        self.misses = closed and any(place in self._again for place in missing)
        if missing:
            return None
        return OpenedRound(tuple(submissions), tuple(_first_only(places, [self._opened[place] for place in places])))

    def _forget_other_rounds(self, places: Sequence[_Place]) -> None:
        """Lets go of what was opened for rounds that are over: another worker may have settled them.

        What is still being fetched for them ends by itself, and nobody looks at it.
        """
        rounds = {number for number, _ in places}
        for kept in (self._opening, self._opened, self._missing_since, self._again):
            for place in [place for place in kept if place[0] not in rounds]:
                del kept[place]

    def _is_due(self, place: _Place) -> bool:
        return place not in self._again or self._again[place].is_over

    def _take(self, place: _Place, result: Result | Missing, *, closed: bool) -> None:
        if not isinstance(result, Missing):
            self._opened[place] = result
            return
        self._tally.wrong_artifacts.add(result.wrong)
        self._again.setdefault(place, Patience(*_AGAIN_SECONDS)).fail()
        if closed and self._given_up(place):
            self._opened[place] = Rejected(Verdict.UNAVAILABLE, f"unavailable: {result.reason}")

    def settle(self, version: Version, round_: RoundRecord, opened: OpenedRound) -> None:
        """Judges the round, and stores its signed settlement together with what must be published later.

        Raises JobLostError for a round that no judge process can judge, and CapsuleError where its settlement cannot be
        stored: it is tried again later, and others meanwhile.
        """
        if self._problem is not None and time.monotonic() < self._not_before:
            raise self._problem
        self._check_on_chain(opened)
        try:
            self._settle(version, round_, opened)
        except JobLostError as error:
            self._put_off(error)
            raise
        self._pause, self._problem, self._judged = _PAUSE_SECONDS[0], None, None
        self._opened = {place: result for place, result in self._opened.items() if place[0] > round_.number}
        self._missing_since.clear()
        self._again.clear()

    def _check_on_chain(self, opened: OpenedRound) -> None:
        """Raises CapsuleError unless what is fined, and what gives the seed, is on chain as it is in the database."""
        given = zip(opened.submissions, opened.results, strict=True)
        fined = [submission for submission, result in given if isinstance(result, Rejected)]
        try:
            check_on_chain(self._capsule.chain, self._campaign, [*fined, opened.submissions[-1]])
        except CapsuleError:
            for submission in fined:  # to be opened again, by what is in the database then
                self._opened.pop((submission.round, submission.entry), None)
            raise

    def _put_off(self, error: SonarError) -> None:
        """Each time that a round is judged costs a key and two artifacts, whatever becomes of it."""
        self._not_before, self._problem = time.monotonic() + self._pause, error
        self._pause = min(2 * self._pause, _PAUSE_SECONDS[1])

    def _settle(self, version: Version, round_: RoundRecord, opened: OpenedRound) -> None:
        capsule, campaign = self._capsule, self._campaign
        block = opened.submissions[-1].block
        valid = {index: result for index, result in enumerate(opened.results) if isinstance(result, Opened)}
        judgement = self._judge(version, opened.seed(round_.head, block_hash(capsule.chain, block)), valid)
        judged = dict(zip(valid, judgement.results, strict=True))
        following = None
        if judgement.weights is not None:
            gradients = dict(enumerate(valid.values()))
            following = self._advancer.advance(version, self._round_key(version).public, judgement, gradients)
        outcomes = [_outcome(result, judged.get(index)) for index, result in enumerate(opened.results)]
        settlement = self._settlement(round_, judgement.score, judgement.exponent, following, outcomes)
        signature = sign_settlement(capsule.domain, settlement, capsule.attester)
        reasons = tuple(_reason(result, judged.get(index)) for index, result in enumerate(opened.results))
        reply = RoundReply.of(
            settlement,
            signature,
            reasons,
            (None,) * len(reasons),
            seed_block=block,
            sampling_error=judgement.sampling_error,
        )
        weights = None if following is None else following.weights
        kept = {index: valid[index].data for index, result in judged.items() if result.kept}
        stored = StoredRound(
            round_.number, round_.head, reply.model_dump_json(), weights, "signed", base=version.key
        )  # fmt: skip
        try:
            capsule.state.add_round(campaign, stored, kept)
        except CapsuleError as error:
            self._put_off(error)
            raise
        _log.info("judged round %d of 0x%s: score %d, kept %d of %d", round_.number, campaign.hex()[:16],
                  judgement.score, len(kept), len(outcomes), extra={"round": round_.number})  # fmt: skip

    def _judge(self, version: Version, seed: bytes, valid: Mapping[int, Opened]) -> Judgement:
        """The judgement of the round whose head and block the seed commits to.

        It is kept until the settlement is stored: what follows it may have to wait for a store that has lost the model,
        or for a fresh key, and judging is what costs most.
        """
        task = (version.number, version.key, version.score, seed, tuple(valid))
        if self._judged is None or self._judged[0] != task:
            judgement = self._desk.judge(
                self._capsule.vault.open(self._stored.validation, Record.VALIDATION, self._campaign),
                open_weights(self._capsule.vault, self._campaign, version),
                version.score,
                [result.values for result in valid.values()],
                seed,
            )
            self._judged = (task, judgement)
        return self._judged[1]

    def _round_key(self, version: Version) -> _RoundKey:
        """The version's key, opened once a round, and not before its weights have shown that it is that of the version.

        No gradient opens under another one, and one that does not open costs its mine the bond.
        """
        if self._key is None or self._key.id != version.key:
            open_weights(self._capsule.vault, self._campaign, version)
            secret = self._capsule.keys.secret(version.key)
            self._key = _RoundKey(version.key, secret.public, secret.to_bytes())
        return self._key

    def _context(self, submission: Submission) -> BoxContext:
        chain = self._capsule.chain
        return BoxContext(
            Purpose.GRADIENT,
            chain.chain_id,
            chain.address,
            submission.entry.mine,
            self._campaign.hex(),
            submission.round,
        )

    def _given_up(self, place: _Place) -> bool:
        since = self._missing_since.setdefault(place, time.monotonic())
        return time.monotonic() - since >= self._capsule.policy.fetch_seconds

    def _settlement(
        self, round_: RoundRecord, score: Ppm, exponent: int, following: Advance | None, outcomes: Sequence[Outcome]
    ) -> Settlement:
        return Settlement(
            campaign=self._campaign,
            round=round_.number,
            head=round_.head,
            score=score,
            exponent=exponent,
            model=Digest(_ZERO) if following is None else following.model.digest,
            key=KeyId(_ZERO) if following is None else following.key,
            product=Digest(_ZERO) if following is None else following.product.digest,
            model_cid=Cid("") if following is None else following.model.cid,
            product_cid=Cid("") if following is None else following.product.cid,
            outcomes=tuple(outcomes),
        )


def _first_only(places: Sequence[_Place], results: Sequence[Result]) -> Iterator[Result]:
    """The results, but a copy where an earlier account of the round submitted the very same gradient.

    Nobody makes the same ciphertexts by chance, so that both boxes hold them proves one origin.
    """
    seen: set[Digest] = set()
    for (_, entry), result in zip(places, results, strict=True):
        if isinstance(result, Opened) and entry.gradient in seen:
            yield Rejected(Verdict.COPY, "copy: an earlier account of this round submitted this gradient")
            continue
        if isinstance(result, Opened):
            seen.add(entry.gradient)
        yield result


def _outcome(result: Result, judged: Judged | None) -> Outcome:
    if isinstance(result, Rejected) or judged is None:
        verdict = result.verdict if isinstance(result, Rejected) else Verdict.LEFT_OUT
        return Outcome(verdict, 0, Ppm(0))
    return Outcome(judged.verdict, judged.weight, judged.share)


def _reason(result: Result, judged: Judged | None) -> str:
    if isinstance(result, Rejected):
        return result.reason
    return "" if judged is None else judged.reason
