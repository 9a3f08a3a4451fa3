"""What tests put into a Capsule's database, and how they ask it from several threads at once."""

import dataclasses
import json
import threading
from collections.abc import Callable
from typing import Any

from capsule.state import State, StoredAdmission, StoredKey, StoredRound, Submission, Version
from sonar.chain.records import Admission, Entry
from sonar.storage import Artifact
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm, digest_of

AUDIT_KEY = bytes(range(32))
OWNER = Address("0x00000000000000000000000000000000000000AA")
MINE = Address("0x00000000000000000000000000000000000000bB")
CAMPAIGN = CampaignId(b"c" * 32)


def digest(text: str) -> Digest:
    return Digest(text.encode().ljust(32, b"."))


def version(number: int = 0) -> Version:
    model = Artifact(Cid(f"model {number}"), digest(f"model {number}"))
    return Version(number, Ppm(500_000 + number), KeyId(digest(f"key {number}")), model, b"weights %d" % number)


def admission(campaign: CampaignId = CAMPAIGN) -> StoredAdmission:
    given = Admission(
        digest_of(b"spec"), digest("model 0"), KeyId(digest("key 0")), b"s" * 32, Ppm(500_000), OWNER, OWNER, 2**33
    )  # fmt: skip
    return StoredAdmission(campaign, given, b"signature", b"spec", Cid("model"), b"validation")


def signed(number: int = 0, head: bytes = b"h" * 32, *, mark: str = "") -> StoredRound:
    """A settlement of a round, which makes the version of the next number."""
    made = version(number + 1)
    value = {
        "score": made.score, "key": "0x" + made.key.hex(), "model": "0x" + made.model.digest.hex(),
        "outcomes": [{"verdict": "kept"}], "mark": mark,
    }  # fmt: skip
    return StoredRound(number, head, json.dumps(value), b"next weights", "signed", KeyId(digest("key 0")))


def unsealed(before: StoredKey, _after: StoredKey) -> bytes:
    """Changes keys whose secrets are no sealed records."""
    return before.secret


def spare(key_id: KeyId, time: float = 0.0, *, secret: bytes = b"sealed") -> StoredKey:
    return StoredKey(key_id, b"n", secret, "spare", None, time=time)


def admit(state: State, stored: StoredAdmission, start: Version) -> None:
    """Stores an admission under a key that was issued and used up."""
    given = stored.admission
    if state.key(given.key) is None:
        state.add_key(spare(given.key))
        assert state.claim_key("issued", given.owner, 1.0, reseal=unsealed) is not None
        assert state.use_up_key(given.key, given.owner, 2.0, reseal=unsealed)
    state.add_admission(stored, start)


def submission(number: int, index: int, block: int, gradient: str = "gradient") -> Submission:
    return Submission(number, index, Entry(MINE, digest("box"), digest(gradient)), Cid("box"), block)


def at_once(count: int, action: Callable[[int], Any]) -> list[Any]:
    """What the action returns for each number, all started together."""
    results: list[Any] = [None] * count
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        results[number] = action(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# ---- the audit log

ENTRIES = 6
"""How many entries `fill` appends."""


@dataclasses.dataclass
class Clock:
    """A clock that a test moves."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def fill(state: State, count: int = ENTRIES) -> None:
    """Appends entries that tell nothing."""
    with state.transaction() as db:
        for number in range(count):
            state.audit.append(db, "trial", {"number": number, "digest": bytes([number] * 32), "nothing": None})


def entries(state: State) -> list[dict[str, Any]]:
    """The audit log as rows."""
    return [dataclasses.asdict(entry) for entry in state.audit.entries()]
