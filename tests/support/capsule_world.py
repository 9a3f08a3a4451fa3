"""A network with the real Capsule on it, as `capsule serve` runs it but in threads and with small keys, and mines."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvicorn
from eth_account.signers.local import LocalAccount

import pysonar
from capsule.http.app import create_app
from capsule.keypool import KeyPool
from capsule.parts import Capsule
from capsule.policy import Policy
from capsule.sandbox import Limits, Sandbox
from capsule.secret import Vault, generate_key
from capsule.secret.stretching import INTERACTIVE
from capsule.service import CapsuleService
from capsule.state import State
from capsule.worker import Worker
from mine.policy import Policy as MinePolicy
from mine.policy.data_rules import check_records
from mine.trainer import max_model_bytes, train
from sonar.chain import calls
from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.chain.deploy import Deployment
from sonar.chain.events import RoundSettled
from sonar.config import Network
from sonar.protocol.payloads import design_matrix, scaled_targets
from sonar.protocol.sealing import BoxContext, Purpose, SealingKeyPair, seal
from sonar.protocol.spec import Spec
from sonar.storage.base import Artifact
from sonar.storage.directory import DirectoryStore
from sonar.syft.schedule import Gathered
from sonar.units import digest_of

__all__ = ["World", "running_capsule"]

KEY_BITS = 512


@dataclass
class World:
    """A network with a running Capsule, and what acts on it."""

    network: Network
    store: DirectoryStore
    client_for: Callable[[LocalAccount | None], SonarClient]
    new_account: Callable[..., LocalAccount]

    def session(self, directory: Path, account: LocalAccount | None = None) -> pysonar.Sonar:
        """A data scientist's session, of a new account with 100 ether unless given."""
        return pysonar.connect(
            self.network,
            account=account or self.new_account(),
            directory=directory / "campaigns",
            allow_insecure_small_key=True,
        )

    def mine(
        self,
        campaign: pysonar.Campaign,
        features: np.ndarray,
        labels: np.ndarray,
        account: LocalAccount,
        policy: MinePolicy | None = None,
    ) -> None:
        """Trains the present model as a mine does, by its policy for small classes and data, and posts the gradient.

        `labels` are class indices (records,), or targets (records, targets) in raw units.
        """
        spec, created = campaign.spec, campaign._creation()
        number = campaign.present_round.number
        place, key = Artifact(created.model_cid, created.admission.model), created.admission.key
        for event in EventCursor(campaign._sonar.client, self.network.start_block, campaign=campaign.id).read():
            if isinstance(event, RoundSettled) and event.advances:
                place, key = Artifact(event.model_cid, event.model), event.key
        model = self.store.get(place, max_bytes=max_model_bytes(spec))
        gathered = gather(spec, features, labels)
        check_records(policy or MinePolicy.model_validate({"data": {"min_records": 10}}), gathered, spec)
        gradient = train(spec, model, key, gathered, allow_insecure_small_key=True)
        client = self.client_for(account)
        context = BoxContext(
            Purpose.GRADIENT, client.chain_id, client.address, account.address, campaign.id.hex(), round=number
        )
        sealed = self.store.put(seal(gradient.payload, context, created.admission.sealing_key))
        client.transact(
            calls.submit_gradient(
                campaign.id, number, sealed.digest, digest_of(gradient.payload), sealed.cid, created.terms.bond
            )
        )


def gather(spec: Spec, features: np.ndarray, labels: np.ndarray) -> Gathered:
    """What a mine gathers of records for a spec."""
    if spec.targets:
        targets = scaled_targets(spec, labels.reshape(len(features), -1))
    else:
        targets = np.eye(len(spec.classes))[labels]
    return spec.training.schedule.gather([(design_matrix(spec, features), targets)], *spec.shape)


@contextmanager
def running_capsule(
    chain_url: str,
    deployed: Deployment,
    client_for: Callable[[LocalAccount | None], SonarClient],
    new_account: Callable[..., LocalAccount],
    directory: Path,
) -> Iterator[World]:
    """The Capsule's HTTP service and worker in threads of this process, until the block ends."""
    attester = new_account()
    client = client_for(attester)
    store = DirectoryStore(directory / "store")
    state, vault = State(directory / "capsule.sqlite3"), Vault.create("a passphrase", cost=INTERACTIVE)
    state.audit.begin(bytes(32))
    keys = KeyPool(
        state, vault, lambda: generate_key(KEY_BITS, allow_insecure_small_key=True), allow_insecure_small_key=True
    )
    sandbox = Sandbox(Limits(processes=1), allow_insecure_small_key=True)
    capsule = Capsule(
        state, vault, attester, SealingKeyPair.generate(), client, store, keys, sandbox, KEY_BITS, Policy(),
        allow_insecure_small_key=True,
    )  # fmt: skip
    worker = Worker(capsule, deployed.block)
    with sandbox, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = create_app(CapsuleService(capsule, worker.health))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        threads = [
            threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True),
            threading.Thread(target=worker.run, args=(0.05,), daemon=True),
        ]
        for thread in threads:
            thread.start()
        limit = time.monotonic() + 120
        while not server.started:
            assert time.monotonic() < limit, "the Capsule's service did not start"
            threads[0].join(0.01)
        yield World(
            Network(
                rpc_url=chain_url,
                chain_id=client.chain_id,
                contract=client.address,
                start_block=deployed.block,
                store=f"directory:{directory / 'store'}",
                capsule_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
                capsule=attester.address,
            ),
            store,
            client_for,
            new_account,
        )
        worker.stop()
        server.should_exit = True
        for thread in threads:
            thread.join(30)
    state.close()
