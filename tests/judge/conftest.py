"""A whole Capsule on real parts: the embedded chain, a directory store, small Paillier keys; and those who use it."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from eth_account.signers.local import LocalAccount
from nodes import Line, Remote, line_to, running_node

from capsule.answers import SignedAdmission
from capsule.client import CapsuleClient
from capsule.http.app import create_app
from capsule.keypool import KeyPool
from capsule.parts import Capsule
from capsule.policy import Policy
from capsule.sandbox import Limits, Sandbox
from capsule.secret import Vault, generate_key
from capsule.secret.stretching import INTERACTIVE
from capsule.service import CapsuleService
from capsule.state import State
from capsule.worker import Worker, serving
from sonar.chain.calls import create_campaign, submit_gradient
from sonar.chain.client import SonarClient
from sonar.protocol.messages import Domain, hash_admission
from sonar.protocol.payloads import design_matrix, encode_validation
from sonar.protocol.sealing import BoxContext, Purpose, SealingKeyPair, seal
from sonar.protocol.spec import Feature, Payout, Rounds, Spec
from sonar.storage import Artifact
from sonar.storage.directory import DirectoryStore
from sonar.syft import (
    Obfuscator,
    PublicKey,
    Statistics,
    apply_map,
    dump_gradient,
    dump_model,
    encrypt,
    load_model,
    training_map,
)
from sonar.units import Address, CampaignId, Digest, digest_of, ether

SMALL_KEY = 512
BASE_TIME = 86_400


def make_spec(**changes: Any) -> Spec:
    rounds = {"round_size": 3, "round_seconds": 60, "max_rounds": 5, "noise": 1.0, **changes.pop("rounds", {})}
    values: dict[str, Any] = {
        "name": "three blobs",
        "features": tuple(Feature(name=f"f{i}", scale=2.0) for i in range(4)),
        "classes": ("red", "green", "blue"),
        "rounds": Rounds(**rounds),
        "payout": Payout(target=990_000, bond=10**15),
        **changes,
    }
    return Spec(**values)


@dataclass
class Data:
    """Three overlapping blobs in four dimensions."""

    seed: int = 0
    centres: Any = field(default_factory=lambda: np.random.default_rng(5).normal(scale=1.6, size=(3, 4)))

    def draw(self, records: int, *, shuffled: bool = False) -> tuple[Any, Any]:
        self.seed += 1
        rng = np.random.default_rng(self.seed)
        labels = rng.integers(0, 3, records)
        features = self.centres[labels] + rng.normal(size=(records, 4))
        if shuffled:
            rng.shuffle(labels)
        return features, labels.astype(np.int64)


@dataclass
class World:
    """One chain, one contract, one store, one Capsule; `restart` makes a new Capsule process on the same database."""

    home: Path
    chain_for: Callable[[LocalAccount | None], SonarClient]
    new_account: Callable[..., LocalAccount]
    advance_time: Callable[[int], None]
    now: Callable[[], int]
    attester: LocalAccount
    sandbox: Sandbox
    policy: Policy = field(default_factory=lambda: Policy(fetch_seconds=0))
    data: Data = field(default_factory=Data)
    sealing: SealingKeyPair = field(default_factory=SealingKeyPair.generate)
    clients: list[CapsuleClient] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.vault = vault()
        self.store = DirectoryStore(str(self.home / "store"))
        self.chain = self.chain_for(self.attester)
        self.domain = Domain(self.chain.chain_id, self.chain.address)
        self.start()

    def start(self) -> None:
        file = self.home / "capsule.db"
        known, state = file.exists(), State(file)
        (state.audit.unlock if known else state.audit.begin)(bytes(32))
        keys = KeyPool(state, self.vault, small_key, allow_insecure_small_key=True)
        self.capsule = Capsule(
            state=state, vault=self.vault, attester=self.attester, sealing=self.sealing, chain=self.chain,
            store=self.store, keys=keys, sandbox=self.sandbox, key_bits=SMALL_KEY, policy=self.policy,
            allow_insecure_small_key=True,
        )  # fmt: skip
        self.worker = Worker(self.capsule)
        self.service = CapsuleService(self.capsule, self.worker.health)
        self.app = create_app(self.service)

    def use(self, sandbox: Sandbox) -> None:
        """A new worker of the same Capsule, with these judge processes."""
        self.worker.close()
        self.capsule = dataclasses.replace(self.capsule, sandbox=sandbox)
        self.worker = Worker(self.capsule)
        self.service = CapsuleService(self.capsule, self.worker.health)

    def restart(self) -> None:
        self.capsule.state.close()
        self.start()

    def client(self, account: LocalAccount | None = None) -> CapsuleClient:
        """A client over HTTP semantics, without a socket."""
        attester = Address(self.attester.address)
        client = CapsuleClient("http://capsule", self.domain, account, attester=attester, transport=Through(self))
        self.clients.append(client)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.capsule.state.close()


class Through(httpx.BaseTransport):
    """Carries a client's requests to the present ASGI application in this process."""

    def __init__(self, world: World) -> None:
        self.world = world

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run(self._handle(request.method, str(request.url), request.read(), dict(request.headers)))

    async def _handle(self, method: str, url: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.world.app)) as client:
            answer = await client.request(method, url, content=body, headers=headers)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


@dataclass
class Draft:
    """What a data scientist publishes before the admission."""

    spec: Artifact
    model: Artifact
    validation: Artifact
    key: PublicKey
    parsed: Spec


class Scientist:
    """A data scientist, step by step, so that each step can be done wrong."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.account = world.new_account()
        self.address = Address(self.account.address)
        self.client = world.client(self.account)

    @staticmethod
    def spec(**rounds: Any) -> Spec:
        return make_spec(rounds=rounds)

    def taking_part_in(self, campaign: CampaignId, draft: Draft) -> "Campaign":
        return Campaign(self.world, campaign, draft, self)

    def key(self) -> PublicKey:
        return PublicKey(self.client.new_key().n, allow_insecure_small_key=True)

    def draft(self, spec: Spec | None = None, key: PublicKey | None = None, **changes: Any) -> Draft:
        spec, key, store = spec or make_spec(), key or self.key(), self.world.store
        encoding = spec.encoding
        weights = changes.get("weights", np.zeros(spec.shape, dtype=np.int64))
        model = encrypt(
            weights, key, Obfuscator(key), slot_width=changes.get("slot_width", encoding.slot_width),
            scale=changes.get("scale", encoding.weight_bits), bound=changes.get("bound", encoding.weight_bound),
            stride=changes.get("stride", encoding.stride(key, spec.shape[1])),
        )  # fmt: skip
        payload = changes.get("validation") or encode_validation(*self.world.data.draw(200))
        context = changes.get("context") or self.context(key)
        return Draft(
            store.put(spec.to_bytes()),
            store.put(dump_model(model)),
            store.put(seal(payload, context, self.world.sealing.public)),
            key,
            spec,
        )

    def context(self, key: PublicKey) -> BoxContext:
        domain = self.world.domain
        return BoxContext(Purpose.VALIDATION, domain.chain_id, domain.contract, self.address, key.key_id.hex())

    def admit(self, draft: Draft) -> SignedAdmission:
        return self.client.admit(spec=draft.spec, model=draft.model, validation=draft.validation)

    def campaign(self, spec: Spec | None = None, *, seconds: int = 3600, **changes: Any) -> "Campaign":
        draft = self.draft(spec, **changes)
        given = self.admit(draft)
        chain = self.world.chain_for(self.account)
        terms = draft.parsed.terms(bounty=ether(1), deadline=chain.now() + seconds)
        chain.transact(create_campaign(terms, given.admission, given.signature, draft.spec.cid, draft.model.cid))
        return self.taking_part_in(hash_admission(self.world.domain, given.admission), draft)


@dataclass
class Campaign:
    """A campaign on chain, and how mines take part in it."""

    world: World
    id: CampaignId
    draft: Draft
    owner: Scientist

    def model(self) -> Any:
        version = self.world.capsule.state.version(self.id)
        assert version is not None
        return load_model(self.world.store.get(version.model, max_bytes=10**6), allow_insecure_small_key=True)

    def gradient(self, *, records: int = 300, shuffled: bool = False) -> bytes:
        """A mine's training, without ever seeing a weight."""
        spec, model = self.draft.parsed, self.model()
        features, labels = self.world.data.draw(records, shuffled=shuffled)
        statistics = Statistics.empty(*spec.shape)
        statistics = statistics.add_batch(design_matrix(spec, features), np.eye(3)[labels]) or statistics
        affine = training_map(statistics, epochs=20, rate=1.0, l2=1e-3)
        trained = apply_map(
            affine, model, map_bits=spec.encoding.map_bits,
            factor_bits=spec.encoding.factor_bits, gradient_bound=spec.encoding.gradient_bound,
            obfuscator=Obfuscator(model.key),
        )  # fmt: skip
        return dump_gradient(trained)

    def context(self, mine: LocalAccount, number: int | None = None) -> BoxContext:
        domain = self.world.domain
        current = self.world.chain.round(self.id).number if number is None else number
        account = Address(mine.address)
        return BoxContext(Purpose.GRADIENT, domain.chain_id, domain.contract, account, self.id.hex(), current)

    def submit(
        self,
        mine: LocalAccount | None = None,
        data: bytes | None = None,
        *,
        box: bytes | None = None,
        digest: Digest | None = None,
        stored: bool = True,
    ) -> LocalAccount:
        """Posts a gradient (an honest one if none is given) and returns the mine."""
        mine = mine or self.world.new_account()
        data = self.gradient() if data is None else data
        box = seal(data, self.context(mine), self.world.sealing.public) if box is None else box
        artifact = self.world.store.put(box)
        if not stored:
            (self.world.home / "store" / artifact.cid).unlink()
        chain = self.world.chain_for(mine)
        number, bond = chain.round(self.id).number, chain.campaign(self.id).terms.bond
        found = digest or digest_of(data)
        chain.transact(submit_gradient(self.id, number, artifact.digest, found, artifact.cid, bond))
        return mine


_VAULT: list[Vault] = []


def vault() -> Vault:
    """One vault for all tests, because each stretches its passphrase for half a second."""
    if not _VAULT:
        _VAULT.append(Vault.create("correct horse", cost=INTERACTIVE))
    return _VAULT[0]


def small_key() -> Any:
    return generate_key(SMALL_KEY, allow_insecure_small_key=True)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Real judge processes, for all tests."""
    with Sandbox(Limits(processes=2), allow_insecure_small_key=True) as started:
        yield started


@pytest.fixture(scope="module")
def remote(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A real node, Anvil unless parametrised; a module whose chain it is takes `chain_url` from it."""
    with running_node(getattr(request, "param", "anvil"), tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture
def line(chain_url: str) -> Iterator[Line]:
    """A way to the module's node that a test can cut, slow down or have lie."""
    with line_to(chain_url) as made:
        yield made


@pytest.fixture
def world(
    tmp_path: Path,
    client_for: Callable[[LocalAccount | None], SonarClient],
    new_account: Callable[..., LocalAccount],
    advance_time: Callable[[int], None],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    # A pass ends with what it began, however long a busy machine takes for that: judge processes give way to others.
    monkeypatch.setattr(serving, "_PATIENCE_SECONDS", 30.0)
    monkeypatch.setattr(serving, "_ROUND_SECONDS", 600.0)
    attester = new_account()
    made = World(tmp_path, client_for, new_account, advance_time, lambda: client_for(None).now(), attester, sandbox)
    yield made
    made.close()


@pytest.fixture
def scientist(world: World) -> Scientist:
    return Scientist(world)
