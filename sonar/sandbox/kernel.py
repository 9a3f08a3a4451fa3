"""What Linux can forbid a process, for good and without privileges: the network, other processes, and files.

Two mechanisms of the kernel, called without a library, since none is needed for a few numbers:

    seccomp    seccomp(2), filter mode: system calls that make a socket, or look into another process, fail with EPERM
    Landlock   landlock(7): nothing is opened but below the paths that are named, and those for reading only

Both hold for all threads that come later and everything that they start, and nothing takes them back. So they are asked
for while there is one thread. Where a kernel has one of them not, or another system runs, that is answered in words,
for the log and whoever asks how the process is kept.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["forbid_files", "forbid_network"]

_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EPERM
_LOAD, _EQUALS, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
"""Instructions of the classic Berkeley packet filter: of a word, two comparisons with a constant, and the verdict."""
_NUMBER, _ARCHITECTURE = 0, 4
"""Where struct seccomp_data has them."""
_X32: Final = 0x40000000
"""Numbers from here on are x86-64's second table of the same calls."""

_CALLS: Final[dict[str, tuple[int, dict[str, int]]]] = {
    "x86_64": (0xC000003E, {
        "socket": 41, "connect": 42, "sendto": 44, "sendmsg": 46, "bind": 49, "listen": 50, "socketpair": 53,
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "bpf": 321, "userfaultfd": 323,
        "io_uring_setup": 425, "pidfd_open": 434, "pidfd_getfd": 438,
    }),
    "aarch64": (0xC00000B7, {
        "socket": 198, "socketpair": 199, "bind": 200, "listen": 201, "connect": 203, "sendto": 206, "sendmsg": 211,
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "bpf": 280, "userfaultfd": 282,
        "io_uring_setup": 425, "pidfd_open": 434, "pidfd_getfd": 438,
    }),
}  # fmt: skip
"""The architecture's number in struct seccomp_data, and the calls that are refused: what makes sockets, also through
io_uring, and what reads or steals from other processes."""

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The same numbers on all architectures."""
_RULE_PATH_BENEATH, _RULE_NET_PORT = 1, 2
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_ALL_FILE_RIGHTS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""The rights that an ABI version knows; later versions know no more of files."""
_CONNECT_TCP, _BIND_TCP = 1 << 1, 1 << 0
_SCOPES: Final = 0b11
"""Abstract Unix sockets and signals to processes outside."""


def forbid_network() -> str | None:
    """Takes away sockets and other processes' memory from this process; None when done, else why it cannot be."""
    if sys.platform != "linux":
        return f"{sys.platform} has no seccomp"
    machine = platform.machine()
    if machine not in _CALLS:
        return f"the numbers of system calls on {machine} are not known here"
    architecture, calls = _CALLS[machine]
    program = _filter(architecture, sorted(calls.values()))
    code = ctypes.create_string_buffer(program, len(program))
    whole = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    return _no_new_privileges() or _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, whole)


def forbid_files(readable: Iterable[Path], ports: Iterable[int] | None = None) -> str | None:
    """Lets this process open nothing but what is at or below `readable`, to read; None when done, else why not.

    Paths that do not exist are left out. With `ports`, TCP connections to those ports only may be made. Device files
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


def _filter(architecture: int, numbers: list[int]) -> bytes:
    """A filter that refuses `numbers`, every call of another architecture, and those of x32; allows the rest."""
    count = len(numbers)
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUALS, 1, 0, architecture),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, count + 1, 0, _X32),
        *((_EQUALS, count - at, 0, number) for at, number in enumerate(numbers)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


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
