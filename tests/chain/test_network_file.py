"""The network file: what is told of one that is wrong, in words for whoever wrote it."""

import json
from pathlib import Path

import pytest

from sonar.config import Network
from sonar.errors import ConfigError

WHOLE = {
    "rpc_url": "http://127.0.0.1:8545",
    "chain_id": 1,
    "contract": "0x" + "11" * 20,
    "store": "directory:/srv/sonar",
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"store": "ipfs"}, "store: write it like directory:/srv/sonar, kubo:http://127.0.0.1:5001 or memory:"),
        ({"rpc_url": "127.0.0.1:8545"}, "rpc_url: write it like http://127.0.0.1:8545"),
        ({"capsule": "0x12"}, "capsule: write it like 0x and 40 hexadecimal digits"),
        ({"contrac": "0x12"}, "contrac: there is no such field"),
        ({"chain_id": "1"}, "chain_id: must be a whole number"),
        ({"chain_id": 0}, "chain_id: must be at least 1"),
        ({"store": None}, "store: must be text"),
    ],
)
def test_a_wrong_field_is_told_with_how_it_is_written(tmp_path: Path, change: dict[str, object], told: str) -> None:
    file = tmp_path / "network.json"
    file.write_text(json.dumps(WHOLE | change))
    with pytest.raises(ConfigError) as caught:
        Network.load(file)
    assert str(caught.value) == f"the network file {file} is not valid: {told}"


def test_a_file_that_is_empty_or_missing_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    with pytest.raises(ConfigError, match="empty is not valid: file: is not JSON: "):
        Network.load(tmp_path / "empty")
    with pytest.raises(ConfigError, match="--network or SONAR_NETWORK"):
        Network.load(tmp_path / "none")
