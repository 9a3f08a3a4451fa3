"""The vault: what it seals, what it refuses, and that its bytes stay what they are."""

import copy
import json
import pickle
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule.secret import CapsuleSecretError, Record, Vault
from capsule.secret.stretching import INTERACTIVE, MODERATE, Stretched

PASSPHRASE = "correct horse"
GOLDEN = Path(__file__).parent / "golden" / "vault.json"


@pytest.fixture(scope="module")
def vault() -> Vault:
    return Vault.create(PASSPHRASE, cost=INTERACTIVE)


@pytest.fixture(scope="module")
def other() -> Vault:
    return Vault.create("another horse", cost=INTERACTIVE)


def test_another_process_opens_what_was_sealed_with_header_and_passphrase(vault: Vault) -> None:
    sealed = [vault.seal(secret, Record.WEIGHTS, b"one") for secret in (b"secret", b"")]
    again = Vault(PASSPHRASE, vault.header)
    assert [again.open(each, Record.WEIGHTS, b"one") for each in sealed] == [b"secret", b""]
    assert again.master_id == vault.master_id
    assert b"secret" not in sealed[0]


def test_the_same_secret_is_never_sealed_alike(vault: Vault) -> None:
    records = [vault.seal(b"secret", Record.AUDIT_KEY) for _ in range(100)]
    start = len(b"sonar record 2\n") + 16
    assert len({record[start:] for record in records}) == 100
    assert len({record[start : start + 24] for record in records}) == 100
    assert len({record[start + 24 : start + 72] for record in records}) == 100


def test_each_purpose_and_subject_opens_its_own_records_only(vault: Vault) -> None:
    places = [(purpose, subject) for purpose in Record for subject in (b"", b"a", b"ab", b"b")]
    records = {place: vault.seal(b"secret", *place) for place in places}
    for sealed_for, record in records.items():
        for place in places:
            if place == sealed_for:
                assert vault.open(record, *place) == b"secret"
            else:
                with pytest.raises(CapsuleSecretError, match="another record's"):
                    vault.open(record, *place)


def test_a_wrong_passphrase_is_told_from_a_damaged_header(vault: Vault) -> None:
    with pytest.raises(CapsuleSecretError, match="passphrase does not open this Capsule"):
        Vault("wrong", vault.header)
    for place in range(len(vault.header)):
        bad = bytearray(vault.header)
        bad[place] ^= 1
        with pytest.raises(CapsuleSecretError, match="header of this Capsule is damaged"):
            Vault(PASSPHRASE, bytes(bad))
    for bad_length in (vault.header[:-1], vault.header + b"\0", b"", b"sonar vault 2\n"):
        with pytest.raises(CapsuleSecretError, match="header of this Capsule is damaged"):
            Vault(PASSPHRASE, bad_length)


def test_the_vault_of_an_early_version_is_named_as_such() -> None:
    with pytest.raises(CapsuleSecretError, match="early version"):
        Vault(PASSPHRASE, b"sonar vault 1\n" + bytes(80))


def test_every_damaged_byte_of_a_record_is_noticed(vault: Vault) -> None:
    sealed = vault.seal(b"secret", Record.WEIGHTS, b"one")
    for place in range(len(sealed)):
        bad = bytearray(sealed)
        bad[place] ^= 0x80
        with pytest.raises(CapsuleSecretError, match="backup"):
            vault.open(bytes(bad), Record.WEIGHTS, b"one")
    for length in range(len(sealed)):
        with pytest.raises(CapsuleSecretError, match="backup"):
            vault.open(sealed[:length], Record.WEIGHTS, b"one")
    with pytest.raises(CapsuleSecretError, match="backup"):
        vault.open(sealed + b"\0", Record.WEIGHTS, b"one")


@settings(max_examples=300)
@given(data=st.binary(max_size=300), start=st.sampled_from([b"", b"sonar record 2\n", b"sonar vault 2\n"]))
def test_any_other_bytes_are_refused_with_the_documented_error(data: bytes, start: bytes) -> None:
    with pytest.raises(CapsuleSecretError):
        _MODULE_VAULT.open(start + data, Record.WEIGHTS)


def test_the_parts_of_two_records_do_not_open_together(vault: Vault) -> None:
    one, two = (vault.seal(secret, Record.WEIGHTS, b"one") for secret in (b"first!", b"second"))
    body = len(b"sonar record 2\n") + 16 + 72
    with pytest.raises(CapsuleSecretError, match="damaged"):
        vault.open(one[:body] + two[body:], Record.WEIGHTS, b"one")


def test_a_record_of_another_master_key_is_named_as_such(vault: Vault, other: Vault) -> None:
    with pytest.raises(CapsuleSecretError, match=f"not {vault.master_id.hex()}"):
        vault.open(other.seal(b"secret", Record.WEIGHTS), Record.WEIGHTS)


def test_a_rewrapped_record_opens_under_the_new_master_key_alone(vault: Vault, other: Vault) -> None:
    sealed = vault.seal(b"secret", Record.WEIGHTS, b"one")
    moved = vault.rewrap(sealed, other)
    assert other.open(moved, Record.WEIGHTS, b"one") == b"secret"
    with pytest.raises(CapsuleSecretError):
        vault.open(moved, Record.WEIGHTS, b"one")
    with pytest.raises(CapsuleSecretError, match="another record's"):
        other.open(moved, Record.WEIGHTS, b"two")
    body = len(b"sonar record 2\n") + 16 + 72
    assert moved[body:] == sealed[body:]


def test_two_vaults_of_one_passphrase_have_nothing_in_common(vault: Vault) -> None:
    twin = Vault.create(PASSPHRASE, cost=INTERACTIVE)
    assert twin.master_id != vault.master_id
    with pytest.raises(CapsuleSecretError):
        twin.open(vault.seal(b"secret", Record.WEIGHTS), Record.WEIGHTS)


@pytest.mark.parametrize(
    ("passes", "memory"), [(65, 1 << 20), (1, (4 << 30) + 1), (0, 1 << 20), (1, 0), ((1 << 32) - 1, (1 << 64) - 1)]
)
def test_a_header_cannot_ask_for_more_work_than_a_passphrase_needs(passes: int, memory: int) -> None:
    start = b"sonar vault 2\n" + bytes(16) + passes.to_bytes(4, "big") + memory.to_bytes(8, "big") + bytes(16)
    with pytest.raises(CapsuleSecretError, match="not stretched"):
        Vault(PASSPHRASE, start + sha256(start).digest()[:8])


def test_the_default_cost_is_three_passes_over_256_mebibytes() -> None:
    assert MODERATE == (3, 256 << 20)
    made = Vault.create(PASSPHRASE)
    assert made.header[30:42] == (3).to_bytes(4, "big") + (256 << 20).to_bytes(8, "big")


def test_empty_and_unspeakable_passphrases_are_refused_without_quoting_them(vault: Vault) -> None:
    with pytest.raises(CapsuleSecretError, match="empty"):
        Vault("", vault.header)
    with pytest.raises(CapsuleSecretError, match="not UTF-8") as caught:
        Vault.create("horse\udcff")
    assert caught.value.__cause__ is None
    assert "horse" not in str(caught.value)


def test_a_vault_never_shows_nor_travels(vault: Vault) -> None:
    for shown in (repr(vault), str(vault), f"{vault}", f"{[vault]}"):
        assert PASSPHRASE not in shown
        assert vault._wrapping.hex() not in shown
        assert repr(vault._wrapping) not in shown
    stretched = Stretched.create(PASSPHRASE, (1, 8192), magic=b"test\n")
    assert stretched._stretched.hex() not in repr(stretched)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        for secret in (vault, stretched):
            with pytest.raises(TypeError, match="not pickled or copied"):
                leak(secret)


def test_golden_records_open(subtests: pytest.Subtests) -> None:
    golden = json.loads(GOLDEN.read_text())
    vault = Vault(golden["passphrase"], bytes.fromhex(golden["header"]))
    assert vault.master_id.hex() == golden["master_id"]
    for vector in golden["records"]:
        with subtests.test(vector["comment"]):
            sealed, place = (
                bytes.fromhex(vector["record"]),
                (Record(vector["purpose"]), bytes.fromhex(vector["subject"])),
            )
            if "error" in vector:
                with pytest.raises(CapsuleSecretError, match=vector["error"]):
                    vault.open(sealed, *place)
            else:
                assert vault.open(sealed, *place).hex() == vector["secret"]


_MODULE_VAULT = Vault.create(PASSPHRASE, cost=(1, 8192))
