"""Whether an admission stands in the database as this Capsule signed it, before anything is judged by it."""

from capsule.errors import CapsuleError
from capsule.state import StoredAdmission
from sonar.protocol.errors import SignatureError
from sonar.protocol.messages import Domain, hash_admission
from sonar.units import digest_of

__all__ = ["check_admitted"]


def check_admitted(domain: Domain, stored: StoredAdmission) -> None:
    """Raises CapsuleError unless spec and admission are those that the campaign's id on chain is made of.

    Whoever writes to the database could have rounds judged by another spec otherwise. The validation set is sealed for
    the campaign, and needs no check.
    """
    try:
        is_signed = hash_admission(domain, stored.admission) == stored.campaign
    except SignatureError:  # a row may hold what no admission can
        is_signed = False
    if is_signed and digest_of(stored.spec) == stored.admission.spec:
        return
    raise CapsuleError(
        f"the admission of campaign 0x{stored.campaign.hex()} is not in the database as it was signed: run capsule "
        "audit verify, and restore a backup"
    )
