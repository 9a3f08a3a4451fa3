"""The code of this package's contracts, to the last byte: as it is sent to a chain, and as it must stand there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from sonar.chain._artifact import Artifact, artifact
from sonar.chain.records import NATIVE
from sonar.errors import ConfigError
from sonar.units import Address, address_of

__all__ = ["SONAR", "Blueprint", "ContractName", "committee"]

ContractName = Literal["Sonar", "CapsuleCommittee"]

_NAME, _VERSION = "Sonar", "1"
"""The EIP-712 domain that the contract's constructor fixes."""
_DOMAIN = keccak(text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_LARGEST_COMMITTEE = 32


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A contract as it is deployed: `SONAR`, or what `committee` makes."""

    contract: ContractName
    members: tuple[Address, ...] = ()
    threshold: int | None = None

    @property
    def source_digest(self) -> str:
        """SHA-256 in hexadecimal of the sources and the compiler's settings."""
        return str(self._artifact["sourceSha256"])

    def creation_code(self) -> bytes:
        """The data of the transaction that deploys it: the compiled code and the constructor's arguments."""
        code = bytes.fromhex(self._artifact["bytecode"].removeprefix("0x"))
        if self.contract == "Sonar":
            return code
        return code + encode(["address[]", "uint256"], [self.members, self.threshold])

    def runtime_code(self, chain_id: int, address: Address) -> bytes:
        """The code that it has once deployed at `address` of the chain: the compiled one, its immutables filled in."""
        code = bytearray.fromhex(self._artifact["deployedBytecode"].removeprefix("0x"))
        for name, value in self._immutables(chain_id, address).items():
            for place in self._places(name):
                code[place] = value
        return bytes(code)

    def runtime_digest(self, chain_id: int, address: Address) -> str:
        """SHA-256 in hexadecimal of `runtime_code`."""
        return sha256(self.runtime_code(chain_id, address)).hexdigest()

    def difference(self, code: bytes, chain_id: int, address: Address) -> str | None:
        """What about the code found at `address` is not as it must be, in a few words; None if every byte is."""
        expected = self.runtime_code(chain_id, address)
        if code == expected:
            return None
        if len(code) != len(expected):
            return f"it has {len(code)} bytes instead of {len(expected)}"
        immutables = self._immutables(chain_id, address)
        inside = {index for name in immutables for place in self._places(name) for index in _indices(place)}
        for index, (found, wanted) in enumerate(zip(code, expected, strict=True)):
            if found != wanted and index not in inside:
                return f"byte {index} is 0x{found:02x} instead of 0x{wanted:02x}"
        wrong = [
            f"{name} is 0x{code[place].hex()} instead of 0x{value.hex()}"
            for name, value in immutables.items()
            for place in self._places(name)
            if code[place] != value
        ]
        return f"its immutable {wrong[0]}" + (f" ({len(wrong)} such differences)" if len(wrong) > 1 else "")

    @property
    def _artifact(self) -> Artifact:
        return artifact(self.contract)

    def _places(self, immutable: str) -> list[slice]:
        places = self._artifact["immutableReferences"][immutable]
        return [slice(place["start"], place["start"] + place["length"]) for place in places]

    def _immutables(self, chain_id: int, address: Address) -> Mapping[str, bytes]:
        """What the constructor leaves in the code; raises KeyError for an immutable that is not known here."""
        if self.contract == "CapsuleCommittee":
            values = {"threshold": encode(["uint256"], [self.threshold])}
        else:
            values = _domain_immutables(chain_id, address)
        return {name: values[name] for name in sorted(self._artifact["immutableReferences"])}


SONAR = Blueprint("Sonar")


def committee(members: Sequence[str], threshold: int) -> Blueprint:
    """A committee of Capsules, `threshold` of which must sign; raises ConfigError for one that cannot be deployed."""
    ascending = sorted({address_of(member) for member in members}, key=str.lower)
    if not 1 <= len(members) <= _LARGEST_COMMITTEE:
        raise ConfigError(f"a committee has 1 to {_LARGEST_COMMITTEE} members, not {len(members)}")
    if len(ascending) < len(members):
        raise ConfigError("a member stands in the committee twice: name each once")
    if ascending[0] == NATIVE:
        raise ConfigError("the zero address cannot sign: name a Capsule's address")
    if not 1 <= threshold <= len(members):
        raise ConfigError(f"the threshold of {len(members)} members is 1 to {len(members)}, not {threshold}")
    return Blueprint("CapsuleCommittee", tuple(ascending), threshold)


def _domain_immutables(chain_id: int, address: Address) -> dict[str, bytes]:
    """What OpenZeppelin's EIP712 keeps in the code, so that a digest costs no storage."""
    name, version = keccak(text=_NAME), keccak(text=_VERSION)
    types = ["bytes32", "bytes32", "bytes32", "uint256", "address"]
    return {
        "_cachedDomainSeparator": keccak(encode(types, [_DOMAIN, name, version, chain_id, address])),
        "_cachedChainId": encode(["uint256"], [chain_id]),
        "_cachedThis": encode(["address"], [address]),
        "_hashedName": name,
        "_hashedVersion": version,
        "_name": _short_string(_NAME),
        "_version": _short_string(_VERSION),
    }


def _short_string(text: str) -> bytes:
    """OpenZeppelin's ShortString: the text, zeros, and in the last byte its length."""
    data = text.encode()
    return data.ljust(31, b"\0") + bytes([len(data)])


def _indices(place: slice) -> range:
    return range(place.start, place.stop)
