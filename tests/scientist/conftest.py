"""A stage for the data scientist: a real chain, store and signatures; the Capsule's part is played by the test.

The played Capsule speaks the real HTTP protocol with real keys, and tells the lies that a test asks it for.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from capsule.client import CapsuleClient
from capsule.secret import SecretKey, decrypt, generate_key
from capsule.wire import (
    ACCOUNT_HEADER,
    NONCE_HEADER,
    SIGNATURE_HEADER,
    AdmissionReply,
    AdmissionRequest,
    DeliveryReply,
    DeliveryRequest,
    InfoReply,
    KeyReply,
    RoundReply,
    hexadecimal,
)
from pysonar.campaign import Campaign
from pysonar.models import LinearClassifier
from pysonar.session import Sonar
from sonar import syft
from sonar.chain import calls
from sonar.chain.client import SonarClient
from sonar.chain.deploy import Deployment
from sonar.chain.records import Admission, Outcome, Settlement, Verdict
from sonar.config import Network
from sonar.protocol.messages import (
    CapsuleAnswer,
    Domain,
    hash_admission,
    info_answer,
    sign_admission,
    sign_answer,
    sign_settlement,
)
from sonar.protocol.payloads import decode_validation, design_matrix, encode_weights
from sonar.protocol.sealing import BoxContext, Purpose, SealingKeyPair, open_box_for, seal
from sonar.protocol.spec import Spec
from sonar.storage.directory import DirectoryStore
from sonar.units import Address, Cid, Digest, KeyId, Ppm, digest_of, ether

FEATURES, CLASSES = 4, 3


@pytest.fixture(scope="session")
def paillier() -> SecretKey:
    """A small key, whose secret half plays the Capsule."""
    return generate_key(512, allow_insecure_small_key=True)


@dataclass
class PlayedCapsule(httpx.BaseTransport):
    """Answers like a Capsule that judges nothing; `lies` replaces fields of what it says."""

    paillier: SecretKey
    domain: Domain
    store: DirectoryStore
    owner: Address
    now: Callable[[], int]
    attester: LocalAccount = field(default_factory=Account.create)
    sealing: SealingKeyPair = field(default_factory=SealingKeyPair.generate)
    lies: dict[str, Any] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    admitted: dict[str, Any] = field(default_factory=dict)
    delivered: np.ndarray | None = None
    rounds: dict[str, bytes] = field(default_factory=dict)
    """What it tells of settled rounds, by path; else it knows none."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One answer, by path."""
        path = request.url.path
        self.requests.append(path)
        if self.lies.get("busy"):
            self.lies["busy"] -= 1
            return httpx.Response(503, json={"code": "unavailable", "message": "try again shortly"})
        if self.lies.get("early"):
            self.lies["early"] -= 1
            return httpx.Response(409, json={"code": "not_over", "message": "the campaign is not over"})
        if "refuse" in self.lies:
            return httpx.Response(400, json={"code": "policy", "message": self.lies["refuse"]})
        if path.startswith("/v1/campaigns/"):
            if path in self.rounds:
                return httpx.Response(200, content=self.rounds[path])
            return httpx.Response(404, json={"code": "unknown_round", "message": "no such round"})
        answer = {
            "/v1/info": self._info,
            "/v1/keys": self._key,
            "/v1/admissions": self._admit,
            "/v1/deliveries": self._deliver,
        }[path](request.read())
        content = answer.model_dump_json().encode()
        return httpx.Response(200, content=content, headers={SIGNATURE_HEADER: self._sign(request, content)})

    def _sign(self, request: httpx.Request, content: bytes) -> str:
        given, signer = info_answer(content), self.lies.get("answers_as", {}).get(request.url.path, self.attester)
        if request.method == "POST":
            given = CapsuleAnswer(
                Address(request.headers[ACCOUNT_HEADER]),
                request.url.path.rpartition("/")[2],
                bytes.fromhex(request.headers[NONCE_HEADER][2:]),
                digest_of(content),
            )
        return hexadecimal(sign_answer(self.domain, given, signer))

    def _info(self, _: bytes) -> InfoReply:
        values = {
            "address": self.attester.address,
            "sealing_key": hexadecimal(self.sealing.public),
            "chain_id": self.domain.chain_id,
            "contract": self.domain.contract,
            "key_bits": 512,
            "version": "0",
        }
        return InfoReply(**{**values, **self.lies.get("info", {})})

    def _key(self, _: bytes) -> KeyReply:
        key = self.paillier.public
        return KeyReply(n=hexadecimal(key.modulus_bytes), key_id=hexadecimal(key.key_id))

    def _admit(self, body: bytes) -> AdmissionReply:
        request = AdmissionRequest.model_validate_json(body)
        spec = Spec.parse(self.store.get(request.spec.artifact(), max_bytes=1 << 20))
        model = syft.load_model(
            self.store.get(request.model.artifact(), max_bytes=1 << 20), max_rows=100, allow_insecure_small_key=True
        )
        context = BoxContext(
            Purpose.VALIDATION, self.domain.chain_id, self.domain.contract, self.owner, model.key.key_id.hex()
        )
        box = self.store.get(request.validation.artifact(), max_bytes=1 << 20)
        features, labels = decode_validation(open_box_for(box, self.sealing, context), spec)
        weights = decrypt(self.paillier, model)
        found = (design_matrix(spec, features) @ (weights / 2**spec.encoding.weight_bits).astype(float)).argmax(axis=1)
        self.admitted = {"spec": spec, "weights": weights, "features": features, "labels": labels, "model": model}
        admission = Admission(
            spec=request.spec.artifact().digest,
            model=request.model.artifact().digest,
            key=model.key.key_id,
            sealing_key=self.sealing.public,
            start_score=Ppm(int((found == labels).mean() * 1_000_000)),
            oracle=Address(self.attester.address),
            owner=self.owner,
            valid_until=self.now() + 3600,
        )
        admission = replace(admission, **self.lies.get("admission", {}))
        signer = self.lies.get("signer", self.attester)
        return AdmissionReply.of(
            hash_admission(self.domain, admission), admission, sign_admission(self.domain, admission, signer)
        )

    def _deliver(self, body: bytes) -> DeliveryReply:
        request = DeliveryRequest.model_validate_json(body)
        context = BoxContext(
            Purpose.DELIVERY, self.domain.chain_id, self.domain.contract, self.owner, request.campaign_id().hex(), 1
        )
        context = replace(context, **self.lies.get("delivery", {}))
        return DeliveryReply(
            box=hexadecimal(seal(encode_weights(self.delivered), context, request.sealing_key_bytes()))
        )


@dataclass
class Stage:
    """Everything around a session: who else acts, and how."""

    owner: LocalAccount
    capsule: PlayedCapsule
    network: Network
    directory: Path
    client_for: Callable[[LocalAccount | None], SonarClient]
    new_account: Callable[..., LocalAccount]

    @property
    def validation(self) -> tuple[np.ndarray, np.ndarray]:
        """A validation set of 30 records."""
        rng = np.random.default_rng(7)
        return rng.normal(size=(30, FEATURES)), np.arange(30) % CLASSES

    def session(self, account: LocalAccount | None = None, **lies: Any) -> Sonar:
        """A session of the owner (or another account), with a Capsule that tells these lies."""
        self.capsule.lies = lies
        client = self.client_for(account or self.owner)
        oracle = Address(self.capsule.attester.address)
        return Sonar(
            self.network,
            client,
            self.capsule.store,
            CapsuleClient(
                "http://capsule", self.capsule.domain, client.account, attester=oracle, transport=self.capsule
            ),
            oracle=oracle,
            directory=self.directory,
            allow_insecure_small_key=True,
        )

    def campaign(self, **changes: Any) -> Campaign:
        """A campaign on an untrained model: bounty 1 ether, target 90%."""
        arguments: dict[str, Any] = {
            "model": LinearClassifier(FEATURES, CLASSES),
            "validation": self.validation,
            "bounty": ether(1),
            "target": 0.9,
            "deadline": "2h",
            "rounds": {"round_size": 3, "round_seconds": 600},
        }
        return self.session().create_campaign(**{**arguments, **changes})

    def submit(self, campaign: Campaign, mine: LocalAccount) -> None:
        """Posts a gradient that only this stage's Capsule would take."""
        number = campaign.present_round.number
        sealed = digest_of(f"{number} {mine.address}".encode())
        call = calls.submit_gradient(campaign.id, number, sealed, sealed, Cid("bafk"), campaign.record.terms.bond)
        self.client_for(mine).transact(call)

    def settle(self, campaign: Campaign, score: int | None, shares: list[int], reasons: tuple[str, ...] = ()) -> None:
        """Signs and relays the present round's settlement: share 0 is left out, score None does not advance.

        `reasons` are what the Capsule tells of it, if it tells any.
        """
        present = campaign.present_round
        advances = score is not None
        made = Digest(digest_of(b"next")) if advances else Digest(bytes(32))
        settlement = Settlement(
            campaign=campaign.id,
            round=present.number,
            head=present.head,
            score=Ppm(score if score is not None else campaign.record.score),
            exponent=1 if advances else 0,
            model=made,
            key=KeyId(made),
            product=made,
            model_cid=Cid("bafkmodel" if advances else ""),
            product_cid=Cid("bafkproduct" if advances else ""),
            outcomes=tuple(
                Outcome(Verdict.KEPT, 1, Ppm(share)) if share else Outcome(Verdict.LEFT_OUT, 0, Ppm(0))
                for share in shares
            ),
        )
        if reasons:
            reply = RoundReply.of(
                settlement, bytes(65), reasons, (None,) * len(shares), seed_block=1, sampling_error=Ppm(0)
            )
            place = f"/v1/campaigns/{hexadecimal(campaign.id)}/rounds/{present.number}"
            self.capsule.rounds[place] = reply.model_dump_json().encode()
        signature = sign_settlement(self.capsule.domain, settlement, self.capsule.attester)
        entries = campaign._entries(present.number)
        self.client_for(self.new_account()).transact(calls.settle_round(settlement, entries, signature))


@pytest.fixture
def stage(
    chain_url: str,
    deployed: Deployment,
    client_for: Callable[[LocalAccount | None], SonarClient],
    new_account: Callable[..., LocalAccount],
    paillier: SecretKey,
    tmp_path: Path,
) -> Stage:
    """A fresh contract, an owner with 100 ether, a store, and the played Capsule."""
    owner = new_account()
    client = client_for(owner)
    store = DirectoryStore(tmp_path / "store")
    domain = Domain(client.chain_id, client.address)
    capsule = PlayedCapsule(paillier, domain, store, Address(owner.address), client.now)
    network = Network(
        rpc_url=chain_url,
        chain_id=client.chain_id,
        contract=client.address,
        start_block=deployed.block,
        store=f"directory:{tmp_path / 'store'}",
        capsule_url="http://127.0.0.1:9",
        capsule=capsule.attester.address,
    )
    return Stage(owner, capsule, network, tmp_path / "campaigns", client_for, new_account)
