"""A Capsule's home with something of every kind in it, made cheaply; and how to see that nothing of it was lost."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eth_account import Account
from sqlalchemy import select

from capsule.home import OpenHome, create_home, unlock
from capsule.keypool import KeyPool
from capsule.secret import Record, SecretKey, generate_key
from capsule.state import Final, State, StoredAdmission, StoredRound, Submission, Told, Version
from capsule.state import tables as t
from capsule.weights import open_weights, seal_weights
from sonar.chain.heads import entries_head
from sonar.chain.records import Admission, Entry
from sonar.storage import Artifact
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm, digest_of

PASSPHRASE = "correct horse"
CHEAP = (1, 8192)
OWNER = Address("0x00000000000000000000000000000000000000AA")
VALIDATION, WEIGHTS = b"the validation set" * 1000, [b"start weights", b"next weights", b"last weights"]
MODEL = Digest(b"m" * 32)
RUNNING, OVER = CampaignId(b"r" * 32), CampaignId(b"o" * 32)


def cheap_keystores() -> None:
    """Makes keystores of this process fast and weak; eth_account's default stretches each for a second."""
    strong = Account.encrypt

    def weak(private_key: Any, password: str, kdf: str | None = None, iterations: int | None = None) -> Any:
        return strong(private_key, password, kdf="pbkdf2", iterations=2)

    Account.encrypt = weak  # type: ignore[method-assign]


@dataclass
class Filled:
    """What was put into a home."""

    keys: dict[str, list[KeyId]]
    secrets: dict[KeyId, bytes]


def make_home(directory: Path, database: str | None = None) -> OpenHome:
    return create_home(
        directory, PASSPHRASE, 512, database=database, cost=CHEAP, allow_insecure_small_key=True
    )  # fmt: skip


def pool_of(home: OpenHome, clock: Callable[[], float] = time.time) -> KeyPool:
    """The keys of a home; it makes none."""

    def make() -> SecretKey:
        raise AssertionError("no key is made")

    return KeyPool(home.state, home.vault, make, allow_insecure_small_key=True, clock=clock)


def fill(home: OpenHome) -> Filled:
    """Keys of every use; a campaign that runs and one that is over, each of three versions with a settlement."""
    keys: dict[str, list[KeyId]] = {"spare": [], "issued": [], "used": [], "round": []}
    secrets: dict[KeyId, bytes] = {}

    def new(use: str, campaign: CampaignId | None = None) -> KeyId:
        key = generate_key(256, allow_insecure_small_key=True)
        key_id, data = key.public.key_id, key.to_bytes()
        pool = pool_of(home)
        pool.add(key)
        if use != "spare":
            first = "issued" if use == "used" else use
            taken = pool.claim(first, None if use == "round" else OWNER, campaign=campaign)
            assert taken.public.key_id == key_id
        if use == "used":
            assert pool.use_up(key_id, OWNER)
        keys[use].append(key_id)
        secrets[key_id] = data
        return key_id

    for campaign in (RUNNING, OVER):
        _fill_campaign(home, campaign, [new("used"), new("round", campaign), new("round", campaign)])
    new("issued")
    new("spare")
    new("spare")
    return Filled(keys, secrets)


def _fill_campaign(home: OpenHome, campaign: CampaignId, keys: list[KeyId]) -> None:
    state, vault = home.state, home.vault
    versions = [
        Version(
            number,
            Ppm(500_000 + number),
            key,
            Artifact(Cid(f"model {number}"), MODEL),
            seal_weights(vault, WEIGHTS[number], campaign, Ppm(500_000 + number), key, MODEL),
        )
        for number, key in enumerate(keys)
    ]
    given = Admission(
        digest_of(b"spec"), Digest(b"m" * 32), keys[0], home.sealing.public, Ppm(500_000), home.address, OWNER, 2**33
    )  # fmt: skip
    sealed = vault.seal(VALIDATION, Record.VALIDATION, campaign)
    state.add_admission(StoredAdmission(campaign, given, b"signature", b"spec", Cid("m"), sealed), versions[0])
    submitted = tuple(
        (campaign, Submission(number, 0, Entry(OWNER, Digest(b"a" * 32), Digest(bytes([number] * 32))), Cid("box"), 5))
        for number in (0, 1, 2)
    )
    heads = [entries_head(campaign, one.round, [one.entry]) for _, one in submitted]
    for number in (0, 1):
        settlement = json.dumps(
            {
                "score": 500_001 + number,
                "key": "0x" + keys[number + 1].hex(),
                "model": "0x" + "6d" * 32,
                "outcomes": [{"verdict": "kept"}],
            }
        )
        stored = StoredRound(number, heads[number], settlement, versions[number + 1].weights, "signed", keys[number])
        state.add_round(campaign, stored, {0: b"a kept gradient"})
    final = tuple(Final(campaign, number, heads[number], 7, versions[number + 1]) for number in (0, 1))
    over = ((campaign, 8),) if campaign == OVER else ()
    assert state.follow(Told(9, ((campaign, 4),), submitted, final, over=over), state.position())


def check_everything_opens(directory: Path, state: State, passphrase: str, filled: Filled) -> None:
    """Unlocks the database and opens every sealed record in it."""
    home = unlock(directory, state, passphrase)
    for key_id, data in filled.secrets.items():
        assert pool_of(home).secret(key_id).to_bytes() == data
        assert SecretKey.from_bytes(data, allow_insecure_small_key=True).public.key_id == key_id
    for campaign in (RUNNING, OVER):
        stored = state.admission(campaign)
        assert stored is not None
        assert home.vault.open(stored.validation, Record.VALIDATION, campaign) == VALIDATION
        for number, weights in enumerate(WEIGHTS):
            version = state.version(campaign, number)
            assert version is not None
            assert open_weights(home.vault, campaign, version) == weights
        for round_ in state.rounds(campaign):
            made = state.version(campaign, round_.round + 1)
            assert made is not None
            assert round_.weights is not None
            again = replace(made, weights=round_.weights)
            assert open_weights(home.vault, campaign, again) == WEIGHTS[round_.round + 1]
    state.audit_head()


def all_values(state: State) -> list[object]:
    """Every value in the database."""
    with state.transaction() as db:
        return [value for table in t.metadata.sorted_tables for row in db.execute(select(table)) for value in row]
