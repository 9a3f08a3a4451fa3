"""ERC-20 tokens as bounties: what an account holds, and the exact amount that the contract may take of it.

A token is a stranger's contract, so nothing that it says of itself is used: its name, symbol and decimals are left
unread, amounts are in its smallest unit, and it is called by its address. Some of the oldest tokens return nothing from
`approve`, and some refuse to change an allowance unless it is zero; both are taken.
"""

from typing import Any

from eth_abi import abi as codec
from eth_typing import BlockNumber
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from web3.types import BlockIdentifier, TxParams

from sonar.chain._rpc import rpc
from sonar.chain.calls import EncodedCall
from sonar.chain.client import SonarClient
from sonar.chain.errors import ContractRevertError, UnfundedAccountError, WrongChainError
from sonar.chain.records import NATIVE
from sonar.units import Address, Wei

__all__ = ["Token", "ensure_allowance", "require_balance"]


class Token:
    """A token as Sonar's contract meets it: `client.account` holds it, `client.address` takes it."""

    def __init__(self, client: SonarClient, address: Address) -> None:
        self.address = Address(to_checksum_address(address))
        self._client = client

    def balance(self, account: Address, *, block: int | None = None) -> Wei:
        """What an account holds after `block` (None: the latest); raises WrongChainError for what is no token."""
        return self._ask("balanceOf", ["address"], [account], block)

    def allowance(self, owner: Address) -> Wei:
        """What Sonar's contract may take from an account."""
        return self._ask("allowance", ["address", "address"], [owner, self._client.address])

    def approve(self, amount: Wei) -> None:
        """Allows Sonar's contract to take exactly `amount` from the client's account.

        Raises ContractRevertError if the token refuses, WrongChainError if it says yes and does not do it.
        """
        owner = Address(self._client.signer.address)
        try:
            self._client.transact(self._approval(amount))
        except ContractRevertError:
            if self.allowance(owner) == 0:
                raise
            # A token that changes no allowance but to and from zero.
            self._client.transact(self._approval(Wei(0)))
            self._client.transact(self._approval(amount))
        if (found := self.allowance(owner)) != amount:
            raise WrongChainError(
                f"token {self.address} was told to let {self._client.address} take {amount}, but allows {found}: "
                "it is not a token to pay with"
            )

    def _approval(self, amount: Wei) -> EncodedCall:
        return EncodedCall(self.address, _data("approve", ["address", "uint256"], [self._client.address, amount]))

    def _ask(self, function: str, kinds: list[str], values: list[Any], block: int | None = None) -> Wei:
        web3 = self._client.web3
        question = {"to": self.address, "data": "0x" + _data(function, kinds, values).hex()}
        try:
            with rpc(web3):
                at: BlockIdentifier = "latest" if block is None else BlockNumber(block)
                answer = bytes(web3.eth.call(TxParams(**question), at))  # type: ignore[typeddict-item]
        except ContractRevertError as error:
            raise self._no_token(function) from error
        if len(answer) < 32:
            raise self._no_token(function)
        return Wei(int.from_bytes(answer[:32]))

    def _no_token(self, function: str) -> WrongChainError:
        return WrongChainError(
            f"what is at {self.address} on chain {self._client.chain_id} does not answer {function} like an ERC-20 "
            "token: check the address"
        )


def require_balance(client: SonarClient, token: Address, account: Address, amount: Wei) -> None:
    """Raises UnfundedAccountError unless the account holds `amount` of the token."""
    held = Token(client, token).balance(account)
    if held < amount:
        raise UnfundedAccountError(
            f"account {account} holds {held} of token {token}, but {amount} is needed: fund it, or offer less"
        )


def ensure_allowance(client: SonarClient, token: Address, amount: Wei) -> None:
    """Lets the contract take `amount` from the client's account, exactly; native coin needs no allowance.

    Nothing is sent where it may take that much already. Raises UnfundedAccountError if the balance is short.
    """
    if token == NATIVE:
        return
    owner = Address(client.signer.address)
    require_balance(client, token, owner, amount)
    asset = Token(client, token)
    if asset.allowance(owner) < amount:
        asset.approve(amount)


def _data(function: str, kinds: list[str], values: list[Any]) -> bytes:
    return keccak(text=f"{function}({','.join(kinds)})")[:4] + codec.encode(kinds, values)
