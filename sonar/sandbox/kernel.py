"""What Linux can forbid a process, for good and without privileges: the network, other processes, files, root's rights.

Mechanisms of the kernel, called without a library, since none is needed for a few numbers:

    seccomp    seccomp(2), filter mode: system calls that make a socket, or look into another process, fail with EPERM
    Landlock   landlock(7): nothing is opened but below the paths that are named, and those for reading only

A process that must reach a server takes two steps, since no kernel tells a filter to whom a socket connects: before it
connects it is left nothing but that (`Dialling`), and once it has, it forbids the network altogether and keeps the one
connection that it made.

Both hold for all threads that come later and everything that they start, and nothing takes them back. Landlock is asked
for while there is one thread; a filter is put on all threads that there are. Where a kernel has one of them not, or
another system runs, that is answered in words, for the log and whoever asks how the process is kept.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Dialling", "drop_capabilities", "forbid_files", "forbid_network"]

_PR_SET_NO_NEW_PRIVS: Final = 38
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAP_DAC_READ_SEARCH: Final = 1 << 2
_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_FILTER_FLAG_TSYNC: Final = 1
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EPERM
_LOAD, _EQUALS, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
"""Instructions of the classic Berkeley packet filter: load a word, compare it with a constant, mask it, and answer."""
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Where struct seccomp_data has them; each argument has 8 bytes, the low ones first."""
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_SOCK_STREAM, _SOCK_KIND, _IPPROTO_TCP = 1, 0xF, 6
_TO: Final = 4
"""The argument of sendto(2) that names a receiver; none on a connection."""
_X32: Final = 0x40000000
"""Numbers from here on are x86-64's second table of the same calls."""

_CALLS: Final[dict[str, tuple[int, dict[str, int]]]] = {
    "x86_64": (0xC000003E, {
        "socket": 41, "connect": 42, "sendto": 44, "sendmsg": 46, "bind": 49, "listen": 50, "socketpair": 53,
        "sendmmsg": 307, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "bpf": 321,
        "userfaultfd": 323, "shmget": 29, "shmat": 30, "semget": 64, "msgget": 68, "mq_open": 240, "add_key": 248,
        "request_key": 249, "keyctl": 250, "perf_event_open": 298, "name_to_handle_at": 303, "open_by_handle_at": 304,
        "io_uring_setup": 425, "pidfd_open": 434, "pidfd_getfd": 438,
    }),
    "aarch64": (0xC00000B7, {
        "socket": 198, "socketpair": 199, "bind": 200, "listen": 201, "connect": 203, "sendto": 206, "sendmsg": 211,
        "sendmmsg": 269, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "bpf": 280,
        "userfaultfd": 282, "shmget": 194, "shmat": 196, "semget": 190, "msgget": 186, "mq_open": 180, "add_key": 217,
        "request_key": 218, "keyctl": 219, "perf_event_open": 241, "name_to_handle_at": 264, "open_by_handle_at": 265,
        "io_uring_setup": 425, "pidfd_open": 434, "pidfd_getfd": 438,
    }),
}  # fmt: skip
"""The architecture's number in struct seccomp_data, and the calls that are refused: what makes sockets, also through
io_uring, what reads or steals from other processes, and what processes of one user share: memory and queues of System
V, and keyrings; and files by handles, which have no path."""
_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The same numbers on all architectures."""
_RULE_PATH_BENEATH, _RULE_NET_PORT = 1, 2
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_ALL_FILE_RIGHTS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""The rights that an ABI version knows; later versions know no more of files."""
_CONNECT_TCP, _BIND_TCP = 1 << 1, 1 << 0
_SCOPES: Final = 0b11
"""Abstract Unix sockets and signals to processes outside."""


def drop_capabilities() -> None:
    """Gives up all that root may do beyond other users, but for reading others' files; raises OSError.

    What the kernel is told here holds for root as well, but for what root could change about the kernel.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None, use_errno=True)
    asked = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    held = ctypes.create_string_buffer(24)
    if library.capget(asked, held) == 0:
        _, permitted, *_ = struct.unpack("=6I", held.raw)
        kept = permitted & _CAP_DAC_READ_SEARCH
        if library.capset(asked, struct.pack("=6I", kept, kept, 0, 0, 0, 0)) == 0:
            return
    raise OSError(ctypes.get_errno(), "capabilities cannot be given up")


@dataclass(frozen=True, slots=True)
class Dialling:
    """What may be connected to: a server by TCP, one by a Unix socket, or either."""

    tcp: bool
    unix: bool


def forbid_network(dialling: Dialling | None = None, *, connected: bool = False) -> str | None:
    """Takes away sockets and other processes' memory from this process; None when done, else why it cannot be.

    With `dialling` such sockets may still be made and connected, and with `connected` what is connected is still
    written to. Neither lets anything be sent to a receiver that is named with the message: that would be UDP, or TCP
    past the rules for ports (MSG_FASTOPEN).
    """
    if sys.platform != "linux":
        return f"{sys.platform} has no seccomp"
    machine = platform.machine()
    if machine not in _CALLS:
        return f"the numbers of system calls on {machine} are not known here"
    architecture, calls = _CALLS[machine]
    program = _filter(architecture, calls, dialling, connected=connected)
    code = ctypes.create_string_buffer(program, len(program))
    whole = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    if (refusal := _no_new_privileges()) is not None:
        return refusal
    failed = _call(_SECCOMP[machine], _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, whole)
    return None if failed == 0 else f"the kernel takes no filter ({os.strerror(ctypes.get_errno())})"


def forbid_files(
    readable: Iterable[Path], ports: Iterable[int] | None = None, *, listed: Iterable[Path] = ()
) -> str | None:
    """Lets this process open nothing but what is at or below `readable`, to read; None when done, else why not.

    At and below `listed` folders may be listed, and nothing read. Paths that do not exist are left out. With `ports`,
    TCP connections to those ports only may be made, where the kernel knows ports (Landlock ABI 4). Device files
    that programs expect (/dev/null, /dev/urandom) stay open to them.
    """
    if sys.platform != "linux":
        return f"{sys.platform} has no Landlock"
    version = _call(_CREATE_RULESET, 0, 0, 1)
    if version < 1:
        return f"this kernel has no Landlock, or it is switched off ({os.strerror(ctypes.get_errno())})"
    files = _ALL_FILE_RIGHTS[min(version, max(_ALL_FILE_RIGHTS))] & ~_EXECUTE
    network = _CONNECT_TCP | _BIND_TCP if version >= 4 and ports is not None else 0
    scopes = _SCOPES if version >= 6 else 0
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _call(_CREATE_RULESET, struct.pack("=QQQ", files, network, scopes)[:size], size, 0)
    if ruleset < 0:
        return f"Landlock takes no rules ({os.strerror(ctypes.get_errno())})"
    try:
        for path in readable:
            _allow_path(ruleset, path, _READ_FILE | _READ_DIR)
        for path in listed:
            _allow_path(ruleset, path, _READ_DIR)
        for device in ("null", "zero", "urandom", "random"):
            _allow_path(ruleset, Path("/dev") / device, _READ_FILE | _WRITE_FILE)
        for port in ports or () if network else ():
            _call(_ADD_RULE, ruleset, _RULE_NET_PORT, struct.pack("=QQ", _CONNECT_TCP, port), 0)
        refusal = _no_new_privileges()
        if refusal is None and _call(_RESTRICT_SELF, ruleset, 0) != 0:
            refusal = f"Landlock does not restrict this process ({os.strerror(ctypes.get_errno())})"
        return refusal
    finally:
        os.close(ruleset)


def _filter(architecture: int, calls: Mapping[str, int], dialling: Dialling | None, *, connected: bool) -> bytes:
    """A filter that refuses `calls`, every call of another architecture, and those of x32; allows the rest.

    Each call has a block of its own, which is passed over where the number is another: so every jump is short.
    """
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUALS, 1, 0, architecture),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _REFUSE),
    ]
    for name, number in sorted(calls.items(), key=lambda call: call[1]):
        block = _block(name, dialling, connected=connected)
        steps += [(_EQUALS, 0, len(block), number), *block]
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


_Steps = list[tuple[int, int, int, int]]


def _block(name: str, dialling: Dialling | None, *, connected: bool) -> _Steps:
    """What is answered to a call; every block ends with an answer."""
    if name == "connect" and dialling is not None:
        return [(_RETURN, 0, 0, _ALLOW)]
    if name == "socket" and dialling is not None:
        return _stream_socket(dialling)
    if name == "sendto" and (dialling is not None or connected):
        return [
            *(step for half in (0, 4) for step in (
                (_LOAD, 0, 0, _ARGUMENTS + 8 * _TO + half), (_EQUALS, 1, 0, 0), (_RETURN, 0, 0, _REFUSE),
            )),
            (_RETURN, 0, 0, _ALLOW),
        ]  # fmt: skip
    return [(_RETURN, 0, 0, _REFUSE)]


def _stream_socket(dialling: Dialling) -> _Steps:
    """Stream sockets of the families alone, and of protocols that the rules for ports hold for (not of MPTCP, say)."""
    families = [*([_AF_INET, _AF_INET6] if dialling.tcp else []), *([_AF_UNIX] if dialling.unix else [])]
    return [
        (_LOAD, 0, 0, _ARGUMENTS),
        *((_EQUALS, len(families) - at, 0, family) for at, family in enumerate(families)),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _ARGUMENTS + 8),
        (_AND, 0, 0, _SOCK_KIND),
        (_EQUALS, 1, 0, _SOCK_STREAM),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _ARGUMENTS + 16),
        (_EQUALS, 2, 0, 0),
        (_EQUALS, 1, 0, _IPPROTO_TCP),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _allow_path(ruleset: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not path.is_dir():
            rights &= ~_READ_DIR
        if _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, place), 0) != 0:
            raise OSError(ctypes.get_errno(), "Landlock takes no rule for it", str(path))
    finally:
        os.close(place)


def _no_new_privileges() -> str | None:
    """What starts with a filter must not gain rights by it: the kernel wants this first."""
    return _prctl(_PR_SET_NO_NEW_PRIVS, 1, None)


def _prctl(option: int, value: int, argument: bytes | None) -> str | None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, ctypes.c_ulong(value), argument, ctypes.c_ulong(0), ctypes.c_ulong(0)) == 0:
        return None
    return f"the kernel refuses it ({os.strerror(ctypes.get_errno())})"


def _call(number: int, *arguments: int | bytes) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return int(library.syscall(ctypes.c_long(number), *(
        ctypes.c_long(one) if isinstance(one, int) else one for one in arguments
    )))  # fmt: skip
