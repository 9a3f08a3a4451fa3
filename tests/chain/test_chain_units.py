"""Amounts and addresses as people write them."""

from pathlib import Path

import pytest

from mine.errors import PolicyError
from mine.policy import Policy
from sonar.chain.bytecode import committee
from sonar.chain.client import SonarClient
from sonar.config import Network
from sonar.errors import ConfigError
from sonar.units import address_of, campaign_id_of, ether

CHECKSUMMED = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"  # an example of EIP-55
MISTYPED = CHECKSUMMED.replace("5aA", "5AA")


@pytest.mark.parametrize("amount", ["1e99999999999", "nan", "inf", "-1", "0.0000000000000000001", "x"])
def test_an_amount_that_no_account_can_hold_is_refused(amount: str) -> None:
    with pytest.raises(ConfigError, match="ether"):
        ether(amount)


@pytest.mark.parametrize(
    "text", [CHECKSUMMED, CHECKSUMMED.lower(), "0x" + CHECKSUMMED[2:].upper(), CHECKSUMMED.upper()]
)
def test_an_address_is_taken_with_a_good_checksum_or_with_none(text: str) -> None:
    assert address_of(text) == CHECKSUMMED
    assert address_of("0x" + 40 * "1") == "0x" + 40 * "1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MISTYPED, f"'{MISTYPED}' is mistyped: the checksum in its capital letters does not hold; copy it again"),
        ("0x12", "'0x12' is not an address: give 0x and 40 hexadecimal digits"),
        (bytes(20), "is not an address"),
        (None, "None is not an address"),
    ],
)
def test_an_address_that_is_none_or_mistyped_is_refused_in_one_sentence(text: object, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        address_of(text)
    assert says in str(caught.value)


def test_a_mistyped_address_is_refused_wherever_one_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is mistyped"):
        committee([CHECKSUMMED, MISTYPED], 1)
    with pytest.raises(ConfigError, match="is mistyped"):
        SonarClient.connect("http://127.0.0.1:1", MISTYPED)
    file = tmp_path / "network.json"
    file.write_text(f'{{"rpc_url": "http://127.0.0.1:1", "chain_id": 1, "store": "memory:", "contract": "{MISTYPED}"}}')
    with pytest.raises(ConfigError, match=r"contract: .*is mistyped"):
        Network.load(file)
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[accept]\nowners = ["{MISTYPED}"]')
    with pytest.raises(PolicyError, match=r"line 2: .*owners.*is mistyped"):
        Policy.load(policy)


@pytest.mark.parametrize("text", ["0x" + "a1" * 32, "a1" * 32, "A1" * 32, "0x" + "A1" * 32])
def test_a_campaigns_id_is_taken_with_0x_and_without(text: str) -> None:
    assert campaign_id_of(text) == bytes.fromhex("a1" * 32)


@pytest.mark.parametrize("text", ["", "0x", "a1" * 31, "a1 " * 32, "0x0x" + "a1" * 31, "zz" * 32, "a" * 9999, None, 12])
def test_what_is_no_campaigns_id_is_refused_with_how_one_is_written(text: object) -> None:
    with pytest.raises(ConfigError, match=r"is not a campaign's id: give 0x and its 64 hexadecimal digits") as caught:
        campaign_id_of(text)
    assert len(str(caught.value)) < 250
