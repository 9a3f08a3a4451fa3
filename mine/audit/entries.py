"""An entry of the audit log: a line of canonical JSON that holds the hash of the line before it (`sonar.hashchain`).

Anybody can check the chain of hashes. That this mine's ledger wrote an entry shows in its seal, HMAC-SHA256 of its hash
under a key of the ledger's: who can write the file and not read the ledger can cut it, but add nothing to it.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from sonar import canonical
from sonar.hashchain import START, entry_hash

__all__ = ["KEY_BYTES", "LONGEST_LINE", "RESTARTED", "AuditEntry", "AuditHead"]

KEY_BYTES: Final = 32
"""The length of the key of seals."""
LONGEST_LINE: Final = 1 << 20
"""The most bytes that a line may have."""
RESTARTED: Final = "log restarted"
"""The kind of an entry that may be the first of a file although others were before it: its facts say where they are."""
_LABEL: Final = b"sonar mine audit entry 1\0"
_SEAL_LABEL: Final = b"sonar mine audit seal 1\0"
_FIELDS: Final = {"sequence": int, "time": int, "kind": str, "facts": dict, "previous": str, "hash": str,
                  "seal": str}  # fmt: skip


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
    seal: bytes

    @classmethod
    def after(cls, head: AuditHead, time: float, kind: str, facts: Mapping[str, Any], key: bytes) -> Self:
        """The entry that follows `head`, at a time in seconds, sealed under `key`.

        Bytes in `facts` become hexadecimal digits with 0x.
        """
        text = canonical.dumps(_plain(facts)).decode()
        sequence, moment = head.length + 1, int(time * 1_000_000)
        found = entry_hash(_LABEL, sequence, moment, kind, text, head.hash)
        return cls(sequence, moment, kind, text, head.hash, found, _seal(found, key))

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """The entry of a line without its end; raises ValueError unless these are the bytes that `line` gives."""
        found = canonical.loads(line)
        if not isinstance(found, dict) or {name: type(value) for name, value in found.items()} != _FIELDS:
            raise ValueError(f"an entry has the fields {', '.join(_FIELDS)}, each of its type, and no others")
        entry = cls(
            found["sequence"], found["time"], found["kind"], canonical.dumps(found["facts"]).decode(),
            bytes.fromhex(found["previous"]), bytes.fromhex(found["hash"]), bytes.fromhex(found["seal"]),
        )  # fmt: skip
        if entry.line != line:
            raise ValueError("hashes and seals are 64 small hexadecimal digits")
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
            "seal": self.seal.hex(),
        })  # fmt: skip

    @property
    def before(self) -> AuditHead:
        """What a file is taken to follow that begins with this entry."""
        return AuditHead(self.sequence - 1, self.previous) if self.kind == RESTARTED else AuditHead()

    @property
    def unwritten(self) -> "tuple[AuditEntry, ...]":
        """The entries that the log before never got, which the entry of a restart holds; none of any other.

        Raises ValueError where what it holds is none.
        """
        if self.kind != RESTARTED:
            return ()
        lines = canonical.loads(self.facts.encode()).get("unwritten", [])
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise ValueError("what a log before never got is a list of its lines")
        return tuple(AuditEntry.parse(line.encode()) for line in lines)

    def comes_after(self, head: AuditHead) -> bool:
        """Whether it says that it comes right after `head`."""
        return (self.sequence - 1, self.previous) == (head.length, head.hash)

    def follows(self, head: AuditHead) -> None:
        """Raises ValueError, with the reason, unless this entry is whole and comes right after `head`."""
        if self.sequence != head.length + 1:
            raise ValueError(f"it holds entry {self.sequence}, where entry {head.length + 1} belongs")
        if self.previous != head.hash:
            raise ValueError(f"entry {self.sequence} does not follow the entry before it: one of the two was exchanged")
        if self.hash != entry_hash(_LABEL, self.sequence, self.time, self.kind, self.facts, self.previous):
            raise ValueError(f"entry {self.sequence} was changed: its hash is not that of its fields")

    def sealed_by(self, key: bytes) -> None:
        """Raises ValueError unless this entry was written under the key."""
        if not hmac.compare_digest(self.seal, _seal(self.hash, key)):
            raise ValueError(f"entry {self.sequence} was not written by this mine's ledger: its seal is another one")


def _seal(found: bytes, key: bytes) -> bytes:
    return hmac.digest(key, _SEAL_LABEL + found, "sha256")


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
