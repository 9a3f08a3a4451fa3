"""From the ledger's rows to values and back."""

import json
import sqlite3

from mine.records import KnownCampaign, State, Submission
from sonar.chain.records import Admission, Status, Verdict
from sonar.storage import Artifact
from sonar.units import Address, CampaignId, Cid, Digest, KeyId, Ppm, Wei

__all__ = ["campaign_of", "dump_admission", "submission_of"]


def campaign_of(row: sqlite3.Row) -> KnownCampaign:
    """A row of `campaigns`."""
    admission = _load_admission(row["admission"])
    return KnownCampaign(
        id=CampaignId(row["id"]),
        owner=Address(row["owner"]),
        token=Address(row["token"]),
        admission=admission,
        transaction=row["created"],
        block=row["block"],
        spec=Artifact(Cid(row["spec_cid"]), admission.spec),
        model=Artifact(Cid(row["model_cid"]), Digest(row["model"])),
        key=KeyId(row["key"]),
        version=row["version"],
        round=row["round"],
        score=Ppm(row["score"]),
        status=Status(row["status"]),
    )


def submission_of(row: sqlite3.Row) -> Submission:
    """A row of `submissions`."""

    def wei(name: str) -> Wei | None:
        return None if row[name] is None else Wei(int(row[name]))

    return Submission(
        campaign=CampaignId(row["campaign"]),
        round=row["round"],
        state=State(row["state"]),
        version=row["version"],
        dataset=row["dataset"],
        artifact=Artifact(Cid(row["cid"]), Digest(row["artifact"])),
        gradient=Digest(row["gradient"]),
        bond=Wei(int(row["bond"])),
        hash=row["hash"],
        index=row["position"],
        verdict=None if row["verdict"] is None else Verdict(row["verdict"]),
        share=None if row["share"] is None else Ppm(row["share"]),
        payout=wei("payout"),
        bond_returned=wei("bond_returned"),
        note=row["note"],
        rules=row["rules"],
    )


def dump_admission(admission: Admission) -> str:
    """An admission as text."""
    return json.dumps(
        {name: value.hex() if isinstance(value, bytes) else value for name, value in admission.to_message().items()}
    )


def _load_admission(text: str) -> Admission:
    fields = json.loads(text)
    return Admission(
        spec=Digest(bytes.fromhex(fields["spec"])),
        model=Digest(bytes.fromhex(fields["model"])),
        key=KeyId(bytes.fromhex(fields["key"])),
        sealing_key=bytes.fromhex(fields["sealingKey"]),
        start_score=Ppm(fields["startScore"]),
        oracle=Address(fields["oracle"]),
        owner=Address(fields["owner"]),
        valid_until=fields["validUntil"],
    )
