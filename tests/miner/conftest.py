"""A stage for mines: a real chain, contract, store and signatures; the Capsule's part is played with real keys."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Commands
from eth_account import Account
from eth_account.signers.local import LocalAccount

from capsule.secret import SecretKey, decrypt, generate_key
from mine.daemon import Daemon
from mine.home import Home
from mine.ledger import Ledger
from mine.worker import Options, Worker
from sonar import syft
from sonar.chain import calls
from sonar.chain.client import SonarClient
from sonar.chain.cursor import campaign_events
from sonar.chain.deploy import Deployment
from sonar.chain.events import GradientSubmitted
from sonar.chain.records import NATIVE, Admission, Entry, Outcome, Settlement, Verdict
from sonar.chain.token import ensure_allowance
from sonar.config import Network
from sonar.protocol.committee import join_signatures
from sonar.protocol.messages import Domain, hash_admission, sign_admission, sign_settlement
from sonar.protocol.sealing import BoxContext, Purpose, SealingKeyPair, open_box_for
from sonar.protocol.spec import Spec
from sonar.storage import Artifact, ContentStore, open_store
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm, digest_of, ether

FEATURES, CLASSES, RECORDS = 4, 3, 60
PATIENCE = 240.0
CRASHING = Path(__file__).with_name("crashing_mine.py")


def _write_csv(path: Path, *, seed: int = 1, records: int = RECORDS, names: list[str] | None = None) -> Path:
    """A table of separable classes "0" to "2" with the features x0 to x3 and the target "target"."""
    rng = np.random.default_rng(seed)
    labels = np.arange(records) % CLASSES
    features = rng.normal(size=(records, FEATURES)) + 2 * np.eye(FEATURES)[labels]
    lines = [",".join([*(names or [f"x{i}" for i in range(FEATURES)]), "target"])]
    lines += [
        ",".join([*(repr(float(v)) for v in row), str(label)]) for row, label in zip(features, labels, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def write_csv() -> Callable[..., Path]:
    """Writes a data set."""
    return _write_csv


@pytest.fixture(scope="session")
def paillier() -> SecretKey:
    """A small key, whose secret half plays the Capsule."""
    return generate_key(512, allow_insecure_small_key=True)


@pytest.fixture(scope="session")
def next_paillier() -> SecretKey:
    """The next round's key."""
    return generate_key(512, allow_insecure_small_key=True)


@dataclass
class MineAt:
    """One mine: its home, its account, and ways to run it."""

    home: Home
    account: LocalAccount
    network: Network
    network_file: Path
    commands: Commands
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    clock: Callable[[], float] = time.time

    def command(self, *arguments: str, crash: str | None = None) -> list[str]:
        """The command line of a `mine` command; `crash` names an instant at which it kills itself."""
        program = ["-m", "mine"] if crash is None else [str(CRASHING), crash]
        return [sys.executable, *program, *arguments, "--home", str(self.home.path)]

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which its commands run."""
        return {**os.environ, "SONAR_NETWORK": str(self.network_file), "OMP_NUM_THREADS": "1"}

    def call(self, *arguments: str, crash: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end; "modules" as a `crash` starts Python anew, to see what is loaded then."""
        if crash != "modules":
            program = ["mine"] if crash is None else [CRASHING, crash]
            return self.commands.run([*program, *arguments, "--home", self.home.path], self.environment)
        command = self.command(*arguments, crash=crash)
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)

    def once(self, crash: str | None = None) -> subprocess.CompletedProcess[str]:
        """`mine run --once` in a process of its own."""
        return self.call("run", "--once", "--allow-insecure-small-key", "--json", crash=crash)

    def add(self, csv: Path, *more: str) -> None:
        """Adds a data set."""
        done = self.call("add", csv.stem, str(csv), "--target", "target", *more)
        assert done.returncode == 0, done.stderr

    def agree(self, **tables: dict[str, Any]) -> None:
        """Writes the owner's policy, by its tables; the tests' data sets are small, which it allows unless told."""
        values = {"data": {"min_records": 10}, **tables}
        self.home.policy_file.write_text(
            "\n".join(
                f"[{table}]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
                for table, settings in values.items()
            )
        )

    def worker(self, ledger: Ledger, store: ContentStore) -> Worker:
        """A worker in this process."""
        return Worker(
            self.home, ledger, self.account, self.network, store,
            lambda what, facts: self.told.append((what, facts)),
            Options(10.0, True, self.clock, insecurely_in_this_process=True),
        )  # fmt: skip

    def daemon(self, ledger: Ledger, store: ContentStore, **more: Any) -> Daemon:
        """A daemon in this process; it never sleeps longer than it must."""
        return Daemon(
            lambda: self.worker(ledger, store),
            self.home.policy,
            lambda what, facts: self.told.append((what, facts)),
            poll=0.05,
            **more,
        )

    def words(self) -> list[str]:
        """What was told so far, in one word each."""
        return [what for what, _ in self.told]

    def reasons(self, word: str) -> list[str]:
        """The reasons given with one word."""
        return [facts["reason"] for what, facts in self.told if what == word]


@dataclass
class Stage:
    """Everything around a mine."""

    owner: LocalAccount
    attester: LocalAccount
    sealing: SealingKeyPair
    paillier: SecretKey
    network: Network
    store: ContentStore
    folder: Path
    client_for: Callable[[LocalAccount | None], SonarClient]
    new_account: Callable[..., LocalAccount]
    commands: Commands

    @property
    def client(self) -> SonarClient:
        """The owner's client."""
        return self.client_for(self.owner)

    @property
    def domain(self) -> Domain:
        """What is signed for."""
        return Domain(self.client.chain_id, self.client.address)

    def spec(self, **changes: Any) -> Spec:
        """The spec of the tests' campaigns."""
        values: dict[str, Any] = {
            "name": "test",
            "features": tuple({"name": f"x{i}"} for i in range(FEATURES)),
            "classes": tuple(str(k) for k in range(CLASSES)),
            "min_records": 20,
            "rounds": {"round_size": 3, "round_seconds": 600},
            "payout": {"target": 900_000},
        }
        return Spec.build(**{**values, **changes})

    def encrypted(self, weights: np.ndarray, secret: SecretKey, spec: Spec, **changes: Any) -> bytes:
        """A model's bytes under a key; `changes` replaces what it says of its encoding."""
        encoding = spec.encoding
        tensor = syft.encrypt(
            weights.astype(object), secret.public, syft.Obfuscator(secret.public),
            **{"slot_width": encoding.slot_width, "scale": encoding.weight_bits, "bound": encoding.weight_bound,
               "stride": encoding.stride(secret.public, spec.shape[1]), **changes},
        )  # fmt: skip
        return syft.dump_model(tensor)

    def campaign(self, spec: Spec | None = None, **changes: Any) -> CampaignId:
        """Publishes a campaign; `changes`: model (bytes), key, oracle, terms_spec, spec_bytes, seconds, bounty, token,
        committee (the address that is the oracle) and signers (who sign for it).
        """
        spec = spec or self.spec()
        model = self.store.put(
            changes.get("model") or self.encrypted(np.zeros(spec.shape, dtype=int), self.paillier, spec)
        )
        document = self.store.put(changes.get("spec_bytes") or spec.to_bytes())
        oracle: LocalAccount = changes.get("oracle", self.attester)
        signers: list[LocalAccount] = changes.get("signers", [oracle])
        bounty, token = changes.get("bounty", ether(1)), changes.get("token", NATIVE)
        now = self.client.now()
        deadline = now + changes.get("seconds", 7200)
        terms = changes.get("terms_spec", spec).terms(bounty=bounty, deadline=deadline, token=token)
        admission = Admission(
            spec=document.digest, model=model.digest, key=changes.get("key", self.paillier.public.key_id),
            sealing_key=self.sealing.public, start_score=Ppm(100_000),
            oracle=Address(changes.get("committee", oracle.address)), owner=Address(self.owner.address),
            valid_until=now + 3600,
        )  # fmt: skip
        signature = join_signatures(
            {Address(signer.address): sign_admission(self.domain, admission, signer) for signer in signers}
        )
        ensure_allowance(self.client, token, bounty)
        self.client.transact(calls.create_campaign(terms, admission, signature, document.cid, model.cid))
        return hash_admission(self.domain, admission)

    def mine(self, *csvs: Path, ether_held: int = 10) -> MineAt:
        """A funded mine with these data sets (default: one that fits)."""
        account = self.new_account(ether_held * 10**18)
        home = Home(self.folder / f"mine-{account.address[:8]}")
        home.create()
        home.account_file.write_text(bytes(account.key).hex())
        home.account_file.chmod(0o600)
        network_file = self.network.save(self.folder / "network.json")
        mine = MineAt(home, account, self.network, network_file, self.commands)
        mine.agree()
        from mine.data import inspect

        with home.ledger() as ledger:
            for csv in csvs or (_write_csv(self.folder / f"{account.address[:8]}.csv"),):
                ledger.add_dataset(inspect(csv.stem, csv, "target"))
        return mine

    def submitted(self, campaign: CampaignId) -> list[GradientSubmitted]:
        """Every gradient that is on chain."""
        events = campaign_events(self.client, campaign, self.network.start_block)
        return [event for event in events if isinstance(event, GradientSubmitted)]

    def submit_other(self, campaign: CampaignId) -> LocalAccount:
        """Another mine's gradient, which nobody will open."""
        other = self.new_account()
        number, record = self.client.round(campaign).number, self.client.campaign(campaign)
        digest = digest_of(other.address.encode())
        self.client_for(other).transact(
            calls.submit_gradient(campaign, number, digest, digest, Cid("bafkother"), record.terms.bond)
        )
        return other

    def opened(self, event: GradientSubmitted, secret: SecretKey, spec: Spec) -> np.ndarray:
        """A posted gradient (features, outputs) as floats: unsealed and decrypted as the Capsule does."""
        box = self.store.get(Artifact(event.cid, event.artifact), max_bytes=1 << 24)
        context = BoxContext(
            Purpose.GRADIENT, self.domain.chain_id, self.domain.contract, event.mine, event.id.hex(), event.round
        )
        payload = open_box_for(box, self.sealing, context)
        assert digest_of(payload) == event.gradient
        tensor = syft.load_gradient(payload, secret.public)
        return (decrypt(secret, tensor) / 2**spec.encoding.gradient_scale).astype(float)

    def settle(self, campaign: CampaignId, verdicts: list[Verdict], *, model: bytes | None = None,
               key: KeyId | None = None, score: int = 500_000) -> None:  # fmt: skip
        """Settles the present round; it advances to `model` under `key` if one is given."""
        present, record = self.client.round(campaign), self.client.campaign(campaign)
        entries = [Entry(e.mine, e.artifact, e.gradient) for e in self.submitted(campaign) if e.round == present.number]
        kept = [verdict is Verdict.KEPT for verdict in verdicts]
        artifact = self.store.put(model) if model else Artifact(Cid(""), Digest(bytes(32)))
        shares = [1_000_000 // max(1, sum(kept)) if keep else 0 for keep in kept]
        if any(kept):
            shares[kept.index(True)] += 1_000_000 - sum(shares)
        settlement = Settlement(
            campaign=campaign, round=present.number, head=present.head,
            score=Ppm(score if model else record.score), exponent=1 if model else 0,
            model=artifact.digest, key=key or KeyId(bytes(32)), product=artifact.digest, model_cid=artifact.cid,
            product_cid=artifact.cid,
            outcomes=tuple(
                Outcome(verdict, int(keep), Ppm(share))
                for verdict, keep, share in zip(verdicts, kept, shares, strict=True)
            ),
        )  # fmt: skip
        signature = sign_settlement(self.domain, settlement, self.attester)
        self.client.transact(calls.settle_round(settlement, entries, signature))


@pytest.fixture
def stage(
    chain_url: str,
    deployed: Deployment,
    client_for: Callable[[LocalAccount | None], SonarClient],
    new_account: Callable[..., LocalAccount],
    paillier: SecretKey,
    tmp_path: Path,
    mine_commands: Commands,
) -> Iterator[Stage]:
    """A fresh contract, an owner, a store in a directory, and the keys of a Capsule."""
    attester = Account.create()
    client = client_for(None)
    network = Network(
        rpc_url=chain_url, chain_id=client.chain_id, contract=client.address, start_block=deployed.block,
        store=f"directory:{tmp_path / 'store'}", capsule=attester.address,
    )  # fmt: skip
    with open_store(network.store) as store:
        yield Stage(
            new_account(),
            attester,
            SealingKeyPair.generate(),
            paillier,
            network,
            store,
            tmp_path,
            client_for,
            new_account,
            mine_commands,
        )


@pytest.fixture
def opened_mine(stage: Stage) -> Iterator[tuple[MineAt, Ledger]]:
    """A mine whose data fits, with its ledger open in this process."""
    mine = stage.mine()
    with mine.home.ledger() as ledger:
        yield mine, ledger
