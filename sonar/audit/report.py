"""What an audit found: one sentence for each thing that was checked, and whether it holds."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sonar.errors import printable
from sonar.units import Address, CampaignId

__all__ = ["Finding", "Notes", "Report", "Verdict"]


class Verdict(StrEnum):
    """Whether what was found is what was computed; `UNCHECKED`: something that it takes is not to be had.

    >>> [verdict.value for verdict in Verdict]
    ['holds', 'differs', 'unchecked']
    """

    HOLDS = "holds"
    DIFFERS = "differs"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked: `check` is its stable name, `place` the round or gradient, `sentence` for people.

    >>> print(Finding("payout", "round 2, gradient 0", Verdict.DIFFERS, "the payout is 3 wei, but must be 2"))
    differs   round 2, gradient 0: the payout is 3 wei, but must be 2
    """

    check: str
    place: str
    verdict: Verdict
    sentence: str

    def __str__(self) -> str:
        return f"{self.verdict:<9} {self.place}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Report:
    """All findings on a campaign, in the order of its life, the last block that was looked at, and who judged.

    That `oracle` signed is what an audit shows; whether it is one to be believed is for the reader.

    >>> held = Finding("conservation", "campaign", Verdict.HOLDS, "the bounty is paid, or there, or returned")
    >>> lost = Finding("gradient", "round 1, gradient 0", Verdict.UNCHECKED, "the store does not have it")
    >>> report = Report(CampaignId(bytes(32)), 80, (held, lost))
    >>> report.differences, len(report.unchecked), report.exit_code
    ((), 1, 11)
    """

    campaign: CampaignId
    block: int
    findings: tuple[Finding, ...]
    oracle: Address | None = None

    def of(self, verdict: Verdict) -> tuple[Finding, ...]:
        """The findings of one verdict."""
        return tuple(finding for finding in self.findings if finding.verdict is verdict)

    @property
    def differences(self) -> tuple[Finding, ...]:
        """What is not as it must be."""
        return self.of(Verdict.DIFFERS)

    @property
    def unchecked(self) -> tuple[Finding, ...]:
        """What could not be checked."""
        return self.of(Verdict.UNCHECKED)

    @property
    def exit_code(self) -> int:
        """0 where all holds, 1 where something differs, 11 where nothing does but not all could be checked."""
        if self.differences:
            return 1
        return 11 if self.unchecked else 0

    def stranger_to(self, capsule: str | None) -> str | None:
        """What to say where the oracle is not the Capsule (or committee) that a network names; None where it is."""
        if self.oracle is None or capsule is None or self.oracle.lower() == capsule.lower():
            return None
        return (
            f"the oracle {self.oracle} is not the Capsule that the network file names, {capsule}: whatever it signed "
            "holds, so ask whose it is"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "campaign": "0x" + self.campaign.hex(),
            "block": self.block,
            "oracle": self.oracle,
            **{verdict.value: len(self.of(verdict)) for verdict in Verdict},
            "findings": [
                {"check": one.check, "place": one.place, "verdict": one.verdict.value, "sentence": one.sentence}
                for one in self.findings
            ],
        }

    def lines(self, *, everything: bool = False) -> Iterable[str]:
        """The report for people: what differs and what is unchecked, with `everything` also what holds."""
        for finding in self.findings:
            if everything or finding.verdict is not Verdict.HOLDS:
                yield str(finding)
        checked = len(self.of(Verdict.HOLDS))
        counts = f"{checked} checks hold, {len(self.differences)} differ, {len(self.unchecked)} could not be made"
        judged = "" if self.oracle is None else f", judged by {self.oracle}"
        yield f"campaign 0x{self.campaign.hex()} at block {self.block}{judged}: {counts}"

    def __str__(self) -> str:
        return "\n".join(self.lines())


@dataclass(slots=True)
class Notes:
    """Where the parts of an audit write down what they find."""

    findings: list[Finding] = field(default_factory=list)

    def holds(self, check: str, place: str, sentence: str) -> None:
        """It is as it must be."""
        self._add(check, place, Verdict.HOLDS, sentence)

    def differs(self, check: str, place: str, sentence: str) -> None:
        """It is not as it must be."""
        self._add(check, place, Verdict.DIFFERS, sentence)

    def unchecked(self, check: str, place: str, sentence: str) -> None:
        """Something that the check takes is not to be had."""
        self._add(check, place, Verdict.UNCHECKED, sentence)

    def compare(self, check: str, place: str, what: str, found: object, computed: object) -> bool:
        """Whether what the chain or store has is what was computed; either way it is written down."""
        if found == computed:
            self.holds(check, place, f"{what} is {_shown(computed)}")
            return True
        self.differs(check, place, f"{what} is {_shown(found)}, but must be {_shown(computed)}")
        return False

    def require(self, check: str, place: str, fine: bool, sentence: str, otherwise: str) -> bool:
        """Whether something holds: `sentence` if it does, else `otherwise`."""
        (self.holds if fine else self.differs)(check, place, sentence if fine else otherwise)
        return fine

    def _add(self, check: str, place: str, verdict: Verdict, sentence: str) -> None:
        # Parts of it are strangers' text.
        self.findings.append(Finding(check, place, verdict, printable(sentence, longest=600)))


def _shown(value: object) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
