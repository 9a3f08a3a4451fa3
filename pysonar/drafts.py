"""Campaigns that are about to be escrowed, kept in files, so that a crash before the receipt loses nothing.

A draft is written before anything is sent and removed once the chain has decided. It holds the transaction, which is
public once sent, and no secret.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from sonar.chain.client import SignedTransaction
from sonar.errors import ConfigError
from sonar.units import Address, CampaignId, Wei

__all__ = ["Draft", "Drafts"]


@dataclass(frozen=True, slots=True)
class Draft:
    """One createCampaign transaction: its data, and itself once it is signed.

    `valid_until` is the admission's last second; `bounty` is in the smallest unit of `token`.
    """

    campaign: CampaignId
    chain_id: int
    contract: Address
    owner: Address
    valid_until: int
    token: Address
    bounty: Wei
    data: bytes
    signed: SignedTransaction | None = None


class Drafts:
    """The drafts in one directory, one file each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, draft: Draft) -> None:
        """Writes the draft in one step; raises ConfigError where that is not possible."""
        signed = draft.signed
        fields = {
            "campaign": "0x" + draft.campaign.hex(),
            "chain_id": draft.chain_id,
            "contract": draft.contract,
            "owner": draft.owner,
            "valid_until": draft.valid_until,
            "token": draft.token,
            "bounty": str(draft.bounty),
            "data": "0x" + draft.data.hex(),
            "signed": signed
            and {"nonce": signed.nonce, "hash": "0x" + signed.hash.hex(), "raw": "0x" + signed.raw.hex()},
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
            signed = fields["signed"]
            return Draft(
                campaign=CampaignId(_bytes(fields["campaign"])),
                chain_id=int(fields["chain_id"]),
                contract=Address(fields["contract"]),
                owner=Address(fields["owner"]),
                valid_until=int(fields["valid_until"]),
                token=Address(fields["token"]),
                bounty=Wei(int(fields["bounty"])),
                data=_bytes(fields["data"]),
                signed=signed
                and SignedTransaction(_bytes(signed["raw"]), _bytes(signed["hash"]), int(signed["nonce"])),
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise ConfigError(f"{path} is not the draft of a campaign: move it away ({error!r:.200})") from error


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
