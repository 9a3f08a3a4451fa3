"""Whether the oracle signed what the chain shows in its name."""

from collections.abc import Callable

from sonar.audit.report import Notes
from sonar.audit.story import Story
from sonar.chain.events import CampaignCreated
from sonar.chain.records import Settlement
from sonar.protocol.committee import verify_joined
from sonar.protocol.errors import SignatureError
from sonar.protocol.messages import hash_admission, hash_settlement, verify_admission, verify_settlement
from sonar.units import PPM, Address, format_ppm

__all__ = ["check_admission", "check_settlement"]


def check_admission(story: Story, created: CampaignCreated, notes: Notes) -> None:
    """The admission that made the campaign: its digest, its parties, its time and its signature."""
    domain, admission, place = story.domain, created.admission, "campaign"
    notes.compare("admission", place, "the id", story.campaign, hash_admission(domain, admission))
    notes.compare("admission", place, "the id that it was created with", created.id, story.campaign)
    notes.compare("admission", place, "the owner", created.owner, admission.owner)
    notes.compare("admission", place, "the oracle", created.oracle, admission.oracle)
    time = story.times[created.block]
    if time > admission.valid_until:
        notes.differs("admission", place, f"it was created at {time}, after the admission's {admission.valid_until}")
    if not admission.start_score < created.terms.target <= PPM:
        notes.differs(
            "admission", place, f"the target {format_ppm(created.terms.target)} is not between the start score "
            f"{format_ppm(admission.start_score)} and 100%"
        )  # fmt: skip
    _check(story, created.oracle, created.transaction, lambda: hash_admission(domain, admission), place, notes,
           lambda signature: verify_admission(domain, admission, signature))  # fmt: skip


def check_settlement(story: Story, settlement: Settlement, oracle: Address, transaction: bytes, notes: Notes) -> None:
    """The signature of a settlement as the events tell it, in the transaction that settled the round."""
    domain = story.domain
    _check(story, oracle, transaction, lambda: hash_settlement(domain, settlement), f"round {settlement.round}", notes,
           lambda signature: verify_settlement(domain, settlement, signature, oracle))  # fmt: skip


def _check(
    story: Story,
    oracle: Address,
    transaction: bytes,
    digest: Callable[[], bytes],
    place: str,
    notes: Notes,
    verify: Callable[[bytes], None],
) -> None:
    signature, committee = story.signatures.get(transaction), story.committee
    if signature is None:
        notes.unchecked("signature", place, f"the transaction 0x{transaction.hex()} went through another contract, so "
                        "the oracle's signature is not in its data")  # fmt: skip
        return
    try:
        if committee is None:
            verify(signature)
        else:
            verify_joined(digest(), signature, committee.members, committee.threshold)
    except SignatureError as error:
        if story.oracle_is_contract and committee is None:
            notes.unchecked("signature", place, f"the oracle {oracle} is a contract that is no CapsuleCommittee: only "
                            "it can say whose signatures it takes")  # fmt: skip
        else:
            notes.differs("signature", place, f"the oracle {oracle} did not sign what the chain shows: {error}")
    else:
        notes.holds("signature", place, f"the oracle {oracle} signed what the chain shows")
