"""A data scientist's session: one account on one network, from which campaigns are made and found."""

import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from capsule.client import CapsuleClient
from pysonar import creation
from pysonar.campaign import Campaign
from pysonar.drafts import Draft, Drafts
from pysonar.errors import TermsError, UnknownCampaignError
from pysonar.models import LinearClassifier
from sonar.chain import calls
from sonar.chain.client import SignedTransaction, SonarClient
from sonar.chain.errors import ContractRevertError, TransactionFailedError
from sonar.chain.events import CampaignCreated, EventCursor, Withdrawn
from sonar.chain.records import NATIVE, Status
from sonar.config import Network, home
from sonar.errors import ConfigError
from sonar.protocol.messages import Domain
from sonar.storage.base import ContentStore
from sonar.storage.opening import open_store
from sonar.units import Address, CampaignId, Wei
from sonar.wallet import load_account

if TYPE_CHECKING:
    from sonar.protocol.spec import Encoding, Rounds, Training

__all__ = ["Sonar", "connect"]

_ESCROW_SECONDS = 300.0


def connect(
    network: Network | Path | str | None = None,
    *,
    account: LocalAccount | Path | str | None = None,
    store: ContentStore | str | None = None,
    chain: SonarClient | str | None = None,
    capsule: CapsuleClient | str | None = None,
    directory: Path | str | None = None,
    allow_insecure_small_key: bool = False,
) -> "Sonar":
    """A session on the network whose file is found as `sonar.config` says; every part can be passed in.

    `account` is an account or the path of its keystore or key file (else SONAR_ACCOUNT, else accounts/owner.key in the
    home); `store`, `chain` and `capsule` are objects or URLs; `directory` is where unconfirmed campaigns are noted
    (else campaigns in the home). Raises ConfigError for files, ChainError when the chain is not the network's.
    """
    found = network if isinstance(network, Network) else Network.load(network)
    if found.capsule is None or (capsule is None and found.capsule_url is None):
        raise ConfigError(
            "the network names no Capsule: its file needs capsule_url and capsule, the address that signs"
        )
    if isinstance(chain, SonarClient):
        client = chain
        if account is not None:
            raise ConfigError("a chain client brings its own account: leave out account, or give chain as a URL")
    else:
        place = found if chain is None else found.model_copy(update={"rpc_url": chain})
        client = SonarClient.from_network(place, _account(account))
    if (client.chain_id, client.address.lower()) != (found.chain_id, found.contract.lower()):
        raise ConfigError(
            f"the chain client is for contract {client.address} on chain {client.chain_id}, but the network names "
            f"{found.contract} on {found.chain_id}: pass the network that belongs to it"
        )
    if client.account is None:
        raise ConfigError("the chain client has no account to sign with: connect it with one")
    oracle = Address(to_checksum_address(found.capsule))
    opened: list[CapsuleClient | ContentStore] = []
    if not isinstance(capsule, CapsuleClient):
        url = capsule or str(found.capsule_url)
        capsule = CapsuleClient(url, Domain(client.chain_id, client.address), client.account, attester=oracle)
        opened.append(capsule)
    if store is None or isinstance(store, str):
        store = open_store(store or found.store)
        opened.append(store)
    return Sonar(
        found,
        client,
        store,
        capsule,
        oracle=oracle,
        directory=Path(directory) if directory is not None else home() / "campaigns",
        opened=opened,
        allow_insecure_small_key=allow_insecure_small_key,
    )


class Sonar:
    """One account on one network. `connect` makes it; what it `opened` is closed with it, what was passed in is not."""

    def __init__(
        self,
        network: Network,
        client: SonarClient,
        store: ContentStore,
        capsule: CapsuleClient,
        *,
        oracle: Address,
        directory: Path,
        clock: Callable[[], float] = time.time,
        opened: Sequence[CapsuleClient | ContentStore] = (),
        allow_insecure_small_key: bool = False,
    ) -> None:
        if client.account is None:
            raise ConfigError("the chain client has no account to sign with: connect it with one")
        self.network = network
        self.client = client
        self.store = store
        self.capsule = capsule
        self.oracle = oracle
        self.address = Address(client.account.address)
        self.domain = Domain(client.chain_id, client.address)
        self._drafts = Drafts(directory)
        self._clock = clock
        self._small = allow_insecure_small_key
        # In a notebook nobody writes `with`: connections are also closed when the session is forgotten.
        self._finalizer = weakref.finalize(self, _close_all, tuple(opened))

    def __enter__(self) -> Self:
        """The session itself, closed at the end of the block."""
        return self

    def __exit__(self, *reason: object) -> None:
        """Closes the session."""
        self.close()

    def close(self) -> None:
        """Gives back the connections to store and Capsule; campaigns go on."""
        self._finalizer()

    def __repr__(self) -> str:
        return f"Sonar(account={self.address}, contract={self.client.address}, chain_id={self.client.chain_id})"

    def now(self) -> int:
        """The present in Unix seconds: the later of the clock and the last block, as a quiet chain makes no blocks."""
        return max(self.client.now(), int(self._clock()))

    def balance(self) -> Wei:
        """What this account holds of the native coin."""
        return self.client.balance(self.address)

    def create_campaign(
        self,
        model: LinearClassifier,
        validation: Any,
        bounty: int,
        target: float,
        deadline: Any,
        *,
        name: str | None = None,
        description: str = "",
        target_column: str = "target",
        min_records: int = 100,
        training: "Training | Mapping[str, Any] | None" = None,
        rounds: "Rounds | Mapping[str, Any] | None" = None,
        encoding: "Encoding | Mapping[str, Any] | None" = None,
        payout: Mapping[str, Any] | None = None,
    ) -> Campaign:
        """Encrypts the start model, has the Capsule admit it, and escrows the bounty (wei); returns the campaign.

        `validation` is a pair (X, y) that only the Capsule will see; `target` the accuracy, 0 to 1, at which the
        campaign is finished; `deadline` '2h', seconds from now, or a datetime. `training`, `rounds`, `encoding` and
        `payout` are the options of `sonar.protocol.spec` by name, for instance payout={"base": "gain"} or
        rounds={"round_size": 4, "round_seconds": 60}.

        Raises CampaignError for input that cannot work, UnfundedAccountError, CapsuleError when the Capsule refuses or
        is down, StorageError, ChainError. Until the escrow is signed nothing is spent; after that `resume` finishes it.
        """
        if not isinstance(model, LinearClassifier):
            raise TermsError(f"a {type(model).__name__} cannot be trained encrypted: give a pysonar.LinearClassifier")
        plan = creation.make_plan(
            model,
            validation,
            bounty=bounty,
            target=target,
            deadline=deadline,
            now=self.now(),
            name=name,
            description=description,
            target_column=target_column,
            min_records=min_records,
            training=training,
            rounds=rounds,
            encoding=encoding,
            payout=payout,
        )
        creation.check_funds(plan, self.client, self.address)
        info = self.capsule.info()
        creation.check_capsule(info, self.oracle, self.domain)
        published = creation.publish(
            plan,
            self.capsule.new_key(),
            info.sealing_key,
            self.store,
            domain=self.domain,
            owner=self.address,
            allow_insecure_small_key=self._small,
        )
        campaign, signed = creation.admit(
            published, plan, self.capsule, domain=self.domain, oracle=self.oracle, owner=self.address, now=self.now()
        )
        transaction = self.client.sign(creation.escrow_call(plan, published, signed))
        draft = Draft(
            campaign=campaign,
            chain_id=self.domain.chain_id,
            contract=self.domain.contract,
            owner=self.address,
            valid_until=signed.admission.valid_until,
            nonce=transaction.nonce,
            hash=transaction.hash,
            raw=transaction.raw,
        )
        self._drafts.save(draft)
        self._escrow(draft)
        return Campaign(self, campaign, spec=plan.spec)

    def resume(self) -> list[Campaign]:
        """Finishes the campaigns whose escrow was signed but not confirmed, for instance because the program died.

        The same signed transaction is sent again, so nothing is escrowed twice. A draft that can no longer become a
        campaign (its admission or its nonce is used up) is forgotten; its bounty never left the account.
        """
        drafts = self._drafts.all(chain_id=self.domain.chain_id, contract=self.domain.contract, owner=self.address)
        found = []
        for draft in drafts:
            if not self._exists(draft.campaign):
                spent = self.client.used_nonce() > draft.nonce and self.client.receipt(draft.hash) is None
                if spent or self.client.now() > draft.valid_until:
                    self._drafts.remove(draft.campaign)
                    continue
                self._escrow(draft)
            self._drafts.remove(draft.campaign)
            found.append(Campaign(self, draft.campaign))
        return found

    def campaigns(self) -> list[Campaign]:
        """This account's campaigns on this contract, oldest first; `campaign(id)` finds anybody's."""
        events = EventCursor(self.client, self.network.start_block).read()
        return [
            Campaign(self, event.id)
            for event in events
            if isinstance(event, CampaignCreated) and event.owner == self.address
        ]

    def campaign(self, campaign: CampaignId | bytes | str) -> Campaign:
        """The campaign with this id (32 bytes, or its hex text); raises UnknownCampaignError."""
        try:
            key = CampaignId(
                bytes.fromhex(campaign.removeprefix("0x")) if isinstance(campaign, str) else bytes(campaign)
            )
        except (ValueError, TypeError) as error:
            raise UnknownCampaignError(f"{campaign!r} is not a campaign's id: give 64 hexadecimal digits") from error
        if len(key) != 32:
            raise UnknownCampaignError(f"a campaign's id has 32 bytes, not {len(key)}: give 64 hexadecimal digits")
        if not self._exists(key):
            raise UnknownCampaignError(
                f"the contract {self.client.address} has no campaign {key.hex()}: check the id and the network"
            )
        return Campaign(self, key)

    def credit(self, token: Address = NATIVE) -> Wei:
        """What the contract owes this account in `token`, over all campaigns."""
        return self.client.credit(self.address, token)

    def withdraw(self, token: Address = NATIVE, to: Address | None = None) -> Wei:
        """Withdraws all that the contract owes this account in `token`, to itself unless said; returns the amount.

        Nothing is sent where nothing is owed.
        """
        if self.credit(token) == 0:
            return Wei(0)
        receipt = self.client.transact(calls.withdraw(to or self.address, token))
        return Wei(sum(event.amount for event in receipt.events if isinstance(event, Withdrawn)))

    def _exists(self, campaign: CampaignId) -> bool:
        try:
            return self.client.campaign(campaign).status is not Status.NONE
        except ContractRevertError as error:
            if error.name == "Sonar_CampaignUnknown":
                return False
            raise

    def _escrow(self, draft: Draft) -> None:
        """Sends a noted escrow and waits for it; the note goes once the chain has decided, either way."""
        self.client.send(SignedTransaction(raw=draft.raw, hash=draft.hash, nonce=draft.nonce))
        receipt = self.client.wait(draft.hash, timeout=_ESCROW_SECONDS)
        self._drafts.remove(draft.campaign)
        if not receipt.succeeded:
            raise TransactionFailedError(
                f"the escrow {draft.hash.hex()} was mined but refused by the contract; the bounty stays with "
                f"{draft.owner}: create the campaign again"
            )


def _close_all(opened: tuple[CapsuleClient | ContentStore, ...]) -> None:
    for connection in opened:
        connection.close()


def _account(given: LocalAccount | Path | str | None) -> LocalAccount:
    if isinstance(given, LocalAccount):
        return given
    return load_account(Path(given or os.environ.get("SONAR_ACCOUNT") or home() / "accounts" / "owner.key"))
