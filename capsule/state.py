"""The Capsule's memory: one SQLite file (WAL) through SQLAlchemy Core; every secret in it is sealed by the vault.

Each method is one transaction. What has been signed is stored before anybody sees it, and what was used up (keys,
validation boxes, nonces) is stored before it is used.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    and_,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import DatabaseError, IntegrityError

from capsule.errors import CapsuleHomeError
from sonar.chain.records import Admission, Entry
from sonar.storage.base import Artifact
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm

__all__ = ["State", "StoredAdmission", "StoredKey", "StoredRound", "Submission", "Version"]

_metadata = MetaData()
_settings = Table(
    "settings", _metadata,
    Column("name", Text, primary_key=True), Column("value", LargeBinary, nullable=False),
)  # fmt: skip
_keys = Table(
    "keys", _metadata,
    Column("id", LargeBinary, primary_key=True), Column("modulus", LargeBinary, nullable=False),
    Column("secret", LargeBinary, nullable=False), Column("use", Text, nullable=False, index=True),
    Column("owner", Text), Column("time", Float, nullable=False),
)  # fmt: skip
_boxes = Table("boxes", _metadata, Column("digest", LargeBinary, primary_key=True))
_nonces = Table(
    "nonces", _metadata,
    Column("account", Text, primary_key=True), Column("nonce", LargeBinary, primary_key=True),
    Column("expiry", Integer, nullable=False, index=True),
)  # fmt: skip
_admissions = Table(
    "admissions", _metadata,
    Column("campaign", LargeBinary, primary_key=True), Column("spec", LargeBinary, nullable=False),
    Column("spec_digest", LargeBinary, nullable=False), Column("model", LargeBinary, nullable=False),
    Column("model_cid", Text, nullable=False), Column("key", LargeBinary, nullable=False),
    Column("sealing_key", LargeBinary, nullable=False), Column("start_score", Integer, nullable=False),
    Column("owner", Text, nullable=False), Column("valid_until", Integer, nullable=False),
    Column("signature", LargeBinary, nullable=False), Column("validation", LargeBinary, nullable=False),
)  # fmt: skip
_versions = Table(
    "versions", _metadata,
    Column("campaign", LargeBinary, primary_key=True), Column("version", Integer, primary_key=True),
    Column("score", Integer, nullable=False), Column("key", LargeBinary, nullable=False),
    Column("model", LargeBinary, nullable=False), Column("model_cid", Text, nullable=False),
    Column("weights", LargeBinary, nullable=False),
)  # fmt: skip
_campaigns = Table(
    "campaigns", _metadata,
    Column("campaign", LargeBinary, primary_key=True), Column("block", Integer, nullable=False),
    Column("state", Text, nullable=False),
)  # fmt: skip
_submissions = Table(
    "submissions", _metadata,
    Column("campaign", LargeBinary, primary_key=True), Column("round", Integer, primary_key=True),
    Column("place", Integer, primary_key=True), Column("mine", Text, nullable=False),
    Column("artifact", LargeBinary, nullable=False), Column("gradient", LargeBinary, nullable=False),
    Column("cid", Text, nullable=False),
)  # fmt: skip
_rounds = Table(
    "rounds", _metadata,
    Column("campaign", LargeBinary, primary_key=True), Column("round", Integer, primary_key=True),
    Column("head", LargeBinary, nullable=False), Column("settlement", Text, nullable=False),
    Column("weights", LargeBinary), Column("gradients", LargeBinary), Column("state", Text, nullable=False),
)  # fmt: skip
_published = Table(
    "published", _metadata,
    Column("campaign", LargeBinary, primary_key=True), Column("round", Integer, primary_key=True),
    Column("place", Integer, primary_key=True), Column("cid", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
)  # fmt: skip


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
        self._engine = _engine(path)
        try:
            _metadata.create_all(self._engine)
        except DatabaseError as error:
            raise CapsuleHomeError(f"{path} is not a Capsule's database: move it away or restore a backup") from error

    def close(self) -> None:
        """Closes the database."""
        self._engine.dispose()

    # ---- settings

    def setting(self, name: str) -> bytes | None:
        """A setting's value."""
        with self._engine.begin() as db:
            return db.execute(select(_settings.c.value).where(_settings.c.name == name)).scalar()

    def set(self, **values: bytes) -> None:
        """Sets settings."""
        with self._engine.begin() as db:
            for name, value in values.items():
                db.execute(insert(_settings).prefix_with("OR REPLACE").values(name=name, value=value))

    # ---- requests, keys and boxes

    def remember_nonce(self, account: Address, nonce: bytes, expiry: int, now: int) -> bool:
        """Whether the nonce is new; it is remembered until its expiry, and forgotten ones are cleaned up."""
        with self._engine.begin() as db:
            db.execute(delete(_nonces).where(_nonces.c.expiry < now))
            try:
                db.execute(insert(_nonces).values(account=account, nonce=nonce, expiry=expiry))
            except IntegrityError:
                return False
            return True

    def add_key(self, key_id: KeyId, modulus: bytes, secret: bytes, now: float) -> None:
        """Adds a spare key."""
        row = {"id": key_id, "modulus": modulus, "secret": secret, "use": "spare", "time": now}
        with self._engine.begin() as db:
            db.execute(insert(_keys).values(row))

    def spare_keys(self) -> int:
        """How many keys wait for use."""
        with self._engine.begin() as db:
            return db.execute(select(func.count()).where(_keys.c.use == "spare")).scalar_one()

    def claim_key(self, use: str, owner: Address | None, now: float) -> StoredKey | None:
        """Takes the oldest spare key for a use; None if there is none."""
        oldest = select(_keys.c.id).where(_keys.c.use == "spare").order_by(_keys.c.time, _keys.c.id).limit(1)
        claim = update(_keys).where(_keys.c.id == oldest.scalar_subquery()).values(use=use, owner=owner, time=now)
        with self._engine.begin() as db:
            row = db.execute(claim.returning(_keys)).one_or_none()
            return None if row is None else _key(row)

    def key(self, key_id: KeyId) -> StoredKey | None:
        """A key by its fingerprint."""
        with self._engine.begin() as db:
            row = db.execute(select(_keys).where(_keys.c.id == key_id)).one_or_none()
            return None if row is None else _key(row)

    def issued_since(self, owner: Address, time: float) -> int:
        """How many keys the account was given since `time`."""
        mine = and_(_keys.c.owner == owner, _keys.c.time >= time)
        with self._engine.begin() as db:
            return db.execute(select(func.count()).where(mine)).scalar_one()

    def use_up_key(self, key_id: KeyId, owner: Address) -> bool:
        """Marks an issued key as used; False if it is not issued to this account, or was used before."""
        free = and_(_keys.c.id == key_id, _keys.c.owner == owner, _keys.c.use == "issued")
        with self._engine.begin() as db:
            return bool(db.execute(update(_keys).where(free).values(use="used")).rowcount)

    def use_up_box(self, digest: Digest) -> bool:
        """Whether a validation box is new; it is not any more."""
        with self._engine.begin() as db:
            try:
                db.execute(insert(_boxes).values(digest=digest))
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
            "start_score": given.start_score, "owner": given.owner, "valid_until": given.valid_until,
            "signature": stored.signature, "validation": stored.validation,
        }  # fmt: skip
        with self._engine.begin() as db:
            db.execute(insert(_admissions).values(row))
            db.execute(insert(_versions).values(_version_row(stored.campaign, start)))

    def admission(self, campaign: CampaignId) -> StoredAdmission | None:
        """An admission by its campaign."""
        with self._engine.begin() as db:
            row = db.execute(select(_admissions).where(_admissions.c.campaign == campaign)).one_or_none()
        if row is None:
            return None
        given = Admission(
            Digest(row.spec_digest), Digest(row.model), KeyId(row.key), row.sealing_key, Ppm(row.start_score),
            Address(row.owner), row.valid_until,
        )  # fmt: skip
        return StoredAdmission(campaign, given, row.signature, row.spec, Cid(row.model_cid), row.validation)

    def version(self, campaign: CampaignId) -> Version | None:
        """The campaign's latest model version."""
        latest = select(_versions).where(_versions.c.campaign == campaign).order_by(_versions.c.version.desc()).limit(1)
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
                db.execute(insert(_campaigns).prefix_with("OR REPLACE").values(row))
            for campaign, submission in submitted:
                db.execute(insert(_submissions).prefix_with("OR REPLACE").values(_submission_row(campaign, submission)))
            for campaign, number in expired:
                db.execute(update(_rounds).where(_this(_rounds, campaign, number)).values(state="expired"))
            for campaign in over:
                db.execute(update(_campaigns).where(_campaigns.c.campaign == campaign).values(state="over"))
            cursor = {"name": "cursor", "value": str(next_block).encode()}
            db.execute(insert(_settings).prefix_with("OR REPLACE").values(cursor))

    def reread(self, block: int, campaign: CampaignId) -> None:
        """Forgets the campaign's submissions and goes back to `block`: the chain's history has changed."""
        with self._engine.begin() as db:
            db.execute(delete(_submissions).where(_submissions.c.campaign == campaign))
            cursor = {"name": "cursor", "value": str(block).encode()}
            db.execute(insert(_settings).prefix_with("OR REPLACE").values(cursor))

    def running(self) -> list[tuple[CampaignId, int]]:
        """The campaigns that are on chain and not over, each with its block."""
        with self._engine.begin() as db:
            rows = db.execute(select(_campaigns).where(_campaigns.c.state == "running").order_by(_campaigns.c.block))
            return [(CampaignId(row.campaign), row.block) for row in rows]

    def submissions(self, campaign: CampaignId, number: int) -> list[Submission]:
        """A round's gradients in order."""
        where = _this(_submissions, campaign, number)
        with self._engine.begin() as db:
            rows = db.execute(select(_submissions).where(where).order_by(_submissions.c.place)).all()
        return [_submission(row) for row in rows]

    def repeated(self, campaign: CampaignId, gradient: Digest, before: int, mine: Address) -> bool:
        """Whether another account posted this gradient in an earlier round."""
        same = and_(
            _submissions.c.campaign == campaign, _submissions.c.gradient == gradient, _submissions.c.round < before,
            _submissions.c.mine != mine,
        )  # fmt: skip
        with self._engine.begin() as db:
            return db.execute(select(_submissions.c.place).where(same).limit(1)).one_or_none() is not None

    # ---- rounds

    def add_round(self, campaign: CampaignId, stored: StoredRound, gradients: bytes | None) -> None:
        """Stores a signed settlement, the sealed kept gradients with it; replaces one over another history."""
        row = {
            "campaign": campaign, "round": stored.round, "head": stored.head, "settlement": stored.settlement,
            "weights": stored.weights, "gradients": gradients, "state": stored.state,
        }  # fmt: skip
        with self._engine.begin() as db:
            db.execute(insert(_rounds).prefix_with("OR REPLACE").values(row))

    def round(self, campaign: CampaignId, number: int) -> StoredRound | None:
        """A signed settlement."""
        columns = [column for column in _rounds.c if column.name != "gradients"]
        with self._engine.begin() as db:
            row = db.execute(select(*columns).where(_this(_rounds, campaign, number))).one_or_none()
        return None if row is None else StoredRound(row.round, row.head, row.settlement, row.weights, row.state)

    def signed_rounds(self, campaign: CampaignId) -> list[int]:
        """The rounds whose settlement is signed, but not known to be final."""
        where = and_(_rounds.c.campaign == campaign, _rounds.c.state == "signed")
        with self._engine.begin() as db:
            return list(db.execute(select(_rounds.c.round).where(where).order_by(_rounds.c.round)).scalars())

    def finish_round(self, campaign: CampaignId, number: int, version: Version | None) -> None:
        """Marks a settlement as final; an advancing one brings the next model version."""
        with self._engine.begin() as db:
            db.execute(update(_rounds).where(_this(_rounds, campaign, number)).values(state="final"))
            if version is not None:
                db.execute(insert(_versions).prefix_with("OR REPLACE").values(_version_row(campaign, version)))

    def unpublished(self) -> list[tuple[CampaignId, int, bytes]]:
        """The final rounds whose kept gradients wait to be published, with these gradients, sealed."""
        where = and_(_rounds.c.state == "final", _rounds.c.gradients.is_not(None))
        with self._engine.begin() as db:
            rows = db.execute(select(_rounds.c.campaign, _rounds.c.round, _rounds.c.gradients).where(where)).all()
        return [(CampaignId(row.campaign), row.round, row.gradients) for row in rows]

    def publish(self, campaign: CampaignId, number: int, artifacts: Sequence[tuple[int, Artifact]]) -> None:
        """Stores where a round's kept gradients are."""
        with self._engine.begin() as db:
            for place, artifact in artifacts:
                row = {"campaign": campaign, "round": number, "place": place, "cid": artifact.cid,
                       "digest": artifact.digest}  # fmt: skip
                db.execute(insert(_published).prefix_with("OR REPLACE").values(row))
            db.execute(update(_rounds).where(_this(_rounds, campaign, number)).values(gradients=None))

    def published(self, campaign: CampaignId, number: int) -> dict[int, Artifact]:
        """Where a round's kept gradients are, by index."""
        with self._engine.begin() as db:
            rows = db.execute(select(_published).where(_this(_published, campaign, number))).all()
        return {row.place: Artifact(Cid(row.cid), Digest(row.digest)) for row in rows}

    def counts(self) -> dict[str, int]:
        """How many campaigns run, are admitted, and how many signed settlements are not final."""
        wanted = {
            "admissions": select(func.count()).select_from(_admissions),
            "running": select(func.count()).where(_campaigns.c.state == "running"),
            "unsettled": select(func.count()).where(_rounds.c.state == "signed"),
        }
        with self._engine.begin() as db:
            return {name: db.execute(query).scalar_one() for name, query in wanted.items()}


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy's own BEGIN below, not the driver's late one
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


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
