"""The Capsule's memory: one SQLite file (WAL) through SQLAlchemy Core; every secret in it is sealed by the vault.

Each method is one transaction. What has been signed is stored before anybody sees it, and what was used up (keys,
validation boxes, nonces) is stored before it is used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, and_, delete, func, insert, select, update
from sqlalchemy.exc import DatabaseError, IntegrityError

from capsule.errors import CapsuleHomeError
from capsule.state import tables as t
from sonar.chain.records import Admission, Entry
from sonar.storage.base import Artifact
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm

__all__ = ["State", "StoredAdmission", "StoredKey", "StoredRound", "Submission", "Version"]


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A Paillier key: `use` is spare, issued (to `owner`), used (by an admission, also a failed one) or round."""

    id: KeyId
    modulus: bytes
    secret: bytes
    use: str
    owner: Address | None


@dataclass(frozen=True, slots=True)
class StoredAdmission:
    """A signed admission with what judging needs: the spec's bytes and the sealed validation set."""

    campaign: CampaignId
    admission: Admission
    signature: bytes
    spec: bytes
    model_cid: Cid
    validation: bytes


@dataclass(frozen=True, slots=True)
class Version:
    """A model version: its score, its key, its artifact and its sealed plaintext weights."""

    number: int
    score: Ppm
    key: KeyId
    model: Artifact
    weights: bytes


@dataclass(frozen=True, slots=True)
class Submission:
    """A gradient as its event told it."""

    round: int
    index: int
    entry: Entry
    cid: Cid


@dataclass(frozen=True, slots=True)
class StoredRound:
    """A signed settlement: as the API's JSON, with the sealed next weights; `state` is signed, final or expired."""

    round: int
    head: bytes
    settlement: str
    weights: bytes | None
    state: str


class State:
    """The Capsule's database. Several threads may share it; only one process may."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        self._engine = t.open_database(path)
        try:
            t.metadata.create_all(self._engine)
        except DatabaseError as error:
            raise CapsuleHomeError(f"{path} is not a Capsule's database: move it away or restore a backup") from error

    def close(self) -> None:
        """Closes the database."""
        self._engine.dispose()

    # ---- settings

    def setting(self, name: str) -> bytes | None:
        """A setting's value."""
        with self._engine.begin() as db:
            return db.execute(select(t.settings.c.value).where(t.settings.c.name == name)).scalar()

    def set(self, **values: bytes) -> None:
        """Sets settings."""
        with self._engine.begin() as db:
            for name, value in values.items():
                db.execute(insert(t.settings).prefix_with("OR REPLACE").values(name=name, value=value))

    # ---- requests, keys and boxes

    def remember_nonce(self, account: Address, nonce: bytes, expiry: int, now: int) -> bool:
        """Whether the nonce is new; it is remembered until its expiry, and forgotten ones are cleaned up."""
        with self._engine.begin() as db:
            db.execute(delete(t.nonces).where(t.nonces.c.expiry < now))
            try:
                db.execute(insert(t.nonces).values(account=account, nonce=nonce, expiry=expiry))
            except IntegrityError:
                return False
            return True

    def add_key(self, key_id: KeyId, modulus: bytes, secret: bytes, now: float) -> None:
        """Adds a spare key."""
        row = {"id": key_id, "modulus": modulus, "secret": secret, "use": "spare", "time": now}
        with self._engine.begin() as db:
            db.execute(insert(t.keys).values(row))

    def spare_keys(self) -> int:
        """How many keys wait for use."""
        with self._engine.begin() as db:
            return db.execute(select(func.count()).where(t.keys.c.use == "spare")).scalar_one()

    def claim_key(self, use: str, owner: Address | None, now: float) -> StoredKey | None:
        """Takes the oldest spare key for a use; None if there is none."""
        oldest = select(t.keys.c.id).where(t.keys.c.use == "spare").order_by(t.keys.c.time, t.keys.c.id).limit(1)
        claim = update(t.keys).where(t.keys.c.id == oldest.scalar_subquery()).values(use=use, owner=owner, time=now)
        with self._engine.begin() as db:
            row = db.execute(claim.returning(t.keys)).one_or_none()
            return None if row is None else _key(row)

    def key(self, key_id: KeyId) -> StoredKey | None:
        """A key by its fingerprint."""
        with self._engine.begin() as db:
            row = db.execute(select(t.keys).where(t.keys.c.id == key_id)).one_or_none()
            return None if row is None else _key(row)

    def issued_since(self, owner: Address, time: float) -> int:
        """How many keys the account was given since `time`."""
        mine = and_(t.keys.c.owner == owner, t.keys.c.time >= time)
        with self._engine.begin() as db:
            return db.execute(select(func.count()).where(mine)).scalar_one()

    def key_uses(self, owner: Address) -> frozenset[str]:
        """What has become of the account's keys: `issued` ones can still admit a model, `used` ones cannot."""
        with self._engine.begin() as db:
            return frozenset(db.execute(select(t.keys.c.use).where(t.keys.c.owner == owner).distinct()).scalars())

    def use_up_key(self, key_id: KeyId, owner: Address) -> bool:
        """Marks an issued key as used; False if it is not issued to this account, or was used before."""
        free = and_(t.keys.c.id == key_id, t.keys.c.owner == owner, t.keys.c.use == "issued")
        with self._engine.begin() as db:
            return bool(db.execute(update(t.keys).where(free).values(use="used")).rowcount)

    def use_up_box(self, digest: Digest) -> bool:
        """Whether a validation box is new; it is not any more."""
        with self._engine.begin() as db:
            try:
                db.execute(insert(t.boxes).values(digest=digest))
            except IntegrityError:
                return False
            return True

    # ---- admissions and versions

    def add_admission(self, stored: StoredAdmission, start: Version) -> None:
        """Stores a signed admission with its start model."""
        given = stored.admission
        row = {
            "campaign": stored.campaign, "spec": stored.spec, "spec_digest": given.spec, "model": given.model,
            "model_cid": stored.model_cid, "key": given.key, "sealing_key": given.sealing_key,
            "start_score": given.start_score, "oracle": given.oracle, "owner": given.owner,
            "valid_until": given.valid_until, "signature": stored.signature, "validation": stored.validation,
        }  # fmt: skip
        with self._engine.begin() as db:
            db.execute(insert(t.admissions).values(row))
            db.execute(insert(t.versions).values(_version_row(stored.campaign, start)))

    def admission(self, campaign: CampaignId) -> StoredAdmission | None:
        """An admission by its campaign."""
        with self._engine.begin() as db:
            row = db.execute(select(t.admissions).where(t.admissions.c.campaign == campaign)).one_or_none()
        if row is None:
            return None
        given = Admission(
            Digest(row.spec_digest), Digest(row.model), KeyId(row.key), row.sealing_key, Ppm(row.start_score),
            Address(row.oracle), Address(row.owner), row.valid_until,
        )  # fmt: skip
        return StoredAdmission(campaign, given, row.signature, row.spec, Cid(row.model_cid), row.validation)

    def knows(self, campaign: CampaignId) -> bool:
        """Whether the campaign was admitted here."""
        with self._engine.begin() as db:
            found = select(t.admissions.c.valid_until).where(t.admissions.c.campaign == campaign)
            return db.execute(found).one_or_none() is not None

    def version(self, campaign: CampaignId) -> Version | None:
        """The campaign's latest model version."""
        latest = (
            select(t.versions).where(t.versions.c.campaign == campaign).order_by(t.versions.c.version.desc()).limit(1)
        )
        with self._engine.begin() as db:
            row = db.execute(latest).one_or_none()
        if row is None:
            return None
        model = Artifact(Cid(row.model_cid), Digest(row.model))
        return Version(row.version, Ppm(row.score), KeyId(row.key), model, row.weights)

    # ---- what the chain told

    def cursor(self) -> int | None:
        """The block from which events are to be read."""
        value = self.setting("cursor")
        return None if value is None else int(value)

    def follow(
        self,
        next_block: int,
        created: Iterable[tuple[CampaignId, int]],
        submitted: Iterable[tuple[CampaignId, Submission]],
        expired: Iterable[tuple[CampaignId, int]],
        over: Iterable[CampaignId],
    ) -> None:
        """Stores what one read of the chain told, together with where to read on."""
        with self._engine.begin() as db:
            for campaign, block in created:
                row = {"campaign": campaign, "block": block, "state": "running"}
                db.execute(insert(t.campaigns).prefix_with("OR REPLACE").values(row))
            for campaign, submission in submitted:
                db.execute(
                    insert(t.submissions).prefix_with("OR REPLACE").values(_submission_row(campaign, submission))
                )
            for campaign, number in expired:
                db.execute(update(t.rounds).where(_this(t.rounds, campaign, number)).values(state="expired"))
            for campaign in over:
                db.execute(update(t.campaigns).where(t.campaigns.c.campaign == campaign).values(state="over"))
            cursor = {"name": "cursor", "value": str(next_block).encode()}
            db.execute(insert(t.settings).prefix_with("OR REPLACE").values(cursor))

    def reread(self, block: int, campaign: CampaignId) -> None:
        """Forgets the campaign's submissions and goes back to `block`: the chain's history has changed."""
        with self._engine.begin() as db:
            db.execute(delete(t.submissions).where(t.submissions.c.campaign == campaign))
            cursor = {"name": "cursor", "value": str(block).encode()}
            db.execute(insert(t.settings).prefix_with("OR REPLACE").values(cursor))

    def running(self) -> list[tuple[CampaignId, int]]:
        """The campaigns that are on chain and not over, each with its block."""
        with self._engine.begin() as db:
            rows = db.execute(select(t.campaigns).where(t.campaigns.c.state == "running").order_by(t.campaigns.c.block))
            return [(CampaignId(row.campaign), row.block) for row in rows]

    def submissions(self, campaign: CampaignId, number: int) -> list[Submission]:
        """A round's gradients in order."""
        where = _this(t.submissions, campaign, number)
        with self._engine.begin() as db:
            rows = db.execute(select(t.submissions).where(where).order_by(t.submissions.c.place)).all()
        return [_submission(row) for row in rows]

    def repeated(self, campaign: CampaignId, gradient: Digest, before: int, mine: Address) -> bool:
        """Whether another account posted this gradient in an earlier round."""
        same = and_(
            t.submissions.c.campaign == campaign, t.submissions.c.gradient == gradient, t.submissions.c.round < before,
            t.submissions.c.mine != mine,
        )  # fmt: skip
        with self._engine.begin() as db:
            return db.execute(select(t.submissions.c.place).where(same).limit(1)).one_or_none() is not None

    # ---- rounds

    def add_round(self, campaign: CampaignId, stored: StoredRound, kept: Mapping[int, bytes]) -> None:
        """Stores a signed settlement and the kept gradients by index; replaces one over another history."""
        row = {
            "campaign": campaign, "round": stored.round, "head": stored.head, "settlement": stored.settlement,
            "weights": stored.weights, "state": stored.state,
        }  # fmt: skip
        with self._engine.begin() as db:
            db.execute(insert(t.rounds).prefix_with("OR REPLACE").values(row))
            db.execute(delete(t.kept).where(_this(t.kept, campaign, stored.round)))
            for place, gradient in kept.items():
                place_row = {"campaign": campaign, "round": stored.round, "place": place, "gradient": gradient}
                db.execute(insert(t.kept).values(place_row))

    def round(self, campaign: CampaignId, number: int) -> StoredRound | None:
        """A signed settlement."""
        with self._engine.begin() as db:
            row = db.execute(select(t.rounds).where(_this(t.rounds, campaign, number))).one_or_none()
        return None if row is None else StoredRound(row.round, row.head, row.settlement, row.weights, row.state)

    def finish_round(self, campaign: CampaignId, number: int, version: Version | None) -> None:
        """Marks a settlement as final; an advancing one brings the next model version."""
        with self._engine.begin() as db:
            db.execute(update(t.rounds).where(_this(t.rounds, campaign, number)).values(state="final"))
            if version is not None:
                db.execute(insert(t.versions).prefix_with("OR REPLACE").values(_version_row(campaign, version)))

    def unpublished(self) -> list[tuple[CampaignId, int, int, bytes]]:
        """Kept gradients of final rounds that wait to be published: campaign, round, index, bytes."""
        same = and_(t.rounds.c.campaign == t.kept.c.campaign, t.rounds.c.round == t.kept.c.round)
        where = and_(t.rounds.c.state == "final", t.kept.c.gradient.is_not(None))
        with self._engine.begin() as db:
            rows = db.execute(select(t.kept).join(t.rounds, same).where(where).limit(64)).all()
        return [(CampaignId(row.campaign), row.round, row.place, row.gradient) for row in rows]

    def published(self, campaign: CampaignId, number: int) -> dict[int, Artifact]:
        """Where a round's kept gradients are, by index."""
        where = and_(_this(t.kept, campaign, number), t.kept.c.cid.is_not(None))
        with self._engine.begin() as db:
            rows = db.execute(select(t.kept).where(where)).all()
        return {row.place: Artifact(Cid(row.cid), Digest(row.digest)) for row in rows}

    def publish(self, campaign: CampaignId, number: int, place: int, artifact: Artifact) -> None:
        """Stores where a kept gradient is."""
        where = and_(_this(t.kept, campaign, number), t.kept.c.place == place)
        values = {"gradient": None, "cid": artifact.cid, "digest": artifact.digest}
        with self._engine.begin() as db:
            db.execute(update(t.kept).where(where).values(values))

    def end(self, campaign: CampaignId) -> None:
        """The campaign takes no more rounds."""
        with self._engine.begin() as db:
            db.execute(update(t.campaigns).where(t.campaigns.c.campaign == campaign).values(state="over"))

    def counts(self) -> dict[str, int]:
        """How many campaigns run, are admitted, and how many signed settlements are not final."""
        wanted = {
            "admissions": select(func.count()).select_from(t.admissions),
            "running": select(func.count()).where(t.campaigns.c.state == "running"),
            "unsettled": select(func.count()).where(t.rounds.c.state == "signed"),
        }
        with self._engine.begin() as db:
            return {name: db.execute(query).scalar_one() for name, query in wanted.items()}


def _this(table: Table, campaign: CampaignId, number: int) -> ColumnElement[bool]:
    return and_(table.c.campaign == campaign, table.c.round == number)


def _key(row: Row[Any]) -> StoredKey:
    return StoredKey(KeyId(row.id), row.modulus, row.secret, row.use, None if row.owner is None else Address(row.owner))


def _version_row(campaign: CampaignId, version: Version) -> dict[str, Any]:
    return {
        "campaign": campaign, "version": version.number, "score": version.score, "key": version.key,
        "model": version.model.digest, "model_cid": version.model.cid, "weights": version.weights,
    }  # fmt: skip


def _submission_row(campaign: CampaignId, submission: Submission) -> dict[str, Any]:
    entry = submission.entry
    return {
        "campaign": campaign, "round": submission.round, "place": submission.index, "mine": entry.mine,
        "artifact": entry.artifact, "gradient": entry.gradient, "cid": submission.cid,
    }  # fmt: skip


def _submission(row: Row[Any]) -> Submission:
    return Submission(row.round, row.place, Entry(Address(row.mine), row.artifact, row.gradient), Cid(row.cid))
