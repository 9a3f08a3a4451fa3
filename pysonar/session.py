"""A data scientist's session: one account on one network, from which campaigns are made and found."""

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from capsule.client import CapsuleClient
from capsule.reasons import Reasons
from pysonar import creation
from pysonar._terms import address, campaign_id
from pysonar.campaign import Campaign
from pysonar.drafts import Draft, Drafts
from pysonar.errors import UnknownCampaignError
from pysonar.escrow import Escrows, is_on_chain
from pysonar.estimating.gas import gas_price
from pysonar.models import Model
from sonar.chain import calls
from sonar.chain.client import SonarClient
from sonar.chain.cursor import EventCursor
from sonar.chain.events import CampaignCreated, CampaignTransferred, Withdrawn
from sonar.chain.records import NATIVE
from sonar.config import Network
from sonar.errors import ConfigError
from sonar.protocol.messages import Domain
from sonar.storage.base import ContentStore
from sonar.units import Address, CampaignId, Wei

if TYPE_CHECKING:
    from sonar.protocol.spec import Attribution, Encoding, ImageSize, Rounds, Training

__all__ = ["Sonar"]


class Sonar:
    """One account on one network. `connect` makes it; what it `opened` is closed with it, what was passed in is not.

    Amounts are in wei, or in the smallest unit of a token.

    >>> pysonar.format_ether(sonar.balance()), sonar.credit()
    ('100', 0)
    >>> campaign = sonar.create_campaign(
    ...     pysonar.LinearClassifier(4, 3), (X_val, y_val), bounty=pysonar.ether(1), target=0.9, deadline="2h")
    >>> sonar.campaigns() == [campaign] and sonar.campaign(str(campaign.id)) == campaign
    True
    """

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
        self.reasons = Reasons(capsule)
        self.oracle = oracle
        self.address = Address(client.account.address)
        self.domain = Domain(client.chain_id, client.address)
        self._escrows = Escrows(client, Drafts(directory), self.address)
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
        model: Model,
        validation: Any,
        bounty: int,
        target: float,
        deadline: Any,
        *,
        token: Address | str | None = None,
        name: str | None = None,
        description: str = "",
        purpose: str = "",
        licence: str = "",
        target_column: str = "target",
        columns: Mapping[str, Mapping[str, Any]] | None = None,
        image: "ImageSize | Mapping[str, Any] | None" = None,
        min_records: int | None = None,
        training: "Training | Mapping[str, Any] | None" = None,
        rounds: "Rounds | Mapping[str, Any] | None" = None,
        encoding: "Encoding | Mapping[str, Any] | None" = None,
        payout: Mapping[str, Any] | None = None,
        attribution: "Attribution" = "validation",
    ) -> Campaign:
        """Encrypts the start model, has the Capsule admit it, and escrows the bounty; returns the campaign.

        `bounty` is in wei, or in the smallest unit of the ERC-20 token at the address `token`, of which the contract is
        allowed to take exactly that. `validation` is a pair (X, y) that only the Capsule will see: X (records,
        features) in raw units, y (records,) class names or indices, or numbers; `target` the score by the model's
        metric, 0 to 1, at which the campaign is finished; `deadline` '2h', a timedelta, seconds, or a datetime.
        `min_records` is how many records a mine must have, unless given what the model needs (`least_records`).
        `training`, `rounds`, `encoding` and `payout` are the options of `sonar.protocol.spec` by name, for instance
        payout={"base": "gain"} or rounds={"round_size": 4, "round_seconds": 60}. `columns` are promises that mines hold
        their records to, by feature: columns={"age": {"unit": "years", "minimum": 0, "maximum": 120}}; with `image`,
        such as {"width": 28, "height": 28}, the features are an image's pixels. attribution="open" asks for all that
        each mine adds to the model, which mines refuse unless their policy allows it; else the end tells their shares.

        Raises CampaignError for input that cannot work, UnfundedAccountError, CapsuleError when the Capsule refuses or
        is down, StorageError, ChainError. What was begun to be escrowed when the program died, `resume` finishes.
        """
        plan = creation.make_plan(
            model,
            validation,
            bounty=bounty,
            token=address(token, "token") if token is not None else NATIVE,
            target=target,
            deadline=deadline,
            now=self.now(),
            name=name,
            description=description,
            purpose=purpose,
            licence=licence,
            target_column=target_column,
            columns=columns or {},
            image=image,
            min_records=min_records,
            training=training,
            rounds=rounds,
            encoding=encoding,
            payout=payout,
            attribution=attribution,
        )
        creation.check_funds(plan, self.client, self.address)
        info = self.capsule.info()
        creation.check_worth(plan, gas_price(self.client), info.key_bits, self.now())
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
        draft = Draft(
            campaign=campaign,
            chain_id=self.domain.chain_id,
            contract=self.domain.contract,
            owner=self.address,
            valid_until=signed.admission.valid_until,
            token=plan.terms.token,
            bounty=plan.terms.bounty,
            data=self.client.encode(creation.escrow_call(plan, published, signed)).data,
        )
        self._escrows.make(draft)
        return Campaign(self, campaign, spec=plan.spec)

    def resume(self) -> list[Campaign]:
        """Finishes the campaigns whose escrow was begun but not confirmed, for instance because the program died.

        What was signed is sent again as it is, so nothing is escrowed twice. A draft that can no longer become a
        campaign (its admission or its nonce is used up) is forgotten; its bounty never left the account. One whose
        tokens are not there any more raises UnfundedAccountError and waits for them.
        """
        return [Campaign(self, campaign) for campaign in self._escrows.resume()]

    def campaigns(self) -> list[Campaign]:
        """The campaigns that this account owns on this contract, also those handed over to it, oldest first.

        `campaign(id)` finds anybody's.
        """
        owners: dict[CampaignId, Address] = {}
        for event in EventCursor(self.client, self.network.start_block).read():
            match event:
                case CampaignCreated():
                    owners[event.id] = event.owner
                case CampaignTransferred():
                    owners[event.id] = event.new_owner
        return [Campaign(self, campaign) for campaign, owner in owners.items() if owner == self.address]

    def campaign(self, campaign: CampaignId | bytes | str) -> Campaign:
        """The campaign with this id (32 bytes, or its hex text); raises UnknownCampaignError."""
        key = campaign_id(campaign)
        if not is_on_chain(self.client, key):
            raise UnknownCampaignError(
                f"the contract {self.client.address} has no campaign 0x{key.hex()}: check the id and the network"
            )
        return Campaign(self, key)

    def accept(self, campaign: CampaignId | bytes | str) -> Campaign:
        """Makes this account the owner of a campaign that was offered to it (`Campaign.transfer`).

        With it come the right to the result, slashed bonds and what is left of the bounty. Raises UnknownCampaignError,
        and ContractRevertError if it is offered to nobody or to somebody else.
        """
        found = self.campaign(campaign)
        self.client.transact(calls.accept_campaign(found.id))
        return found

    def credit(self, token: Address | str = NATIVE) -> Wei:
        """What the contract owes this account in `token`, over all campaigns; raises TermsError for no address."""
        return self.client.credit(self.address, address(token, "token"))

    def withdraw(self, token: Address | str = NATIVE, to: Address | str | None = None) -> Wei:
        """Withdraws all that the contract owes this account in `token`, to itself unless said; returns the amount.

        Nothing is sent where nothing is owed. Raises TermsError for what is no address.
        """
        asset, receiver = address(token, "token"), self.address if to is None else address(to, "the receiver")
        if self.credit(asset) == 0:
            return Wei(0)
        receipt = self.client.transact(calls.withdraw(receiver, asset))
        return Wei(sum(event.amount for event in receipt.events if isinstance(event, Withdrawn)))


def _close_all(opened: tuple[CapsuleClient | ContentStore, ...]) -> None:
    for connection in opened:
        connection.close()
