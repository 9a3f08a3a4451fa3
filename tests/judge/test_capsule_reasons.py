"""A Capsule's sentences on gradients, as strangers to it read them: short, printable, and never in the way."""

import json

import httpx
import pytest

from capsule.client import CapsuleClient
from capsule.reasons import LONGEST_REASON, Reasons
from capsule.wire import RoundReply
from sonar.chain.records import Outcome, Settlement, Verdict
from sonar.protocol.messages import Domain
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm

CAMPAIGN, OTHER = CampaignId(b"\x11" * 32), CampaignId(b"\x22" * 32)
DOMAIN = Domain(31337, Address("0x" + "00" * 19 + "01"))


def reply(*sentences: tuple[Verdict, str], campaign: CampaignId = CAMPAIGN, number: int = 0) -> bytes:
    """A Capsule's answer about a round that stayed."""
    settlement = Settlement(
        campaign=campaign, round=number, head=bytes(32), score=Ppm(5), exponent=0, model=Digest(bytes(32)),
        key=KeyId(bytes(32)), product=Digest(bytes(32)), model_cid=Cid(""), product_cid=Cid(""),
        outcomes=tuple(Outcome(verdict, 0, Ppm(0)) for verdict, _ in sentences),
    )  # fmt: skip
    reasons = tuple(reason for _, reason in sentences)
    made = RoundReply.of(
        settlement, bytes(65), reasons, (None,) * len(reasons), seed_block=1, sampling_error=Ppm(0)
    )  # fmt: skip
    return made.model_dump_json().encode()


class Answering:
    """A Capsule that gives one answer and counts how often it was asked; `clock` is the reader's."""

    def __init__(self, status: int, content: bytes) -> None:
        self.status, self.content, self.asked, self.clock = status, content, 0, 0.0

    def answer(self, request: httpx.Request) -> httpx.Response:
        """The same each time."""
        self.asked += 1
        if self.status == 0:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(self.status, content=self.content)

    def reasons(self) -> Reasons:
        """What reads it."""
        client = CapsuleClient("http://capsule", DOMAIN, transport=httpx.MockTransport(self.answer))
        return Reasons(client, clock=lambda: self.clock)


def test_a_round_is_asked_for_once_and_each_gradient_has_its_own_sentence():
    capsule = Answering(200, reply((Verdict.LEFT_OUT, "left out: noise"), (Verdict.COPY, "copy: of another")))
    reasons = capsule.reasons()
    assert reasons.why(CAMPAIGN, 0, 0, Verdict.LEFT_OUT) == "left out: noise"
    assert reasons.why(CAMPAIGN, 0, 1, Verdict.COPY) == "copy: of another"
    assert reasons.why(CAMPAIGN, 0, 2, Verdict.COPY) == ""
    assert capsule.asked == 1


def test_a_sentence_on_another_verdict_than_the_chains_is_not_shown():
    reasons = Answering(200, reply((Verdict.KEPT, "kept"))).reasons()
    assert reasons.why(CAMPAIGN, 0, 0, Verdict.INVALID) == ""
    assert reasons.why(CAMPAIGN, 0, 0, Verdict.KEPT) == "kept"


@pytest.mark.parametrize("bad", ["\x1b[2J", "\n", "\r", "\u202e", "\u200b", "\x00", "\x9b"])
def test_what_could_drive_a_terminal_is_not_shown(bad):
    reasons = Answering(200, reply((Verdict.INVALID, f"invalid: {bad}gone"))).reasons()
    shown = reasons.why(CAMPAIGN, 0, 0, Verdict.INVALID)
    assert shown == f"invalid: {bad.replace(bad[0], '?', 1)}gone"
    assert shown.isprintable()


def test_a_long_sentence_is_cut_and_says_so():
    reasons = Answering(200, reply((Verdict.INVALID, "x" * (LONGEST_REASON + 1)))).reasons()
    shown = reasons.why(CAMPAIGN, 0, 0, Verdict.INVALID)
    assert len(shown) == LONGEST_REASON
    assert shown.endswith("x...")


@pytest.mark.parametrize("status", [0, 503])
def test_a_capsule_that_is_down_is_left_alone_for_a_minute_whatever_the_round(status):
    capsule = Answering(status, b"")
    reasons = capsule.reasons()
    assert [reasons.why(CAMPAIGN, number, 0, Verdict.KEPT) for number in range(3)] == ["", "", ""]
    assert capsule.asked == 1
    capsule.clock, capsule.status, capsule.content = 60.0, 200, reply((Verdict.KEPT, "kept"))
    assert reasons.why(CAMPAIGN, 0, 0, Verdict.KEPT) == "kept"


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (404, json.dumps({"code": "unknown", "message": "no such round"}).encode()),
        (200, b"<html>"),
        (200, b"[" * 100_000),
        (200, reply((Verdict.KEPT, "kept"), campaign=OTHER)),
        (200, reply((Verdict.KEPT, "kept"), number=7)),
    ],
)
def test_an_answer_that_will_not_do_gives_no_reason_and_only_its_round_waits(status, content):
    capsule = Answering(status, content)
    reasons = capsule.reasons()
    assert reasons.why(CAMPAIGN, 0, 0, Verdict.KEPT) == reasons.why(CAMPAIGN, 0, 0, Verdict.KEPT) == ""
    assert capsule.asked == 1
    assert reasons.why(CAMPAIGN, 1, 0, Verdict.KEPT) == ""
    assert capsule.asked == 2
