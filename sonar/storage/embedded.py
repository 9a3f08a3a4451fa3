"""An IPFS node inside this process: the Kubo library with deadlines, limits and a repository that keeps to itself."""

import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil

from sonar.storage._flights import Flights, FlightsFullError, InterruptedFlightError
from sonar.storage._libkubo import DESTINATION_IN_THE_WAY, LibKubo
from sonar.storage.cids import RAW_BLOCK, downgraded_cid, raw_cid
from sonar.storage.errors import ArtifactNotFoundError, StorageError, StoreUnavailableError
from sonar.units import Cid

__all__ = ["EmbeddedNode"]

_LOG = logging.getLogger(__name__)
_ORIGINAL = "config.original"
_BY_DIGEST = "by-digest"
_MOST_CALLS = 32
_MEMORY = 1 << 30
_WATCH_SECONDS = 0.25
_CLEANUP_SECONDS = 5.0
_LOOK_SECONDS = 5.0
_RECONNECT_SECONDS = 0.5


class EmbeddedNode:
    """The one IPFS node of this process, which must not fork any more.

    It changes the working directory to `repo`, where the library leaves its log. Unless `public`, it listens on the
    loopback device only, knows no public peers, announces nothing and asks no router. `memory` is how much a run of
    downloads may take, in bytes, before all are cut off: the library reads a whole artifact into memory.
    """

    def __init__(self, repo: Path, *, public: bool = False, swarm_port: int = 0, memory: int = _MEMORY) -> None:
        self.repo = repo.expanduser().absolute()
        self._kubo = LibKubo(self.repo)
        self._lifecycle = threading.RLock()
        self._changed = threading.Condition(self._lifecycle)
        self._wanted: dict[str, str] = {}  # peer id: address
        self._generation = 0
        self._cuts = 0
        self._closed = False
        self._flights = Flights(_MOST_CALLS, release=_release, interrupt=self._restart)
        self._prepare(public, swarm_port)
        self._kubo.run()
        for leftover in (*self.repo.glob("cat.*"), *self.repo.glob("add.*")):  # of a process that was killed
            leftover.unlink()
        self.peer_id = self._kubo.peer_id()
        threading.Thread(target=self._watch_memory, args=(memory,), name="ipfs-memory", daemon=True).start()

    def addresses(self) -> list[str]:
        """Where other nodes reach this one, with its peer id."""
        return [f"{address}/p2p/{self.peer_id}" for address in self._short(self._kubo.addresses)]

    def add(self, file: Path) -> str:
        """Adds and pins a file's content; returns its CIDv0. A small one is then found by its raw CID, too."""
        cid = str(self._short(self._kubo.add, file))
        self._note_digest(file, cid)
        return cid

    @contextmanager
    def content(self, cid: str, timeout: float) -> Iterator[IO[bytes]]:
        """The content as a file to be read by position, because others may read it as well.

        Raises ArtifactNotFoundError when no node had it in time, StoreUnavailableError for a directory.
        """
        cid = self._by_digest(cid)
        with self._waiting("cat", cid, lambda: self._download(cid), timeout) as file:
            if isinstance(file, int):
                raise StoreUnavailableError(f"{cid} cannot be read: the library answered {file}")
            yield file

    def pin(self, cid: str, timeout: float) -> None:
        """Fetches and keeps the content; raises like `content`."""
        with self._waiting("pin", cid, lambda: self._kubo.pin(cid), timeout) as code:
            if code != 0:
                raise StoreUnavailableError(f"{cid} cannot be pinned: the library answered {code}")

    def unpin(self, cid: Cid) -> None:
        """Stops keeping the content; raises ArtifactNotFoundError if it was not pinned."""
        # Pins are kept by the text: those of `add` by version 0, those of `pin` by the version given.
        names = [cid, downgraded_cid(cid) or cid]
        codes = [self._short(self._kubo.unpin, each) for each in names]
        if 0 not in codes:
            raise ArtifactNotFoundError(f"{cid} is not pinned on this node")

    def connect(self, address: str, timeout: float) -> None:
        """Connects to another node, and again whenever the connection is lost; raises StoreUnavailableError."""
        with self._waiting("connect", address, lambda: self._kubo.connect(address), timeout) as code:
            if code != 0:
                raise StoreUnavailableError(f"no node answers at {address}: is it running, with this peer id?")
        peer = address.rpartition("/")[2]
        with self._lifecycle:
            known = peer in self._wanted
            self._wanted[peer] = address
            if not known:
                threading.Thread(target=self._keep_connected, args=(peer,), name="ipfs-peer", daemon=True).start()

    def peers(self) -> list[str]:
        """The addresses of the nodes that this one is connected to."""
        return list(self._short(self._kubo.peers))

    def close(self) -> None:
        """Stops the node; whoever still waits for content gets an error."""
        with self._lifecycle:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            cleanup = threading.Thread(target=self._kubo.cleanup, name="ipfs-cleanup", daemon=True)
            cleanup.start()
            cleanup.join(_CLEANUP_SECONDS)  # the process can end without it

    def _prepare(self, public: bool, swarm_port: int) -> None:
        try:
            self.repo.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.repo / _BY_DIGEST).mkdir(exist_ok=True)
            os.chdir(self.repo)
            if not (self.repo / "config").exists():
                self._kubo.create()
            if not (self.repo / _ORIGINAL).exists():
                shutil.copy(self.repo / "config", self.repo / _ORIGINAL)
            _configure(self.repo, public, swarm_port)
            log = self.repo / "kubo.log"
            if not log.is_symlink():  # the library logs every call, without end
                log.unlink(missing_ok=True)
                log.symlink_to(os.devnull)
        except OSError as error:
            raise StoreUnavailableError(f"the IPFS repository {self.repo} cannot be prepared: {error}") from error

    def _note_digest(self, file: Path, cid: str) -> None:
        # The library makes no raw blocks, of which Kubo's have the content's own SHA-256 in their CIDs.
        if file.is_file() and file.stat().st_size <= RAW_BLOCK:
            descriptor, part = tempfile.mkstemp(prefix="add.", dir=self.repo)
            with os.fdopen(descriptor, "w") as written:
                written.write(cid)
                written.flush()
                os.fsync(descriptor)
            Path(part).replace(self.repo / _BY_DIGEST / raw_cid(file.read_bytes()))

    def _by_digest(self, cid: str) -> str:
        try:
            return (self.repo / _BY_DIGEST / cid).read_text()
        except FileNotFoundError:
            return cid

    def _short(self, call: Any, *arguments: Any) -> Any:
        # After the cleanup the library would start a second node for a late call.
        with self._lifecycle:
            self._check_open()
            return call(*arguments)

    @contextmanager
    def _waiting(self, kind: str, subject: str, call: Any, timeout: float) -> Iterator[Any]:
        deadline = time.monotonic() + timeout
        try:
            with self._flights.join((kind, subject), lambda: self._surviving(call, deadline), timeout) as result:
                yield result
        except TimeoutError as error:
            raise ArtifactNotFoundError(f"{subject} was not found within {timeout:g} s: deadline exceeded") from error
        except FlightsFullError as error:
            raise StoreUnavailableError(f"{_MOST_CALLS} requests are waiting already: try again later") from error
        except InterruptedFlightError as error:
            raise StoreUnavailableError(f"the request for {subject} was interrupted: try again") from error

    def _surviving(self, call: Any, deadline: float) -> Any:
        while True:
            with self._lifecycle:
                self._check_open()
                generation, cuts = self._generation, self._cuts
            result = call()
            with self._lifecycle:
                undisturbed = generation == self._generation and not self._closed
            if undisturbed or result == 0 or not isinstance(result, int):
                return result
            if cuts != self._cuts or time.monotonic() > deadline:  # too large, or nobody waits for it any more
                raise InterruptedFlightError

    def _download(self, cid: str) -> Any:
        # The file must exist: the library then refuses directories, whose entries choose their own names.
        descriptor, name = tempfile.mkstemp(prefix="cat.", dir=self.repo)
        try:
            code = self._kubo.download(cid, Path(name))
            if code == 0:
                result: IO[bytes] = os.fdopen(os.dup(descriptor), "rb")
                return result
            if code == DESTINATION_IN_THE_WAY:
                raise StoreUnavailableError(f"{cid} is a directory: this dag node is not a file")
            return code
        finally:
            os.close(descriptor)
            Path(name).unlink()

    def _restart(self) -> None:
        with self._lifecycle:
            self._check_open()
            _LOG.warning("the IPFS node starts anew to be rid of requests that nobody can answer")
            self._generation += 1
            self._kubo.cleanup()
            self._kubo.run()
            self._changed.notify_all()

    def _keep_connected(self, peer: str) -> None:
        # One attempt is not enough: after a restart the other side may still be closing the old connection.
        while True:
            with self._changed:
                if self._closed:
                    return
                if peer in self._connected():
                    self._changed.wait(_LOOK_SECONDS)
                    continue
                address = self._wanted[peer]
            if self._kubo.connect(address) != 0:
                with self._changed:
                    self._changed.wait(_RECONNECT_SECONDS)

    def _connected(self) -> set[str]:
        try:
            return {each.rpartition("/")[2] for each in self._kubo.peers()}
        except StoreUnavailableError:  # a restart has failed
            return set()

    def _watch_memory(self, allowance: int) -> None:
        process, pause = psutil.Process(), threading.Event()
        usual = ceiling = process.memory_info().rss + allowance
        while not self._closed and not pause.wait(_WATCH_SECONDS):
            used = process.memory_info().rss
            if used > ceiling:
                ceiling = used + allowance  # freed memory goes back to the system only after a while
                self._cuts += 1
                try:
                    self._restart()
                except StorageError as error:
                    _LOG.warning("%s", error)
            elif used < usual:
                ceiling = usual

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the IPFS node is shutting down")


def _configure(repo: Path, public: bool, swarm_port: int) -> None:
    config = json.loads((repo / _ORIGINAL).read_bytes())
    if not public:
        config["Bootstrap"] = []
        config["Addresses"] |= {"Swarm": [f"/ip4/127.0.0.1/tcp/{swarm_port}"], "Announce": [], "AppendAnnounce": []}
        config["Discovery"]["MDNS"]["Enabled"] = False
        config["Routing"]["Type"] = "none"
        config["AutoNAT"]["ServiceMode"] = "disabled"
        config["Swarm"] |= {
            "DisableNatPortMap": True,
            "RelayClient": {"Enabled": False},
            "RelayService": {"Enabled": False},
        }
    part = repo / "config.part"
    part.write_text(json.dumps(config, indent=2))
    part.chmod(0o600)  # it holds the node's private key
    part.replace(repo / "config")


def _release(result: Any) -> None:
    if hasattr(result, "close"):
        result.close()
