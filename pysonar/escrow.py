"""From an admission to a campaign on chain: what is about to be done is noted first, so that a crash loses nothing.

A bounty in native coin travels with the transaction that creates the campaign, which is signed, noted and sent. One in
a token must be approved before that transaction can be signed, so there its data is noted first, and the transaction
as soon as it is signed.
"""

from dataclasses import replace

from pysonar.drafts import Draft, Drafts
from sonar.chain.calls import EncodedCall
from sonar.chain.client import SignedTransaction, SonarClient
from sonar.chain.errors import ContractRevertError, TransactionFailedError, WrongChainError
from sonar.chain.records import NATIVE, Status
from sonar.chain.token import ensure_allowance
from sonar.units import Address, CampaignId, Wei

__all__ = ["Escrows", "is_on_chain"]

_ESCROW_SECONDS = 300.0


class Escrows:
    """The escrows of one account on one contract."""

    def __init__(self, client: SonarClient, drafts: Drafts, owner: Address) -> None:
        self._client = client
        self._drafts = drafts
        self._owner = owner

    def make(self, draft: Draft) -> None:
        """Escrows the bounty of a new draft; nothing is noted of one that costs nothing to make again."""
        if draft.token == NATIVE:
            draft = replace(draft, signed=self._sign(draft))
        self._drafts.save(draft)
        self._finish(draft)

    def resume(self) -> list[CampaignId]:
        """Finishes what was noted; the campaigns that came of it."""
        client = self._client
        drafts = self._drafts.all(chain_id=client.chain_id, contract=client.address, owner=self._owner)
        found = []
        for draft in drafts:
            if not is_on_chain(client, draft.campaign):
                if self._is_lost(draft):
                    self._drafts.remove(draft.campaign)
                    continue
                self._finish(draft)
            self._drafts.remove(draft.campaign)
            found.append(draft.campaign)
        return found

    def _is_lost(self, draft: Draft) -> bool:
        client, signed = self._client, draft.signed
        spent = signed is not None and client.used_nonce() > signed.nonce and client.receipt(signed.hash) is None
        return spent or client.now() > draft.valid_until

    def _finish(self, draft: Draft) -> None:
        """Approves, signs and sends what is still to be; the note goes once the chain has decided, either way."""
        signed = draft.signed
        if signed is None:
            try:
                ensure_allowance(self._client, draft.token, draft.bounty)
                signed = self._sign(draft)
            except (ContractRevertError, WrongChainError):
                # The token or the contract will not have it: nothing was escrowed, and trying again changes nothing.
                self._drafts.remove(draft.campaign)
                raise
            self._drafts.save(replace(draft, signed=signed))
        self._client.send(signed)
        receipt = self._client.wait(signed.hash, timeout=_ESCROW_SECONDS)
        self._drafts.remove(draft.campaign)
        if not receipt.succeeded:
            raise TransactionFailedError(
                f"the escrow 0x{signed.hash.hex()} was mined but refused by the contract; the bounty stays with "
                f"{draft.owner}: create the campaign again"
            )

    def _sign(self, draft: Draft) -> SignedTransaction:
        value = draft.bounty if draft.token == NATIVE else Wei(0)
        return self._client.sign(EncodedCall(draft.contract, draft.data, value))


def is_on_chain(client: SonarClient, campaign: CampaignId) -> bool:
    """Whether the contract knows the campaign."""
    try:
        return client.campaign(campaign).status is not Status.NONE
    except ContractRevertError as error:
        if error.name == "Sonar_CampaignUnknown":
            return False
        raise
