"""Signed but unconfirmed escrows, kept in files, so that a crash between signing and the receipt loses nothing.

A draft is written before its transaction is sent and removed once the chain has decided. It holds the transaction,
which is public once sent, and no secret.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sonar.errors import ConfigError
from sonar.units import Address, CampaignId

__all__ = ["Draft", "Drafts"]


@dataclass(frozen=True, slots=True)
class Draft:
    """One signed createCampaign transaction; `valid_until` is the admission's last second."""

    campaign: CampaignId
    chain_id: int
    contract: Address
    owner: Address
    valid_until: int
    nonce: int
    hash: bytes
    raw: bytes


class Drafts:
    """The drafts in one directory, one file each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, draft: Draft) -> None:
        """Writes the draft in one step; raises ConfigError where that is not possible."""
        fields = {
            name: "0x" + value.hex() if isinstance(value, bytes) else value for name, value in asdict(draft).items()
        }
        path = self._path(draft.campaign)
        part = path.with_suffix(".part")
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            part.write_text(json.dumps(fields, indent=2) + "\n")
            part.replace(path)
        except OSError as error:
            raise ConfigError(f"the campaign cannot be noted in {path}: {error.strerror}") from error

    def remove(self, campaign: CampaignId) -> None:
        """Forgets a draft whose fate the chain has decided."""
        self._path(campaign).unlink(missing_ok=True)

    def all(self, *, chain_id: int, contract: Address, owner: Address) -> tuple[Draft, ...]:
        """The drafts of one account on one contract; raises ConfigError for a file that is none."""
        drafts = [self._load(path) for path in sorted(self._directory.glob("*.json"))]
        return tuple(
            draft for draft in drafts if (draft.chain_id, draft.contract, draft.owner) == (chain_id, contract, owner)
        )

    def _path(self, campaign: CampaignId) -> Path:
        return self._directory / f"{campaign.hex()}.json"

    @staticmethod
    def _load(path: Path) -> Draft:
        try:
            fields = json.loads(path.read_text())
            return Draft(
                campaign=CampaignId(_bytes(fields["campaign"])),
                chain_id=int(fields["chain_id"]),
                contract=Address(fields["contract"]),
                owner=Address(fields["owner"]),
                valid_until=int(fields["valid_until"]),
                nonce=int(fields["nonce"]),
                hash=_bytes(fields["hash"]),
                raw=_bytes(fields["raw"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is not the draft of a campaign: move it away ({error})") from error


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
