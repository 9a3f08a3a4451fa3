"""What signs transactions: an account in this process, or anything else that answers alike."""

from typing import Any, Protocol

from eth_typing import ChecksumAddress

__all__ = ["Signed", "Signer"]


class Signed(Protocol):
    """A signed transaction, as eth_account gives it."""

    @property
    def raw_transaction(self) -> bytes:
        """Its bytes."""
        ...

    @property
    def hash(self) -> bytes:
        """Keccak-256 of them."""
        ...


class Signer(Protocol):
    """An account that signs; eth_account's LocalAccount is one."""

    @property
    def address(self) -> ChecksumAddress:
        """Whose signatures these are."""
        ...

    def sign_transaction(self, transaction_dict: dict[str, Any], /) -> Signed:
        """The transaction of these fields, signed."""
        ...
