"""From the text in a network file to a content store."""

from sonar.errors import ConfigError
from sonar.storage.base import ContentStore

__all__ = ["open_store"]


def open_store(url: str, *, timeout: float = 30.0) -> ContentStore:
    """The store of `directory:PATH`, `kubo:http://HOST:PORT` or `memory:` (a new, empty one).

    `timeout` is how many seconds one `put` or `get` may take where a network is in between. Opening reaches out to
    nothing. Raises ConfigError for any other text.
    """
    kind, _, place = url.partition(":")
    if url == "memory:":
        from sonar.storage.memory import MemoryStore

        return MemoryStore()
    if kind == "directory" and place:
        from sonar.storage.directory import DirectoryStore

        return DirectoryStore(place)
    if kind == "kubo" and place:
        from sonar.storage.kubo import KuboStore

        return KuboStore(place, timeout=timeout)
    raise ConfigError(f"{url!r} is not a content store: write directory:PATH, kubo:http://HOST:PORT or memory:")
