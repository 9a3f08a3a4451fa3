"""What must hold after any number of kills: the chain, the database, the audit log and the keys agree."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from capsule.home import open_home
from capsule.keypool import KeyPool
from capsule.secret import decrypt, generate_key
from capsule.weights import open_weights
from capsule.wire import RoundReply
from sonar.chain.client import SonarClient
from sonar.chain.cursor import campaign_events
from sonar.chain.events import RoundExpired, RoundSettled
from sonar.config import Network
from sonar.protocol.messages import Domain, verify_settlement
from sonar.protocol.payloads import decode_weights
from sonar.protocol.spec import Spec
from sonar.storage import ContentStore
from sonar.syft import load_model
from sonar.units import Address, CampaignId, digest_of

__all__ = ["Findings", "check_market", "survivors"]


@dataclass
class Findings:
    """What was counted, and everything that does not hold."""

    rounds: int = 0
    advanced: int = 0
    signatures: int = 0
    relayed: int = 0
    wasted_keys: int = 0
    problems: list[str] = field(default_factory=list)

    def expect(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)


def check_market(
    home: Path, passphrase: str, database: str | None, network: Network, store: ContentStore, ids: list[CampaignId]
) -> Findings:
    """Opens the stopped Capsule's home and compares all that it holds with the chain."""
    found = Findings()
    opened = open_home(home, passphrase, database=database)
    state, chain = opened.state, SonarClient.from_network(network)
    pool = KeyPool(
        state, opened.vault, lambda: generate_key(512, allow_insecure_small_key=True), allow_insecure_small_key=True
    )
    domain, attester = Domain(chain.chain_id, chain.address), Address(opened.attester.address)
    try:
        audited: Counter[tuple[str, int, str]] = Counter()
        digests = {}
        for entry in state.audit.entries():
            if entry.kind == "settlement":
                body = json.loads(entry.body)
                audited[place := (body["campaign"], body["round"], body["head"])] += 1
                digests[place] = body["settlement"]
        for campaign in ids:
            name = campaign.hex()
            events = campaign_events(chain, campaign, network.start_block)
            settled = [event for event in events if isinstance(event, RoundSettled)]
            found.rounds += len(settled)
            found.expect(not any(isinstance(event, RoundExpired) for event in events), f"a round of {name} expired")
            numbers = [event.round for event in settled]
            found.expect(numbers == list(range(len(numbers))), f"the rounds of {name} were settled as {numbers}")
            found.expect(chain.round(campaign).number == len(numbers), f"{name} has a round that is not settled")
            stored = state.rounds(campaign)
            found.signatures += len(stored)
            found.expect([one.round for one in stored] == numbers, f"{name} was not signed once a round")
            version = 0
            for event, one in zip(settled, stored, strict=False):
                where = f"round {one.round} of {name}"
                settlement, signature = RoundReply.model_validate_json(one.settlement).settlement()
                verify_settlement(domain, settlement, signature, attester)
                same = (settlement.model, settlement.score, settlement.key) == (event.model, event.score, event.key)
                found.expect(same, f"{where}: the chain has another settlement than the database")
                found.expect(one.state == "final", f"{where} is {one.state} in the database")
                place = (name, one.round, one.head.hex())
                found.expect(audited[place] == 1, f"{where}: {audited[place]} signatures in the audit log")
                found.expect(digests.get(place) == digest_of(one.settlement.encode()).hex(), f"{where}: other bytes")
                version += settlement.advances
            found.advanced += version
            record, admission = chain.campaign(campaign), state.admission(campaign)
            found.expect(record.version == version, f"{name}: version {record.version} on chain, {version} settled")
            if admission is None:
                found.problems.append(f"{name} has no admission")
                continue
            spec = Spec.parse(admission.spec)
            for number in range(version + 1):
                held = state.version(campaign, number)
                if held is None:
                    found.problems.append(f"version {number} of {name} is lost")
                    continue
                model = load_model(store.get(held.model, max_bytes=10**6), allow_insecure_small_key=True)
                weights = decode_weights(open_weights(opened.vault, campaign, held), spec)
                opens = bool((decrypt(pool.secret(held.key), model) == weights).all())
                found.expect(opens, f"the key of version {number} of {name} opens another model")
            found.relayed += sum(len(state.relays(campaign, number)) for number in numbers)
        found.expect(sum(audited.values()) == found.signatures, "the audit log tells of other settlements")
        found.expect(state.counts()["unsettled"] == 0, "settlements are not final")
        found.expect(state.open_relays() == [], "transactions are still under way")
        found.wasted_keys = state.keys_by_use().get("round", 0) - found.advanced
    finally:
        state.close()
    verify = [sys.executable, "-m", "capsule", "audit", "verify", "--home", str(home)]
    secret = {"SONAR_CAPSULE_PASSPHRASE": passphrase}
    where = {} if database is None else {"SONAR_CAPSULE_DATABASE": database}
    done = subprocess.run(verify, env={**os.environ, **secret, **where}, capture_output=True, text=True, check=False)
    found.expect(done.returncode == 0, f"the audit log is broken: {done.stderr.strip()}")
    return found


def survivors(sessions: set[int]) -> list[int]:
    """The living processes of these sessions: what a killed Capsule left behind."""
    alive = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
        if fields[0] != "Z" and int(fields[3]) in sessions:
            alive.append(int(place.parent.name))
    return alive
