"""From a closed round to its signed settlement: opens every gradient, judges, makes the next model, signs, stores.

Nothing here is sent anywhere but to the content store: the settlement is in the database before anybody sees it.
"""

import logging
import time
from concurrent.futures import Future, wait
from dataclasses import dataclass

import numpy as np

from capsule.errors import CapsuleError
from capsule.judge import Judged, Judgement, ValidationSet, judge_round
from capsule.secret import Record
from capsule.service import Capsule
from capsule.state import StoredAdmission, StoredRound, Submission, Version
from capsule.wire import RoundReply
from capsule.worker.opening import Background, Missing, Opened, Opener, Rejected
from sonar.chain.records import Entry, Outcome, RoundRecord, Settlement, Verdict
from sonar.protocol.messages import sign_settlement
from sonar.protocol.payloads import decode_validation, decode_weights, encode_weights
from sonar.protocol.sealing import BoxContext, Purpose
from sonar.protocol.spec import Spec
from sonar.storage import Artifact
from sonar.syft import (
    EncryptedTensor,
    Obfuscator,
    dump_model,
    dump_product,
    encrypt,
    load_model,
    model_size_limit,
    product,
)
from sonar.units import CampaignId, Cid, Digest, KeyId, Ppm

__all__ = ["Settler"]

_log = logging.getLogger("capsule.judge")
_ZERO = bytes(32)

_PATIENCE_SECONDS = 2.0
"""How long a step waits for gradients that are being opened, before it serves other campaigns."""

Result = Opened | Rejected
_Place = tuple[int, Entry]
"""A gradient's round and entry."""


@dataclass(frozen=True, slots=True)
class _Next:
    """The next model version, stored: its artifact, key and plaintext, and the product under the old key."""

    model: Artifact
    product: Artifact
    key: KeyId
    weights: bytes


class Settler:
    """Judges one campaign's rounds. Gradients of the present round are opened as they come, and kept in memory."""

    def __init__(self, capsule: Capsule, campaign: CampaignId, stored: StoredAdmission) -> None:
        self._capsule, self._campaign = capsule, campaign
        self.spec = Spec.parse(stored.spec)
        payload = capsule.vault.open(stored.validation, Record.VALIDATION, campaign)
        features, labels = decode_validation(payload, self.spec)
        self._validation = ValidationSet.of(self.spec, features, labels)
        self._background: Background[Result | Missing] = Background()
        self._opening: dict[_Place, Future[Result | Missing]] = {}
        self._opened: dict[_Place, Result] = {}
        self._missing_since: dict[_Place, float] = {}

    def open_round(self, version: Version, submissions: list[Submission], *, closed: bool) -> list[Result] | None:
        """The round's gradients, opened as far as they can be fetched.

        None while some are missing and may yet come: a gradient that stays missing for the policy's `fetch_seconds`
        after the round was seen closed is unavailable. Raises StoreUnavailableError where the store is down.
        """
        capsule = self._capsule
        opener = Opener(capsule.store, capsule.sealing, self.spec, capsule.keys.secret(version.key), self._context)
        places = [(submission.round, submission.entry) for submission in submissions]
        for place, submission in zip(places, submissions, strict=True):
            if place not in self._opened and place not in self._opening:
                self._start(opener, place, submission)
        wait([self._opening[place] for place in places if place in self._opening], timeout=_PATIENCE_SECONDS)
        ready = {place: self._opening.pop(place) for place in places if self._is_ready(place)}
        for place, future in ready.items():
            self._take(place, future.result(), closed=closed)
        return [self._opened[place] for place in places] if all(place in self._opened for place in places) else None

    def _is_ready(self, place: _Place) -> bool:
        return place in self._opening and self._opening[place].done()

    def _start(self, opener: Opener, place: _Place, submission: Submission) -> None:
        if (repeated := self._repeated(submission)) is not None:
            self._opened[place] = repeated
        elif (future := self._background.start(lambda: opener.open(submission))) is not None:
            self._opening[place] = future

    def _take(self, place: _Place, result: Result | Missing, *, closed: bool) -> None:
        if not isinstance(result, Missing):
            self._opened[place] = result
        elif closed and self._given_up(place):
            self._opened[place] = Rejected(Verdict.UNAVAILABLE, f"unavailable: {result.reason}")

    def settle(self, version: Version, round_: RoundRecord, results: list[Result]) -> None:
        """Judges the round, and stores its signed settlement together with what must be published later."""
        valid = [index for index, result in enumerate(results) if isinstance(result, Opened)]
        opened = self._capsule.vault.open(version.weights, Record.WEIGHTS, self._campaign + version.key)
        weights = decode_weights(opened, self.spec)
        gradients = [result.values for result in results if isinstance(result, Opened)]
        judgement = judge_round(self.spec, self._validation, weights, version.score, gradients, round_.head)
        judged = dict(zip(valid, judgement.results, strict=True))
        kept = {index: results[index] for index, result in judged.items() if result.kept}
        tensors = {index: result for index, result in kept.items() if isinstance(result, Opened)}
        following = None if judgement.weights is None else self._make_next(version, judgement, tensors, judged)
        outcomes = [_outcome(result, judged.get(index)) for index, result in enumerate(results)]
        settlement = self._settlement(round_, judgement, following, outcomes)
        signature = sign_settlement(self._capsule.domain, settlement, self._capsule.attester)
        reasons = tuple(_reason(result, judged.get(index)) for index, result in enumerate(results))
        reply = RoundReply.of(settlement, signature, reasons, (None,) * len(reasons))
        stored = StoredRound(
            round_.number,
            round_.head,
            reply.model_dump_json(),
            None if following is None else following.weights,
            "signed",
        )
        self._capsule.state.add_round(self._campaign, stored, {index: opened.data for index, opened in tensors.items()})
        self._opened = {place: result for place, result in self._opened.items() if place[0] > round_.number}
        self._missing_since.clear()
        _log.info("judged round %d of %s: score %d, kept %d of %d", round_.number, self._campaign.hex()[:16],
                  judgement.score, len(tensors), len(results))  # fmt: skip

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

    def _repeated(self, submission: Submission) -> Rejected | None:
        entry = submission.entry
        if self._capsule.state.repeated(self._campaign, entry.gradient, submission.round, entry.mine):
            return Rejected(Verdict.COPY, "copy: another account submitted this gradient in an earlier round")
        return None

    def _given_up(self, place: _Place) -> bool:
        since = self._missing_since.setdefault(place, time.monotonic())
        return time.monotonic() - since >= self._capsule.policy.fetch_seconds

    def _make_next(
        self, version: Version, judgement: Judgement, kept: dict[int, Opened], judged: dict[int, Judged]
    ) -> _Next:
        """Computes the product, encrypts the next weights under a fresh key, and stores both."""
        capsule, spec = self._capsule, self.spec
        if judgement.weights is None:
            raise CapsuleError("a round that does not advance has no next model")
        multipliers = [judged[index].weight for index in kept]
        combined = product(
            self._model(version), [opened.tensor for opened in kept.values()], multipliers, judgement.exponent
        )
        # Stored before a key is claimed: a store that is down must not use up the pool.
        stored_product = capsule.store.put(dump_product(combined))
        public = capsule.keys.claim("round").public
        model = encrypt(
            judgement.weights.astype(np.int64),
            public,
            Obfuscator(public),
            slot_width=spec.encoding.slot_width,
            scale=spec.encoding.weight_bits,
            bound=spec.encoding.weight_bound,
            stride=spec.encoding.stride(public, spec.shape[1]),
        )
        return _Next(
            model=capsule.store.put(dump_model(model)),
            product=stored_product,
            key=public.key_id,
            weights=capsule.vault.seal(
                encode_weights(judgement.weights), Record.WEIGHTS, self._campaign + public.key_id
            ),
        )

    def _model(self, version: Version) -> EncryptedTensor:
        limit = model_size_limit(*self.spec.shape, slot_width=self.spec.encoding.slot_width)
        data = self._capsule.store.get(version.model, max_bytes=limit)
        return load_model(data, allow_insecure_small_key=self._capsule.allow_insecure_small_key)

    def _settlement(
        self, round_: RoundRecord, judgement: Judgement, following: _Next | None, outcomes: list[Outcome]
    ) -> Settlement:
        return Settlement(
            campaign=self._campaign,
            round=round_.number,
            head=round_.head,
            score=judgement.score,
            exponent=judgement.exponent,
            model=Digest(_ZERO) if following is None else following.model.digest,
            key=KeyId(_ZERO) if following is None else following.key,
            product=Digest(_ZERO) if following is None else following.product.digest,
            model_cid=Cid("") if following is None else following.model.cid,
            product_cid=Cid("") if following is None else following.product.cid,
            outcomes=tuple(outcomes),
        )


def _outcome(result: Result, judged: Judged | None) -> Outcome:
    if isinstance(result, Rejected) or judged is None:
        verdict = result.verdict if isinstance(result, Rejected) else Verdict.LEFT_OUT
        return Outcome(verdict, 0, Ppm(0))
    return Outcome(judged.verdict, judged.weight, judged.share)


def _reason(result: Result, judged: Judged | None) -> str:
    if isinstance(result, Rejected):
        return result.reason
    return "" if judged is None else judged.reason
