"""One rule's word on one campaign."""

from dataclasses import dataclass
from typing import Self

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a rule agrees, and the sentence that says why; `passing`: a refusal that may end by itself."""

    rule: str
    ok: bool
    sentence: str
    passing: bool = False

    @classmethod
    def yes(cls, rule: str, sentence: str) -> Self:
        """The rule agrees."""
        return cls(rule, True, sentence)

    @classmethod
    def no(cls, rule: str, sentence: str) -> Self:
        """The rule refuses, until the campaign, the data or the policy changes."""
        return cls(rule, False, sentence)

    @classmethod
    def later(cls, rule: str, sentence: str) -> Self:
        """The rule refuses for now."""
        return cls(rule, False, sentence, passing=True)
