"""The deployments file: which contracts are on which chain. `scripts/deploy.py` writes it; network files lean on it.

Order: an explicit path or the environment variable SONAR_DEPLOYMENTS, and then nothing else; otherwise
`deployments.json` in the home (SONAR_HOME or ~/.sonar), then the one that ships with the package, of public networks.
It holds no secret.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from sonar.chain.bytecode import SONAR, Blueprint, ContractName
from sonar.config import AddressText, home
from sonar.errors import ConfigError
from sonar.units import Address
from sonar.wording import told

__all__ = ["Deployments", "History", "Intent", "Record", "deployments_path", "find_record", "find_sonar", "locked"]

_Hash = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_ChainId = Annotated[str, Field(pattern=r"^[1-9][0-9]*$")]

_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True)


class Record(BaseModel):
    """A deployed contract: where it is, how it got there, and of which code it is. Members are a committee's."""

    model_config = _STRICT

    address: AddressText
    block: Annotated[int, Field(ge=0)]
    transaction: _Hash
    deployer: AddressText
    runtime_sha256: _Sha256
    source_sha256: _Sha256
    members: tuple[AddressText, ...] = ()
    threshold: Annotated[int, Field(ge=1)] | None = None

    def is_of(self, blueprint: Blueprint, chain_id: int) -> bool:
        """Whether it was recorded as exactly this contract of this package."""
        return self.difference(blueprint, chain_id) is None

    def difference(self, blueprint: Blueprint, chain_id: int) -> str | None:
        """What it was recorded with that this contract of this package has not, in a few words; None if nothing."""
        if self.members != blueprint.members:
            return f"its members are {', '.join(self.members) or 'none'}"
        if self.threshold != blueprint.threshold:
            return f"its threshold is {self.threshold}"
        if self.runtime_sha256 != blueprint.runtime_digest(chain_id, Address(self.address)):
            return "its code is another version's"
        return None


class Intent(BaseModel):
    """A deployment that was signed and perhaps sent, but is not known to have ended."""

    model_config = _STRICT

    deployer: AddressText
    nonce: Annotated[int, Field(ge=0)]
    transaction: _Hash
    raw: Annotated[str, Field(pattern=r"^0x([0-9a-f]{2})+$")]
    creation_sha256: _Sha256


class History(BaseModel):
    """One contract on one chain: the deployment in use, those before it (newest first), and one under way."""

    model_config = _STRICT

    current: Record | None = None
    previous: tuple[Record, ...] = ()
    pending: Intent | None = None

    def begun(self, intent: Intent) -> "History":
        """With a deployment under way."""
        return self.model_copy(update={"pending": intent})

    def ended(self, record: Record | None) -> "History":
        """With the deployment under way done; None: it failed."""
        if record is None:
            return self.model_copy(update={"pending": None})
        before = () if self.current is None else (self.current, *self.previous)
        return History(current=record, previous=before)


class Deployments(RootModel[dict[_ChainId, dict[ContractName, History]]]):
    """All contracts of a file, by chain id and name."""

    model_config = ConfigDict(strict=True, frozen=True)

    @classmethod
    def parse(cls, text: str | bytes, name: str) -> Self:
        """The deployments in a file's text; raises ConfigError that names file and field."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError(f"the deployments file {name} is not valid: {told(error, 'file')}") from error

    @classmethod
    def load(cls, file: Path) -> Self:
        """The deployments in a file, none if there is no file; raises ConfigError."""
        try:
            text = file.read_bytes()
        except FileNotFoundError:
            return cls({})
        except OSError as error:
            raise ConfigError(f"the deployments file {file} cannot be read: {error.strerror}") from error
        return cls.parse(text, str(file))

    def history(self, chain_id: int, contract: ContractName = "Sonar") -> History:
        """What is known of a contract on a chain."""
        return self.root.get(str(chain_id), {}).get(contract, History())

    def updated(self, chain_id: int, contract: ContractName, history: History) -> "Deployments":
        """With another history."""
        return Deployments({**self.root, str(chain_id): {**self.root.get(str(chain_id), {}), contract: history}})

    def dumps(self) -> str:
        """The file's text: chains by number, contracts by name, fields in their order."""
        plain = self.model_dump(mode="json", exclude_defaults=True)
        ordered = {chain: dict(sorted(plain[chain].items())) for chain in sorted(plain, key=int)}
        return json.dumps(ordered, indent=2) + "\n"

    def save(self, file: Path) -> None:
        """Writes a file in one step, and to the disk: readers see the old one or the new one, after a crash too."""
        part = file.with_name(f".{file.name}.{os.getpid()}.part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with part.open("w") as stream:
                stream.write(self.dumps())
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(file)
        except OSError as error:
            raise ConfigError(f"the deployments file {file} cannot be written: {error.strerror}") from error


def deployments_path(path: Path | str | None = None) -> Path:
    """The file that deployments are written to."""
    return Path(path or os.environ.get("SONAR_DEPLOYMENTS") or home() / "deployments.json")


def find_sonar(chain_id: int, path: Path | str | None = None) -> Record | None:
    """The Sonar contract on a chain, None if no file knows one.

    Raises ConfigError for a file that is not valid, or if the contract is not this version's.
    """
    for name, deployments in _files(path):
        found = deployments.history(chain_id).current
        if found is None:
            continue
        if not found.is_of(SONAR, chain_id):
            raise ConfigError(
                f"{name} names {found.address} on chain {chain_id}, which is not this version's Sonar contract: "
                "install the version that deployed it, or name another `contract` in the network file"
            )
        return found
    return None


def find_record(chain_id: int, contract: ContractName, address: str, path: Path | str | None = None) -> Record | None:
    """What a file knows of the contract at an address, in use or before; None if none knows it. Raises ConfigError."""
    for _, deployments in _files(path):
        history = deployments.history(chain_id, contract)
        for record in (history.current, *history.previous):
            if record is not None and record.address.lower() == address.lower():
                return record
    return None


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Held by the one process that may deploy by this file; raises ConfigError if another one does."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # The directory, which stays: a lock file would lie about for nothing.
        descriptor = os.open(file.parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"{file.parent} cannot hold {file.name}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another deployment is under way with {file}: wait until it has ended") from error
        yield
    finally:
        os.close(descriptor)


def _files(path: Path | str | None) -> Iterator[tuple[str, Deployments]]:
    file = deployments_path(path)
    yield str(file), Deployments.load(file)
    if path is None and not os.environ.get("SONAR_DEPLOYMENTS"):
        shipped = files("sonar.chain") / "data" / "deployments.json"
        yield str(shipped), Deployments.parse(shipped.read_text(), str(shipped))
