"""What a verdict cost a mine, and why: from the chain and from the Capsule, which may be down or hostile."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from capsule.client import CapsuleClient
from capsule.wire import RoundReply
from mine.commands.session import onlooking
from mine.overview import sentence
from mine.status import status_report, status_table
from sonar.chain.records import Outcome, Settlement, Verdict
from sonar.units import Cid, Digest, KeyId, Ppm

NOISE = "left out: its value is not above the noise of the validation set"


class Rounds(ThreadingHTTPServer):
    """A Capsule's public half: answers for what is in `told`, by path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.told: dict[str, bytes] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def tell(self, campaign, number: int, *reasons: str) -> None:
        """Says these sentences of a round in which everybody was left out."""
        settlement = Settlement(
            campaign=campaign, round=number, head=bytes(32), score=Ppm(5), exponent=0, model=Digest(bytes(32)),
            key=KeyId(bytes(32)), product=Digest(bytes(32)), model_cid=Cid(""), product_cid=Cid(""),
            outcomes=tuple(Outcome(Verdict.LEFT_OUT, 0, Ppm(0)) for _ in reasons),
        )  # fmt: skip
        reply = RoundReply.of(
            settlement, bytes(65), reasons, (None,) * len(reasons), seed_block=1, sampling_error=Ppm(0)
        )
        self.told[f"/v1/campaigns/0x{campaign.hex()}/rounds/{number}"] = reply.model_dump_json().encode()


class _Answer(BaseHTTPRequestHandler):
    server: Rounds

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        body = self.server.told.get(self.path)
        self.send_response(503 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def capsule(stage) -> Iterator[Rounds]:
    """A Capsule that the stage's network names, as it stands when a mine is made."""
    with Rounds() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        stage.network = stage.network.model_copy(update={"capsule_url": server.url})
        yield server
        server.shutdown()
        thread.join()


def left_out(stage, mine, ledger):
    """A round of two in which this mine's gradient and another are left out; the campaign and the mine's daemon."""
    campaign = stage.campaign(stage.spec(rounds={"round_size": 2}))
    daemon = mine.daemon(ledger, stage.store)
    daemon.step()
    stage.submit_other(campaign)
    stage.settle(campaign, [Verdict.LEFT_OUT, Verdict.LEFT_OUT])
    return campaign, daemon


def judged(mine):
    """The one verdict that was told."""
    (facts,) = [facts for what, facts in mine.told if what == "judged"]
    return facts


def test_a_verdict_is_told_with_its_reason_and_what_it_cost(stage, capsule):
    mine = stage.mine()
    with mine.home.ledger() as ledger:
        campaign, daemon = left_out(stage, mine, ledger)
        capsule.tell(campaign, 0, NOISE, "left out: other")
        daemon.step()
        bond = stage.client.campaign(campaign).terms.bond
        assert judged(mine)["reason"] == NOISE
        assert judged(mine)["bond_lost_wei"] == bond // 10
        assert sentence("judged", judged(mine)).endswith(
            f"round 0: {NOISE}, share 0.00%, 0 ether, 0.0001 ether of the bond lost"
        )
        assert ledger.submission(campaign, 0).note == NOISE


def test_a_capsule_that_is_down_stops_no_mine_and_status_asks_again_later(stage, capsule):
    mine = stage.mine()
    with mine.home.ledger() as ledger:
        campaign, daemon = left_out(stage, mine, ledger)
        daemon.step()
    assert capsule.asked
    assert judged(mine)["reason"] is None
    assert "round 0: left out, share" in sentence("judged", judged(mine))
    assert len(stage.submitted(campaign)) == 3, "the next round is mined"
    report = status_report(mine.home.path, mine.network_file)
    assert "round 0: left out, 0 ether, 0.0001 ether of the bond lost" in status_table(report)

    capsule.tell(campaign, 0, NOISE, "left out: other")
    (row, _) = json.loads(mine.call("status", "--json").stdout)["submissions"]
    assert (row["note"], row["bond_lost_wei"]) == (NOISE, row["bond_wei"] // 10)
    capsule.told.clear()
    before = len(capsule.asked)
    assert f"round 0: {NOISE}, 0 ether, 0.0001 ether" in mine.call("status").stdout
    assert len(capsule.asked) == before, "what was told once is in the ledger"


def test_a_hostile_sentence_reaches_no_terminal(stage, capsule):
    mine = stage.mine()
    with mine.home.ledger() as ledger:
        campaign, daemon = left_out(stage, mine, ledger)
        capsule.tell(campaign, 0, "kept\x1b]0;owned\x07\n" * 1000, "")
        daemon.step()
    shown = mine.call("status").stdout
    assert "left out (kept?]0;owned??kept" in shown
    assert "\x1b" not in shown
    assert len(shown) < 2_000


def test_once_for_a_campaign_that_there_is_not_is_an_error(stage):
    mine = stage.mine()
    campaign = stage.campaign()
    arguments = ("run", "--once", "--allow-insecure-small-key", "--campaign")
    wrong = "0x" + ("0" if campaign.hex()[0] != "0" else "1")
    done = mine.call(*arguments, wrong)
    assert done.returncode == 3
    assert f"no campaign's id begins with {wrong}: `mine campaigns` lists them all" in done.stderr
    assert stage.submitted(campaign) == []
    assert mine.call(*arguments, campaign.hex()[:6]).returncode == 0
    assert len(stage.submitted(campaign)) == 1


def test_whoever_asked_the_capsule_closes_what_it_asked_with(stage, capsule, monkeypatch):
    opened, closed = [], []
    begin, end = CapsuleClient.__init__, CapsuleClient.close
    monkeypatch.setattr(CapsuleClient, "__init__", lambda self, *a, **k: (opened.append(self), begin(self, *a, **k))[1])
    monkeypatch.setattr(CapsuleClient, "close", lambda self: (closed.append(self), end(self)))
    mine = stage.mine()
    with mine.home.ledger() as ledger:
        daemon = mine.daemon(ledger, stage.store)
        daemon.step()
        daemon.close()
        daemon.close()
        assert len(opened) == 1
    status_report(mine.home.path, mine.network_file)
    with onlooking(mine.home.path, mine.network_file):
        pass
    assert len(opened) == 3
    assert closed == opened
