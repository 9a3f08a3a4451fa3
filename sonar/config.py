"""The network file: where the chain, the contract, the content store and the Capsule are.

`sonar devnet` and `sonar deploy` write it; `pysonar.connect()`, `mine` and `capsule` read it. It holds no secret.
Order: an explicit path, the environment variable SONAR_NETWORK, then `network.json` in the home (SONAR_HOME or
~/.sonar).
"""

import json
import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, from_json

from sonar.errors import ConfigError
from sonar.units import address_of
from sonar.wording import wording

__all__ = ["AddressText", "Network", "field_wording", "home", "network_path"]

_URL = r"^https?://[^\s]+$"
_FORMS = {
    "rpc_url": "write it like http://127.0.0.1:8545",
    "contract": "write it like 0x and 40 hexadecimal digits",
    "store": "write it like directory:/srv/sonar, kubo:http://127.0.0.1:5001 or memory:",
    "capsule_url": "write it like https://capsule.example.org",
    "capsule": "write it like 0x and 40 hexadecimal digits",
}
"""How the fields with a pattern are written."""


def _not_mistyped(text: str) -> str:
    try:
        address_of(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return text


AddressText = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$"), AfterValidator(_not_mistyped)]
"""An address in a file that people write."""


def home() -> Path:
    """The directory of this user's Sonar files: SONAR_HOME, or ~/.sonar."""
    return Path(os.environ.get("SONAR_HOME") or Path.home() / ".sonar")


def network_path(path: Path | str | None = None) -> Path:
    """Where the network file is looked for."""
    return Path(path or os.environ.get("SONAR_NETWORK") or home() / "network.json")


class Network(BaseModel):
    """One deployment of Sonar.

    `store` is `directory:PATH`, `kubo:URL` or `memory:`; `capsule` is the address that signs admissions and
    settlements; `start_block` is the block of the contract's deployment, from which events are read. A file may leave
    out `contract`, and `start_block` with it: the deployments file knows them by the chain's id.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    rpc_url: Annotated[str, Field(pattern=_URL)]
    chain_id: Annotated[int, Field(ge=1)]
    contract: AddressText
    start_block: Annotated[int, Field(ge=0)] = 0
    store: Annotated[str, Field(pattern=r"^(directory:.+|kubo:https?://\S+|memory:)$")]
    capsule_url: Annotated[str, Field(pattern=_URL)] | None = None
    capsule: AddressText | None = None

    @classmethod
    def load(cls, path: Path | str | None = None) -> Self:
        """The network in the file found by `network_path`; raises ConfigError that names file and field."""
        file = network_path(path)
        try:
            return cls.model_validate_json(_completed(file.read_bytes(), file))
        except FileNotFoundError as error:
            raise ConfigError(
                f"no network file at {file}: start `sonar devnet`, or name the file of your network with --network or "
                "SONAR_NETWORK"
            ) from error
        except OSError as error:
            raise ConfigError(f"the network file {file} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in problem["loc"])[:100] or "file"
            raise ConfigError(f"the network file {file} is not valid: {place}: {field_wording(problem)}") from error

    def save(self, path: Path | str | None = None) -> Path:
        """Writes the network file in one step, so that no reader sees half of it; returns its path."""
        file = network_path(path)
        text = json.dumps(self.model_dump(mode="json"), indent=2) + "\n"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(f".{os.getpid()}.part")
            part.write_text(text)
            part.replace(file)
        except OSError as error:
            raise ConfigError(
                f"the network file {file} cannot be written: {error.strerror}; it says\n{text}"
            ) from error
        return file


def field_wording(problem: ErrorDetails) -> str:
    """What is wrong with a field of a network, as the end of a sentence about it."""
    form = _FORMS.get(str(problem["loc"][0])) if problem["loc"] and "pattern" in problem["type"] else None
    return form or wording(problem)


def _completed(data: bytes, file: Path) -> bytes:
    """The network file's text with its contract in it, from the deployments file if it names none itself."""
    try:
        network = from_json(data)
    except ValueError:
        return data  # what is wrong with it, the model tells
    chain_id = network.get("chain_id") if isinstance(network, dict) else None
    if not isinstance(chain_id, int) or "contract" in network:
        return data
    from sonar.chain.deployments import find_sonar  # slow to import, and few need it

    found = find_sonar(chain_id)
    if found is None:
        raise ConfigError(
            f"the network file {file} names no contract, and no deployment on chain {chain_id} is known: "
            "add `contract`, or set SONAR_DEPLOYMENTS to the file that scripts/deploy.py wrote"
        )
    return json.dumps({"start_block": found.block, **network, "contract": found.address}).encode()
