"""Accounts by number: the same ones on every chain that lets us choose."""

from functools import lru_cache

from eth_keys.datatypes import PrivateKey
from eth_utils import keccak

__all__ = ["account_address", "account_key"]


@lru_cache(maxsize=1024)
def account_key(number: int) -> PrivateKey:
    """The key of an account that has nothing outside tests."""
    return PrivateKey(keccak(text=f"account {number}"))


@lru_cache(maxsize=1024)
def account_address(number: int) -> str:
    """The checksummed address of an account."""
    return account_key(number).public_key.to_checksum_address()
