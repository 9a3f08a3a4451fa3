"""From a closed round whose gradients are opened to its signed settlement: has it judged, and the next model made.

Nothing here is sent anywhere but to the content store: the settlement is in the database before anybody sees it. What
is computed from artifacts is computed in judge processes; this one decides and signs.
"""

import logging
import threading
from collections.abc import Mapping, Sequence

from capsule.errors import CapsuleError
from capsule.judge import Judged, Judgement
from capsule.parts import Capsule
from capsule.sandbox import JobLostError
from capsule.secret import Record
from capsule.state import StoredAdmission, StoredRound, Version
from capsule.weights import open_weights
from capsule.wire import RoundReply
from capsule.worker.admitted import check_admitted
from capsule.worker.advancing import Advance, Advancer
from capsule.worker.gathering import Gatherer, OpenedRound, Result
from capsule.worker.opening import Opened, Rejected
from capsule.worker.posted import check_on_chain
from capsule.worker.postponed import Postponed
from capsule.worker.roundkey import RoundKeys
from capsule.worker.tally import Tally
from sonar.chain.lookups import block_hash
from sonar.chain.records import Outcome, RoundRecord, Settlement, Verdict
from sonar.protocol.messages import sign_settlement
from sonar.protocol.spec import Spec
from sonar.storage import ArtifactNotFoundError, StoreTimeoutError
from sonar.units import CampaignId, Cid, Digest, KeyId, Ppm

__all__ = ["Settler"]

_log = logging.getLogger("capsule.judge")
_ZERO = bytes(32)


class Settler:
    """Judges one campaign's rounds, whose gradients its `gatherer` has opened.

    `openings` are the places that all campaigns have together for gradients that are being opened.

    Raises CapsuleError where its admission is not in the database as it was signed.
    """

    def __init__(
        self,
        capsule: Capsule,
        campaign: CampaignId,
        stored: StoredAdmission,
        tally: Tally,
        openings: threading.Semaphore,
    ) -> None:
        check_admitted(capsule.domain, stored)
        self._capsule, self._campaign, self._stored = capsule, campaign, stored
        self.spec = Spec.parse(stored.spec)
        self._desk = capsule.sandbox.desk(campaign.hex(), self.spec, stored.spec)
        self._keys = RoundKeys(capsule, campaign)
        self._advancer = Advancer(capsule, campaign, self._desk)
        self.gatherer = Gatherer(capsule, campaign, self._desk, self._keys, tally, openings)
        self._postponed = Postponed()
        self._judged: tuple[object, Judgement] | None = None

    def settle(self, version: Version, round_: RoundRecord, opened: OpenedRound) -> None:
        """Judges the round, and stores its signed settlement together with what must be published later.

        Raises JobLostError for a round that no judge process can judge, StorageError where the store does not have the
        model, and CapsuleError where the settlement cannot be stored: it is tried again later, and others meanwhile.
        """
        self._postponed.check(round_.head)
        self._check_on_chain(opened)
        try:
            self._settle(version, round_, opened)
        except (JobLostError, ArtifactNotFoundError, StoreTimeoutError) as error:
            self._postponed.put_off(round_.head, error)
            raise
        self._postponed.forget()
        self._judged = None
        self.gatherer.forget_round(round_.number)

    def _check_on_chain(self, opened: OpenedRound) -> None:
        """Raises CapsuleError unless what is fined, and what gives the seed, is on chain as it is in the database."""
        given = zip(opened.submissions, opened.results, strict=True)
        fined = [submission for submission, result in given if isinstance(result, Rejected)]
        try:
            check_on_chain(self._capsule.chain, self._campaign, [*fined, opened.submissions[-1]])
        except CapsuleError:
            self.gatherer.open_again(fined)
            raise

    def _settle(self, version: Version, round_: RoundRecord, opened: OpenedRound) -> None:
        capsule, campaign = self._capsule, self._campaign
        block = opened.submissions[-1].block
        valid = {index: result for index, result in enumerate(opened.results) if isinstance(result, Opened)}
        judgement = self._judge(version, opened.seed(round_.head, block_hash(capsule.chain, block)), valid)
        judged = dict(zip(valid, judgement.results, strict=True))
        following = None
        if judgement.weights is not None:
            gradients = dict(enumerate(valid.values()))
            following = self._advancer.advance(version, self._keys.of(version).public, judgement, gradients)
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
            self._postponed.put_off(round_.head, error)
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


def _outcome(result: Result, judged: Judged | None) -> Outcome:
    if isinstance(result, Rejected) or judged is None:
        verdict = result.verdict if isinstance(result, Rejected) else Verdict.LEFT_OUT
        return Outcome(verdict, 0, Ppm(0))
    return Outcome(judged.verdict, judged.weight, judged.share)


def _reason(result: Result, judged: Judged | None) -> str:
    if isinstance(result, Rejected):
        return result.reason
    return "" if judged is None else judged.reason
