"""One rule's word on one campaign."""

from dataclasses import dataclass
from typing import Self

__all__ = ["Finding", "many"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a rule agrees, and the short sentence that says why; `passing`: a refusal that may end by itself.

    `hint` says what would change that: a setting, a command, or what is waited for; empty where nothing is to be said.
    """

    rule: str
    ok: bool
    sentence: str
    hint: str = ""
    passing: bool = False

    @classmethod
    def yes(cls, rule: str, sentence: str) -> Self:
        """The rule agrees."""
        return cls(rule, True, sentence)

    @classmethod
    def no(cls, rule: str, sentence: str, hint: str = "") -> Self:
        """The rule refuses, until the campaign, the data or the policy changes."""
        return cls(rule, False, sentence, hint)

    @classmethod
    def later(cls, rule: str, sentence: str, hint: str = "") -> Self:
        """The rule refuses for now."""
        return cls(rule, False, sentence, hint, passing=True)

    @property
    def text(self) -> str:
        """The sentence with its hint, for one line."""
        return f"{self.sentence}: {self.hint}" if self.hint else self.sentence


def many(count: int, one: str, several: str = "") -> str:
    """A number of things: 1 record, 2 records; `several` where they are not called with an s at the end."""
    return f"{count} {one if count == 1 else several or one + 's'}"
