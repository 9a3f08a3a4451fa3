"""Listening: the socket, its URL, and why nothing can listen at an address and a port, by the setting that is wrong."""

import errno
import socket
from typing import Final

from capsule.errors import CapsuleHomeError

__all__ = ["cannot_listen", "listen", "url"]

_BACKLOG: Final = 2048
"""uvicorn's own."""
_OF_THE_PORT: Final = (errno.EADDRINUSE, errno.EACCES)
"""What another port may mend. For anything else the address is none of this machine's."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there, 0 at any free port; raises CapsuleHomeError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)  # bound alone, the port is still another's to take
    except (OSError, UnicodeError) as error:
        listener.close()
        raise cannot_listen(error, host, port, "--host", "--port") from error
    return listener


def cannot_listen(
    error: OSError | UnicodeError, host: str, port: int, host_setting: str, port_setting: str
) -> CapsuleHomeError:
    """The error for what the system refused, with the setting that is to be changed."""
    # A name may be so odd that it cannot even be looked up.
    why = error.strerror if isinstance(error, OSError) else "no host has such a name"
    setting = port_setting if isinstance(error, OSError) and error.errno in _OF_THE_PORT else host_setting
    return CapsuleHomeError(f"cannot listen on {host}:{port}: {why}; choose another {setting}")


def url(host: str, port: int) -> str:
    """The URL of what listens there."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
