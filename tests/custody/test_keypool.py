"""One pool of keys that several processes share: each key is handed out once, and who waits sees what others make."""

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from custody import CHEAP, PASSPHRASE

from capsule.errors import CapsuleRefusedError, CapsuleUnavailableError
from capsule.keypool import KeyPool
from capsule.secret import SecretKey, Vault, generate_key
from capsule.state import State
from sonar.units import Address, CampaignId

OWNER = Address("0x00000000000000000000000000000000000000AA")


def small_key() -> SecretKey:
    return generate_key(256, allow_insecure_small_key=True)


@pytest.fixture(scope="module")
def vault() -> Vault:
    return Vault.create(PASSPHRASE, cost=CHEAP)


@pytest.fixture
def states(postgres_url: str) -> Iterator[list[State]]:
    """Two processes' views of one database."""
    opened = [State(postgres_url), State(postgres_url)]
    opened[0].audit.begin(bytes(32))
    opened[1].audit.unlock(bytes(32))
    yield opened
    for state in opened:
        state.close()


def pool(state: State, vault: Vault, make: Any = small_key, **options: Any) -> KeyPool:
    return KeyPool(state, vault, make, allow_insecure_small_key=True, **options)


def test_two_processes_hand_out_every_key_once(states: list[State], vault: Vault) -> None:
    pools = [pool(state, vault, size=2) for state in states]
    claimed: list[int] = []

    def claim(number: int) -> None:
        claimed.extend(pools[number % 2].claim("round", timeout=60).public.n for _ in range(5))

    for one in pools:
        one.start()
    threads = [threading.Thread(target=claim, args=(number,)) for number in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for one in pools:
            one.stop()
    assert len(claimed) == len(set(claimed)) == 20
    assert len([key for key in states[0].keys() if key.use == "round"]) == 20  # noqa: SIM118  (a method)


def test_who_waits_for_a_key_gets_one_that_another_process_made(states: list[State], vault: Vault) -> None:
    stop = threading.Event()

    def never() -> SecretKey:
        stop.wait(60)
        raise CapsuleUnavailableError("it makes none")

    waiting = pool(states[0], vault, never, cancel=stop.set)
    waiting.start()
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.append(waiting.claim("round", timeout=60).public.n))
    thread.start()
    other = pool(states[1], vault, size=1)
    other.start()
    try:
        thread.join(60)
    finally:
        other.stop()
        waiting.stop()
    assert len(got) == 1


def test_a_key_is_claimed_for_a_campaign_and_counted_against_its_account(states: list[State], vault: Vault) -> None:
    keys, campaign = pool(states[0], vault), CampaignId(b"c" * 32)
    key = keys.claim("round", campaign=campaign)
    row = states[1].key(key.public.key_id)
    assert row is not None
    assert (row.use, row.campaign) == ("round", campaign)
    since = time.time() - 60
    keys.claim("issued", OWNER, at_most=(1, since))
    with pytest.raises(CapsuleRefusedError, match="1 keys"):
        keys.claim("issued", OWNER, at_most=(1, since))


def test_the_log_tells_how_far_the_pool_is_and_no_secret(
    states: list[State], vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[SecretKey] = []

    def make() -> SecretKey:
        made.append(small_key())
        return made[-1]

    filled = pool(states[0], vault, make, size=2)
    with caplog.at_level(logging.INFO, logger="capsule.keys"):
        filled.start()
        deadline = time.monotonic() + 60
        while "2 of 2 are ready" not in caplog.text:
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)
        filled.stop()
    assert "1 of 2 are ready" in caplog.text
    for key in made:
        assert str(key._p) not in caplog.text
        assert key.to_bytes().hex() not in caplog.text


def test_a_key_that_cannot_be_made_is_tried_again(
    states: list[State], vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsule.keypool._RETRY_SECONDS", 0.01)
    failures = [
        CapsuleUnavailableError("the database cannot be used now"),
        OSError(24, "Too many open files"),
        ValueError("a mistake of ours"),
    ]

    def make() -> SecretKey:
        if failures:
            raise failures.pop()
        return small_key()

    recovering = pool(states[0], vault, make, size=1)
    recovering.start()
    try:
        assert recovering.claim("round", timeout=60)
    finally:
        recovering.stop()


def test_requests_for_keys_leave_half_of_them_to_rounds(states: list[State], vault: Vault) -> None:
    stop = threading.Event()
    left = iter([small_key() for _ in range(4)])

    def make() -> SecretKey:
        if (key := next(left, None)) is not None:
            return key
        stop.wait(60)
        raise CapsuleUnavailableError("it makes no more")

    keys = pool(states[0], vault, make, size=4, cancel=stop.set)
    keys.start()
    try:
        for _ in range(2):
            keys.claim("issued", OWNER, timeout=60)
        with pytest.raises(CapsuleUnavailableError, match="try again"):
            keys.claim("issued", OWNER, timeout=0.1)
        assert keys.claim("round", timeout=60)
        assert keys.claim("round", timeout=60)
    finally:
        keys.stop()


def test_the_maker_rests_while_the_pool_is_full(states: list[State], vault: Vault) -> None:
    rested = threading.Event()
    filled = pool(states[0], vault, size=2, rest=rested.set)
    filled.start()
    try:
        assert rested.wait(60)
        assert states[0].spare_keys() == 2
    finally:
        filled.stop()
