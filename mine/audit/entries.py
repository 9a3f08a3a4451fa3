"""An entry of the audit log: a line of canonical JSON that holds the hash of the line before it (`sonar.hashchain`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from sonar import canonical
from sonar.hashchain import START, entry_hash

__all__ = ["LONGEST_LINE", "RESTARTED", "AuditEntry", "AuditHead"]

LONGEST_LINE: Final = 1 << 20
"""The most bytes that a line may have."""
RESTARTED: Final = "log restarted"
"""The kind of an entry that may be the first of a file although others were before it: its facts say where they are."""
_LABEL: Final = b"sonar mine audit entry 1\0"
_FIELDS: Final = {"sequence": int, "time": int, "kind": str, "facts": dict, "previous": str, "hash": str}


@dataclass(frozen=True, slots=True)
class AuditHead:
    """How many entries there are, and the hash of the last."""

    length: int = 0
    hash: bytes = START


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry; `time` in microseconds since 1970, `facts` canonical JSON of an object."""

    sequence: int
    time: int
    kind: str
    facts: str
    previous: bytes
    hash: bytes

    @classmethod
    def after(cls, head: AuditHead, time: float, kind: str, facts: Mapping[str, Any]) -> Self:
        """The entry that follows `head`, at a time in seconds; bytes in `facts` become hexadecimal digits with 0x."""
        text = canonical.dumps(_plain(facts)).decode()
        sequence, moment = head.length + 1, int(time * 1_000_000)
        return cls(sequence, moment, kind, text, head.hash, entry_hash(_LABEL, sequence, moment, kind, text, head.hash))

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """The entry of a line without its end; raises ValueError unless these are the bytes that `line` gives."""
        found = canonical.loads(line)
        if not isinstance(found, dict) or {name: type(value) for name, value in found.items()} != _FIELDS:
            raise ValueError(f"an entry has the fields {', '.join(_FIELDS)}, each of its type, and no others")
        entry = cls(
            found["sequence"], found["time"], found["kind"], canonical.dumps(found["facts"]).decode(),
            bytes.fromhex(found["previous"]), bytes.fromhex(found["hash"]),
        )  # fmt: skip
        if entry.line != line:
            raise ValueError("a hash is 64 small hexadecimal digits")
        return entry

    @property
    def head(self) -> AuditHead:
        """The head of a log that ends with this entry."""
        return AuditHead(self.sequence, self.hash)

    @property
    def line(self) -> bytes:
        """Its line in the file, without the line's end."""
        return canonical.dumps({
            "sequence": self.sequence, "time": self.time, "kind": self.kind,
            "facts": canonical.loads(self.facts.encode()), "previous": self.previous.hex(), "hash": self.hash.hex(),
        })  # fmt: skip

    @property
    def before(self) -> AuditHead:
        """What a file is taken to follow that begins with this entry."""
        return AuditHead(self.sequence - 1, self.previous) if self.kind == RESTARTED else AuditHead()

    def follows(self, head: AuditHead) -> None:
        """Raises ValueError, with the reason, unless this entry is whole and comes right after `head`."""
        if self.sequence != head.length + 1:
            raise ValueError(f"it holds entry {self.sequence}, where entry {head.length + 1} belongs")
        if self.previous != head.hash:
            raise ValueError(f"entry {self.sequence} does not follow the entry before it: one of the two was exchanged")
        if self.hash != entry_hash(_LABEL, self.sequence, self.time, self.kind, self.facts, self.previous):
            raise ValueError(f"entry {self.sequence} was changed: its hash is not that of its fields")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, str):  # a path may hold bytes that are no text
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_plain(name): _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
