"""Events as values, and the cursor: each once, in order, never past the head, never stopped by a hostile string."""

import pytest
from eth_abi import abi as codec
from hypothesis import given
from hypothesis import strategies as st

from sonar.chain import _http, calls, events
from sonar.chain._artifact import arguments_type, artifact, event_topic
from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor, campaign_events
from sonar.chain.errors import RpcTooMuchError
from sonar.chain.events import (
    CampaignClosed,
    CampaignCreated,
    CampaignFinished,
    GradientJudged,
    GradientSubmitted,
    RoundExpired,
    RoundSettled,
    Withdrawn,
)
from sonar.chain.logs import decode_log
from sonar.units import Address


def test_a_cursor_gives_every_event_once_in_the_order_of_the_chain(stage, mines, deployed):
    campaign = stage(min_mines=1, round_size=1)
    (mine,) = mines(1)
    cursor = EventCursor(campaign.owner, deployed.block)
    assert [type(event) for event in cursor.read()] == [CampaignCreated]
    campaign.submit(mine, "a")
    entries = [campaign.entry(mine.account.address, "a")]
    assert [type(event) for event in cursor.read()] == [GradientSubmitted]
    assert cursor.read() == []
    campaign.settle(mine, campaign.settlement(entries, 800_000), entries)
    mine.transact(calls.withdraw(Address(mine.account.address)))
    campaign.owner.transact(calls.close_campaign(campaign.id))
    got = cursor.read()
    assert [type(event) for event in got] == [
        GradientJudged, RoundSettled, CampaignFinished, Withdrawn, CampaignClosed,
    ]  # fmt: skip
    assert [(event.block, event.log_index) for event in got] == sorted((event.block, event.log_index) for event in got)
    assert cursor.next_block == campaign.owner.block_number() + 1


@pytest.mark.parametrize("page", [1, 2, 3, 2000])
def test_the_page_size_changes_nothing(stage, mines, deployed, page):
    campaign = stage()
    for index, mine in enumerate(mines(3)):
        campaign.submit(mine, str(index))
    whole = EventCursor(campaign.owner, deployed.block).read()
    assert EventCursor(campaign.owner, deployed.block, page=page).read() == whole
    assert len(whole) == 4


def test_a_resumed_cursor_goes_on_where_the_first_one_stopped(stage, mines, deployed):
    campaign = stage()
    first, second = mines(2)
    cursor = EventCursor(campaign.owner, deployed.block)
    campaign.submit(first, "1")
    cursor.read()
    campaign.submit(second, "2")
    (event,) = EventCursor(campaign.owner, cursor.next_block).read()
    assert event.mine == second.account.address


def test_a_campaign_cursor_sees_no_other_campaign(stage, mines, deployed):
    one, other = stage(min_mines=1, round_size=1), stage()
    (mine,) = mines(1)
    one.submit(mine, "1")
    other.submit(mine, "1")
    assert {event.id for event in campaign_events(one.owner, one.id, deployed.block)} == {one.id}
    assert len(campaign_events(one.owner, one.id, deployed.block)) == 2


def test_an_expired_round_is_an_event(stage, mines, deployed, advance_time):
    campaign = stage()
    (mine,) = mines(1)
    campaign.submit(mine, "1")
    advance_time(1300)
    campaign.owner.transact(calls.expire_round(campaign.id, 0, [campaign.entry(mine.account.address, "1")]))
    *_, last = campaign_events(campaign.owner, campaign.id, deployed.block)
    assert last == RoundExpired(last.block, last.log_index, last.transaction, campaign.id, 0)


def test_confirmations_hold_the_newest_blocks_back(stage, deployed, advance_time, monkeypatch):
    campaign = stage()
    cursor = EventCursor(campaign.owner, deployed.block, campaign=campaign.id, confirmations=3)
    created = campaign.created.block
    while campaign.owner.block_number() < created + 3:
        advance_time(1)
    # The chain makes a block whenever its clock moves on, so the head is held still for the reader.
    monkeypatch.setattr(campaign.owner, "block_number", lambda: created + 2)
    assert cursor.read() == []
    monkeypatch.setattr(campaign.owner, "block_number", lambda: created + 3)
    assert [type(event) for event in cursor.read()] == [CampaignCreated]


def test_a_cursor_ahead_of_the_chain_waits(stage):
    campaign = stage()
    ahead = campaign.owner.block_number() + 100
    cursor = EventCursor(campaign.owner, ahead)
    assert cursor.read() == []
    assert cursor.next_block == ahead


def test_a_read_that_fails_moves_nothing(stage, deployed, monkeypatch):
    campaign = stage()
    cursor = EventCursor(campaign.owner, deployed.block, page=1)
    asked = []
    real = cursor._logs

    def break_off(start: int, end: int) -> list:
        asked.append(start)
        if len(asked) == 3:
            raise ConnectionError("gone")
        return real(start, end)

    monkeypatch.setattr(cursor, "_logs", break_off)
    with pytest.raises(ConnectionError):
        cursor.read()
    assert cursor.next_block == deployed.block
    assert [type(event) for event in cursor.read()] == [CampaignCreated]


def test_a_node_that_limits_the_range_is_asked_for_less(stage, mines, deployed, monkeypatch):
    campaign = stage()
    for index, mine in enumerate(mines(2)):
        campaign.submit(mine, str(index))
    provider = campaign.owner.web3.provider
    real = provider.make_request

    def limited(method, params):
        if method == "eth_getLogs" and int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) > 1:
            return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "range too wide"}}
        return real(method, params)

    whole = EventCursor(campaign.owner, deployed.block).read()
    monkeypatch.setattr(provider, "make_request", limited)
    campaign.owner.web3.provider._request_func_cache = (None, None)
    assert EventCursor(campaign.owner, deployed.block).read() == whole


def test_events_too_large_for_one_answer_stop_no_reader(stage, mines, deployed, monkeypatch):
    campaign = stage(round_size=8)
    for index, mine in enumerate(mines(6)):
        campaign.submit(mine, str(index), cid="x" * 30_000)
    whole = EventCursor(campaign.owner, deployed.block).read()
    monkeypatch.setattr(_http, "LONGEST_ANSWER", 100_000)
    assert EventCursor(campaign.owner, deployed.block).read() == whole
    cursor, pages = EventCursor(campaign.owner, deployed.block), []
    while (page := cursor.read_page(campaign.owner.block_number())) is not None:
        pages.append(page)
    assert len(pages) > 1
    assert [event for page in pages for event in page.events] == whole
    assert [page.first for page in pages] == [deployed.block, *(page.last + 1 for page in pages[:-1])]


def test_a_node_that_takes_too_long_for_many_blocks_is_asked_for_fewer_until_it_is_over(stage, deployed, monkeypatch):
    campaign = stage()
    cursor, asked = EventCursor(campaign.owner, 0, page=64), []

    def slow(start: int, end: int) -> list:
        asked.append(end - start + 1)
        if end - start + 1 > 8 and start < 200:
            raise RpcTooMuchError("it did not answer in time")
        return []

    monkeypatch.setattr(cursor, "_logs", slow)
    while cursor.read_page(1000) is not None:
        assert len(asked) < 100
    assert asked[:4] == [64, 16, 4, 4]
    assert asked[-2] == 64
    monkeypatch.setattr(cursor, "_logs", lambda *_: slow(0, 63))
    with pytest.raises(RpcTooMuchError):
        cursor.read_page(2000)
    assert cursor.next_block == 1001


@pytest.mark.parametrize("cid", ["x" * 101, "x" * 20_000, "two words", "line\nbreak", "\x1b[31mred", "žluťoučký", ""])
def test_a_hostile_cid_arrives_empty(stage, mines, cid):
    campaign = stage()
    (mine,) = mines(1)
    (event,) = campaign.submit(mine, "x", cid=cid).events
    assert event.cid == ""
    assert event.mine == mine.account.address


def test_a_cid_that_is_not_utf8_stops_no_reader(stage, mines, deployed):
    campaign = stage()
    (mine,) = mines(1)
    data = mine.encode(campaign.submission("x", cid="A" * 32)).data.hex().replace("41" * 32, "ff" * 32)
    account = mine.account
    chain = {"nonce": mine.next_nonce(), "chainId": mine.chain_id, "gas": 300_000, "gasPrice": 10**10}
    signed = account.sign_transaction({**chain, "to": mine.address, "data": data, "value": campaign.terms.bond})
    sent = mine.web3.eth.send_raw_transaction(signed.raw_transaction)
    assert mine.wait(bytes(sent)).succeeded
    *_, event = campaign_events(campaign.owner, campaign.id, deployed.block)
    assert (event.mine, event.cid) == (mine.account.address, "")


def test_logs_of_other_contracts_are_no_events(stage):
    campaign = stage()
    (log,) = campaign.owner.web3.eth.get_transaction_receipt(campaign.created.hash)["logs"]
    assert decode_log(log) == campaign.created.events[0]
    assert decode_log({**log, "topics": []}) is None
    assert decode_log({**log, "topics": [bytes(32)]}) is None


def test_every_event_of_the_contract_has_its_class():
    declared = {entry["name"] for entry in artifact()["abi"] if entry["type"] == "event"}
    ours = {cls.__name__ for cls in events.Event.__args__}
    assert declared - ours <= {"EIP712DomainChanged"}
    assert ours <= declared


@given(index=st.integers(0, 255), cid=st.binary(max_size=300), words=st.lists(st.binary(min_size=32, max_size=32)))
def test_any_submitted_gradient_decodes(index, cid, words):
    entry = next(e for e in artifact()["abi"] if e["type"] == "event" and e["name"] == "GradientSubmitted")
    kinds = ["bytes" if kind == "string" else kind for kind in arguments_type(entry)[3:]]
    digest = words[0] if words else bytes(32)
    log = {
        "topics": [event_topic(entry), b"\1" * 32, bytes(31) + b"\2", bytes(12) + b"\3" * 20],
        "data": codec.encode(kinds, [index, digest, digest, cid]),
        "blockNumber": 5,
        "logIndex": 6,
        "transactionHash": b"\7" * 32,
    }
    event = decode_log(log)
    assert (event.round, event.index, event.artifact, event.block, event.log_index) == (2, index, digest, 5, 6)
    assert event.cid == "" or event.cid.encode() == cid


def test_the_cursor_needs_no_account(stage, deployed):
    campaign = stage()
    owner = campaign.owner
    reader = SonarClient(owner.web3, owner.address, owner.chain_id)
    assert len(EventCursor(reader, deployed.block).read()) == 1
