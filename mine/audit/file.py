"""The audit log's file: lines that are only ever appended, under a lock, and on the disk when `append` returns.

A power cut can leave a part of the last line, which is cut off and written again. All else that is not as it was
written is an error: nobody but the mine writes here.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from mine.audit.entries import LONGEST_LINE, AuditEntry, AuditHead
from mine.errors import AuditError, UnreadableLogError

__all__ = ["AuditFile"]

_BLOCK = 1 << 16


class AuditFile:
    """The file at `path`, which need not exist yet; what is read must be sealed under `key`."""

    def __init__(self, path: Path, key: bytes) -> None:
        self.path = path
        self._key = key

    def __repr__(self) -> str:
        return f"AuditFile({str(self.path)!r})"

    def append(self, entries: Sequence[AuditEntry]) -> bool:
        """Writes the entries that are not in the file yet, in order; whether it had to mend a torn last line.

        Raises AuditError if they do not follow what the file ends with.
        """
        with self._locked() as descriptor:
            size = os.fstat(descriptor).st_size
            end, last = _end_of(descriptor, size, self.path)
            if end < size:
                os.ftruncate(descriptor, end)
            head = AuditHead() if last is None else last.head
            new = [entry for entry in entries if entry.sequence > head.length]
            known = entries[: len(entries) - len(new)]
            if known and not self._holds(known[-1], head):
                raise AuditError(f"{self.path} holds another entry {known[-1].sequence} than the mine wrote: {_VERIFY}")
            if last is None and new:
                head = new[0].before
            for entry in new:
                try:
                    entry.follows(head)
                except ValueError:
                    raise AuditError(
                        f"{self.path} ends with entry {head.length}, and the mine's next one is {entry.sequence}: it "
                        f"was cut, exchanged or put back; {_VERIFY}"
                    ) from None
                head = entry.head
            _write(descriptor, end, b"".join(entry.line + b"\n" for entry in new))
            return end < size

    def _holds(self, entry: AuditEntry, head: AuditHead) -> bool:
        """Whether the file, which ends with `head`, has this entry; nearly always it is the last one."""
        if entry.sequence == head.length:
            return entry.hash == head.hash
        return any(found.head == entry.head for found in self.entries())

    def move_away(self) -> Path | None:
        """Renames the file, so that the next entry begins another one; its new name, None where there is no file."""
        names = (self.path.with_name(f"{self.path.stem}.{number}{self.path.suffix}") for number in count(1))
        aside = next(name for name in names if not name.exists())
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AuditError(f"the audit log {self.path} cannot be renamed: {error.strerror}") from error
        return aside

    def head(self) -> AuditHead:
        """What the file ends with, a torn last line left aside; raises AuditError where that is no entry of ours."""
        try:
            with self.path.open("rb") as file:
                _, last = _end_of(file.fileno(), os.fstat(file.fileno()).st_size, self.path)
        except FileNotFoundError:
            return AuditHead()
        except OSError as error:
            raise _unreadable(self.path, error) from error
        if last is None:
            return AuditHead()
        try:
            last.sealed_by(self._key)
        except ValueError as error:
            raise AuditError(f"{self.path} ends with a line that others wrote ({error}): {_VERIFY}") from error
        return last.head

    def entries(self) -> Iterator[AuditEntry]:
        """All entries in order, each sealed and right after the one before; else AuditError with the first line.

        A part of a last line, which a power cut or another process that is just writing can leave, is left aside. A log
        that was restarted begins with the entry that says so.
        """
        return _entries(self.path, self._key)

    def newer(self, known: AuditHead) -> list[AuditEntry]:
        """Reads the whole log; its entries after `known`, none where it ends with that. Raises AuditError otherwise."""
        head, newer = AuditHead(), list[AuditEntry]()
        for entry in self.entries():
            head = entry.head
            if newer or entry.comes_after(known):
                newer.append(entry)
        if head != known and not newer:
            raise AuditError(
                f"the audit log {self.path} does not end with entry {known.length}, as it was left, but with "
                f"{head.length}: {_VERIFY}"
            )
        return newer

    def salvage(self, known: AuditHead) -> list[AuditEntry]:
        """Entries later than `known`, of logs that were moved away before as well: what cannot be mended still tells.

        Each file counts up to its first line that differs. Beside a ledger that never wrote an entry, a new one, they
        need no seal of ours: the owner says what they are. Raises AuditError for a file that cannot be read now.
        """
        key = None if known == AuditHead() else self._key
        salvaged, last = list[AuditEntry](), known.length
        for path in (*self._moved_away(), self.path):
            try:
                for entry in (told for line in _entries(path, key) for told in (*line.unwritten, line)):
                    if entry.sequence > last:
                        salvaged.append(entry)
                        last = entry.sequence
            except UnreadableLogError:
                raise
            except (AuditError, ValueError):
                continue
        return salvaged

    def _moved_away(self) -> list[Path]:
        """What `move_away` has named so, the oldest first."""
        name = re.compile(rf"{re.escape(self.path.stem)}\.([0-9]+){re.escape(self.path.suffix)}")
        found = [(int(match[1]), path) for path in self.path.parent.iterdir() if (match := name.fullmatch(path.name))]
        return [path for _, path in sorted(found)]

    def verify(self, expected: AuditHead | None = None, *, noted: bytes | None = None) -> AuditHead:
        """Reads the whole log; the head of one in which everything holds. Raises AuditError otherwise.

        `expected` is what the mine's ledger says that the log ends with, `noted` the hash of an entry that somebody
        noted before.
        """
        lines, head, found = 0, AuditHead(), noted is None
        place = 0 if expected == AuditHead() else None
        for lines, entry in enumerate(self.entries(), start=1):
            head = entry.head
            found = found or head.hash == noted
            place = lines if head == expected else place
        if expected is not None and head != expected:
            raise _other_end(expected, head, lines, place)
        if not found:
            assert noted is not None
            raise AuditError(
                f"the noted entry 0x{noted.hex()} is not among the {head.length} of {self.path}: it was made anew"
            )
        return head

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The open file, made if it is missing, for one process at a time."""
        made = not self.path.exists()
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise AuditError(f"the audit log {self.path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if made:
                _sync_directory(self.path.parent)
            yield descriptor
        except OSError as error:
            raise AuditError(f"the audit log {self.path} cannot be written: {error.strerror}") from error
        finally:
            os.close(descriptor)


_VERIFY = "`mine audit verify` finds the first line that differs"


def _entries(path: Path, key: bytes | None) -> Iterator[AuditEntry]:
    """The entries of a file, each right after the one before, and sealed under `key` where one is given."""
    head = AuditHead()
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
                if not line.endswith(b"\n"):
                    if len(line) > LONGEST_LINE:
                        raise AuditError(_differs(number, f"it has more than {LONGEST_LINE} bytes"), line=number)
                    return
                entry = _checked(line, number, None if number == 1 else head, key)
                head = entry.head
                yield entry
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UnreadableLogError:
    return UnreadableLogError(
        f"the audit log {path} cannot be read: {error.strerror}; mend that, or move it away to go on without it"
    )


def _checked(line: bytes, number: int, head: AuditHead | None, key: bytes | None) -> AuditEntry:
    try:
        entry = AuditEntry.parse(line[:-1])
        entry.follows(entry.before if head is None else head)
        if key is not None:
            entry.sealed_by(key)
    except (ValueError, RecursionError) as error:
        raise AuditError(_differs(number, str(error)), line=number) from error
    return entry


def _differs(line: int, reason: str) -> str:
    return f"line {line} of the audit log is not as the mine wrote it: {reason}"


def _other_end(expected: AuditHead, head: AuditHead, lines: int, place: int | None) -> AuditError:
    """What to say of a log that holds, but has another end than the ledger's, which is in line `place` if at all."""
    if place is not None:
        line, said = place + 1, (
            f"the mine's ledger knows {expected.length} entries only: an older copy of it was put back"
        )  # fmt: skip
    elif head.length < expected.length:
        line, said = lines + 1, f"the file ends there, but entries up to {expected.length} were written: it was cut"
    else:
        line = lines - (head.length - expected.length)
        said = f"the mine's ledger knows another entry {expected.length}: the log was made anew"
    return AuditError(_differs(line, said), line=line)


def _end_of(descriptor: int, size: int, path: Path) -> tuple[int, AuditEntry | None]:
    """Where the last whole line ends, and its entry; (0, None) where there is none."""
    tail, start, newline = b"", size, -1
    while start > 0:
        step = min(_BLOCK, start)
        start -= step
        tail = os.pread(descriptor, step, start) + tail
        newline = tail.rfind(b"\n")
        before = tail.rfind(b"\n", 0, max(newline, 0))
        if newline >= 0 and (before >= 0 or start == 0):
            break
        if len(tail) > 2 * LONGEST_LINE:
            raise AuditError(f"{path} ends with more than {2 * LONGEST_LINE} bytes that are no entry: {_VERIFY}")
    if newline < 0:
        return 0, None
    try:
        return start + newline + 1, AuditEntry.parse(tail[tail.rfind(b"\n", 0, newline) + 1 : newline])
    except (ValueError, RecursionError) as error:
        raise AuditError(f"{path} ends with a line that is no entry: {_VERIFY}") from error


def _write(descriptor: int, position: int, data: bytes) -> None:
    while data:
        written = os.pwrite(descriptor, data, position)
        data, position = data[written:], position + written
    os.fsync(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
