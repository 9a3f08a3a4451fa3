"""The account that posts gradients and is paid: an Ethereum keystore in the home, or a signing service by its URL.

A bare key on the disk is for development chains alone, whose coin is worth nothing: elsewhere it is refused.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sonar.config import AddressText
from sonar.errors import ConfigError
from sonar.units import Address, address_of

if TYPE_CHECKING:
    from sonar.chain.signing import Signer
    from sonar.signers import RemoteSigner

__all__ = ["DEVELOPMENT_CHAINS", "Wallet"]

DEVELOPMENT_CHAINS: Final[Mapping[int, str]] = MappingProxyType(
    {1337: "Ganache and geth --dev", 5777: "Ganache", 31337: "Anvil and Hardhat", 131277322940537: "eth-tester"}
)
"""Chains whose accounts anybody may have, by their id."""


class _Remote(BaseModel):
    """`signer.json`: where the key is, and which account it is of; no secret."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    url: Annotated[str, Field(max_length=2000)]
    address: AddressText


class Wallet:
    """The files of an account in a directory: `account.key`, or `signer.json`."""

    def __init__(self, directory: Path) -> None:
        self.key_file = directory / "account.key"
        self.signer_file = directory / "signer.json"

    @property
    def exists(self) -> bool:
        """Whether there is an account."""
        return self.key_file.exists() or self.signer_file.exists()

    def use_signer(self, url: str, address: str) -> "RemoteSigner":
        """Has a signing service sign from now on; raises ConfigError where there is an account already."""
        from sonar.signers import RemoteSigner

        signer = RemoteSigner(url, address)
        if self.exists:
            raise ConfigError(
                f"{self.key_file.parent} has an account already, which is never replaced: use another home"
            )
        self.signer_file.write_text(json.dumps({"url": url, "address": signer.address}) + "\n")
        return signer

    def address(self) -> Address:
        """The account's address, for which no passphrase is needed; raises ConfigError."""
        if self.signer_file.exists():
            return address_of(self._remote().address)
        keystore = self._keystore()
        if keystore is not None and isinstance(keystore.get("address"), str):
            return address_of("0x" + keystore["address"].removeprefix("0x"))
        from sonar.wallet import load_account

        return Address(load_account(self.key_file).address)

    def open(self, chain_id: int) -> "Signer":
        """What signs on a chain; raises ConfigError, also for a bare key on a chain whose coin is worth something."""
        if self.signer_file.exists():
            from sonar.signers import RemoteSigner

            remote = self._remote()
            return RemoteSigner(remote.url, remote.address)
        from sonar.wallet import load_account

        if self._keystore() is None and chain_id not in DEVELOPMENT_CHAINS:
            raise ConfigError(
                f"{self.key_file} holds a bare key, for development chains only, and chain {chain_id} is none: "
                "put it under a passphrase with `mine encrypt`"
            )
        return load_account(self.key_file)

    def encrypt(self, passphrase: str) -> Address:
        """Puts the bare key under a passphrase, in one step: the file is one or the other. Raises ConfigError."""
        from sonar.wallet import encrypt_keystore, load_account, write_over

        if self.signer_file.exists() or self._keystore() is not None:
            raise ConfigError(f"there is no bare key in {self.key_file.parent}: nothing is to be encrypted")
        account = load_account(self.key_file)
        write_over(self.key_file, encrypt_keystore(account, passphrase))
        return Address(account.address)

    def _remote(self) -> _Remote:
        try:
            return _Remote.model_validate_json(self.signer_file.read_bytes())
        except OSError as error:
            raise ConfigError(f"{self.signer_file} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise ConfigError(
                f"{self.signer_file} is not what `mine init --signer` wrote: it has a url and an address"
            ) from error

    def _keystore(self) -> dict[str, Any] | None:
        """The keystore's fields, names in small letters; None for a bare key."""
        from sonar.wallet import read_keystore

        return read_keystore(self.key_file)
