"""Admissions, model versions, and deliveries."""

from typing import Any

from sqlalchemy import Row, and_, insert, select, update

from capsule.errors import CapsuleUnavailableError
from capsule.state import tables as t
from capsule.state._topic import Topic
from capsule.state.records import StoredAdmission, Version
from sonar.chain.records import Admission
from sonar.protocol.messages import SignedRequest
from sonar.storage.base import Artifact
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm

__all__ = ["Admissions", "version_row"]


class Admissions(Topic):
    """What was admitted, and the versions that grew from it."""

    def add_admission(self, stored: StoredAdmission, start: Version) -> None:
        """Stores a signed admission with its start model.

        Raises CapsuleUnavailableError where the key's secret is not there any more: its campaign could not be judged.
        """
        given = stored.admission
        row = {
            "campaign": stored.campaign, "spec": stored.spec, "spec_digest": given.spec, "model": given.model,
            "model_cid": stored.model_cid, "key": given.key, "sealing_key": given.sealing_key,
            "start_score": given.start_score, "oracle": given.oracle, "owner": given.owner,
            "valid_until": given.valid_until, "signature": stored.signature, "validation": stored.validation,
            "time": self.audit.now(),
        }  # fmt: skip
        its = and_(t.keys.c.id == given.key, t.keys.c.owner == given.owner, t.keys.c.use == "used")
        there = select(t.keys.c.id).where(its, t.keys.c.secret.is_not(None))
        with self._recording() as (db, record):
            if db.execute(there).one_or_none() is None:
                raise CapsuleUnavailableError(
                    f"key 0x{given.key.hex()} was deleted while its model was admitted: ask for a new one"
                )
            db.execute(insert(t.admissions).values(row))
            db.execute(insert(t.versions).values(version_row(stored.campaign, start, block=None)))
            record(
                "admission", campaign=stored.campaign, account=given.owner, spec=given.spec, model=given.model,
                key=given.key, score=given.start_score,
            )  # fmt: skip

    def admission(self, campaign: CampaignId) -> StoredAdmission | None:
        """An admission by its campaign."""
        with self._reading() as db:
            row = db.execute(select(t.admissions).where(t.admissions.c.campaign == campaign)).one_or_none()
        if row is None:
            return None
        given = Admission(
            Digest(row.spec_digest), Digest(row.model), KeyId(row.key), row.sealing_key, Ppm(row.start_score),
            Address(row.oracle), Address(row.owner), row.valid_until,
        )  # fmt: skip
        return StoredAdmission(campaign, given, row.signature, row.spec, Cid(row.model_cid), row.validation or b"")

    def knows(self, campaign: CampaignId) -> bool:
        """Whether the campaign was admitted here."""
        with self._reading() as db:
            found = select(t.admissions.c.valid_until).where(t.admissions.c.campaign == campaign)
            return db.execute(found).one_or_none() is not None

    def uncreated(self) -> dict[CampaignId, int]:
        """The admissions whose campaigns are not on chain as far as it was read, each with until when it is good.

        Those whose secrets were deleted are none of them.
        """
        its = t.admissions.c
        seen = select(t.campaigns.c.campaign).where(t.campaigns.c.campaign == its.campaign).exists()
        with self._reading() as db:
            rows = db.execute(select(its.campaign, its.valid_until).where(~seen, its.validation.is_not(None)))
            return {CampaignId(row.campaign): row.valid_until for row in rows}

    def version(self, campaign: CampaignId, number: int | None = None) -> Version | None:
        """A model version by its number, or the latest one that the chain told of."""
        wanted = select(t.versions).where(t.versions.c.campaign == campaign)
        if number is not None:
            wanted = wanted.where(t.versions.c.version == number)
        with self._reading() as db:
            row = db.execute(wanted.order_by(t.versions.c.version.desc()).limit(1)).one_or_none()
        return None if row is None else _version(row)

    def delivered(self, campaign: CampaignId, account: Address, number: int) -> None:
        """A version was handed to the campaign's owner."""
        now = self.audit.now()
        with self._recording() as (db, record):
            db.execute(update(t.admissions).where(t.admissions.c.campaign == campaign).values(delivered=now))
            record("delivery", campaign=campaign, account=account, version=number)

    def attributed(self, campaign: CampaignId, account: Address, number: int, what: str, box: Digest) -> None:
        """A box was handed to the campaign's owner that tells mines' shares in a version, or their parts of it.

        Its digest tells nobody the few numbers that may be in it.
        """
        with self._recording() as (_, record):
            record("attribution", campaign=campaign, account=account, version=number, what=what, box=box)

    def gave_weights(self, campaign: CampaignId, number: int, terms: Digest, accepted: SignedRequest) -> None:
        """A version's weights were handed to a mine that accepted the terms with this digest; `accepted` proves it."""
        asked = accepted.request
        with self._recording() as (_, record):
            record("weights", campaign=campaign, account=asked.account, version=number, terms=terms,
                   request=accepted.body.decode(), nonce=asked.nonce, expiry=asked.expiry,
                   signature=accepted.signature)  # fmt: skip


def version_row(campaign: CampaignId, version: Version, *, block: int | None) -> dict[str, Any]:
    """The row of a version that the chain told of in `block`."""
    return {
        "campaign": campaign, "version": version.number, "score": version.score, "key": version.key,
        "model": version.model.digest, "model_cid": version.model.cid, "weights": version.weights, "block": block,
    }  # fmt: skip


def _version(row: Row[Any]) -> Version:
    model = Artifact(Cid(row.model_cid), Digest(row.model))
    return Version(row.version, Ppm(row.score), KeyId(row.key), model, row.weights or b"")
