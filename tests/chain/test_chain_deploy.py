"""What is deployed is proved to the last byte: the code, its immutables, and the constructor that made it."""

from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak, to_checksum_address
from hexbytes import HexBytes
from rlp import encode

from sonar.chain.bytecode import SONAR, committee
from sonar.chain.deploy import deploy, verify_deployment
from sonar.chain.errors import WrongChainError
from sonar.errors import ConfigError
from sonar.units import Address

MEMBERS = [Account.create().address for _ in range(3)]
PANEL = committee(MEMBERS, 2)


def put(web3, account, data: bytes) -> tuple[Address, bytes]:
    """Deploys from any creation code: the contract's address, and the transaction."""
    fields = {"nonce": web3.eth.get_transaction_count(account.address), "chainId": web3.eth.chain_id, "value": 0}
    signed = account.sign_transaction({**fields, "gas": 6_000_000, "gasPrice": 10**10, "data": data})
    receipt = web3.eth.wait_for_transaction_receipt(web3.eth.send_raw_transaction(signed.raw_transaction))
    assert receipt["status"] == 1
    return Address(receipt["contractAddress"]), bytes(signed.hash)


def returning(code: bytes, before: bytes = b"") -> bytes:
    """Creation code that runs `before` and leaves `code`."""
    size, start = len(code).to_bytes(2, "big"), (len(before) + 15).to_bytes(2, "big")
    # PUSH2 size, PUSH2 start, PUSH1 0, CODECOPY; PUSH2 size, PUSH1 0, RETURN
    return before + b"\x61" + size + b"\x61" + start + b"\x60\x00\x39" + b"\x61" + size + b"\x60\x00\xf3" + code


def next_address(web3, account) -> Address:
    """Where the account's next transaction would put a contract."""
    sent = web3.eth.get_transaction_count(account.address)
    return Address(to_checksum_address(keccak(encode([bytes.fromhex(account.address[2:]), sent]))[12:]))


@pytest.mark.parametrize("blueprint", [SONAR, PANEL], ids=lambda blueprint: blueprint.contract)
def test_a_deployment_is_this_package_to_the_last_byte(chain_web3, new_account, blueprint):
    done = deploy(chain_web3, new_account(), blueprint)
    found = bytes(chain_web3.eth.get_code(done.address))
    assert found == blueprint.runtime_code(done.chain_id, done.address)
    verify_deployment(chain_web3, done.address, blueprint, transaction=done.transaction)


def test_one_changed_byte_is_named_wherever_it_is(chain_web3, deployed):
    code = SONAR.runtime_code(deployed.chain_id, deployed.address)
    for index in (0, len(code) // 2, len(code) - 1):
        changed = bytearray(code)
        changed[index] ^= 1
        assert SONAR.difference(bytes(changed), deployed.chain_id, deployed.address) == (
            f"byte {index} is 0x{changed[index]:02x} instead of 0x{code[index]:02x}"
        )
    assert SONAR.difference(code[:-1], deployed.chain_id, deployed.address) == (
        f"it has {len(code) - 1} bytes instead of {len(code)}"
    )


def test_a_byte_changed_on_the_chain_is_refused(chain_web3, new_account):
    account = new_account()
    code = bytearray(SONAR.runtime_code(chain_web3.eth.chain_id, next_address(chain_web3, account)))
    code[1000] ^= 0x80
    address, _ = put(chain_web3, account, returning(bytes(code)))
    with pytest.raises(WrongChainError, match="not this version's Sonar contract: byte 1000 is 0x"):
        verify_deployment(chain_web3, address)


@pytest.mark.parametrize(("chain_id", "immutable"), [(1, "_cachedChainId"), (None, "_cachedDomainSeparator")])
def test_the_code_of_another_chain_or_address_is_refused_by_the_immutables_name(chain_web3, new_account, chain_id,
                                                                                 immutable):  # fmt: skip
    account = new_account()
    here = next_address(chain_web3, account) if chain_id else Address(Account.create().address)
    address, _ = put(chain_web3, account, returning(SONAR.runtime_code(chain_id or chain_web3.eth.chain_id, here)))
    with pytest.raises(WrongChainError, match=rf"its immutable {immutable} is 0x[0-9a-f]{{64}} instead of 0x"):
        verify_deployment(chain_web3, address)


def test_every_immutable_is_compared(deployed):
    code = SONAR.runtime_code(deployed.chain_id, deployed.address)
    compared = 0
    for name in SONAR._immutables(deployed.chain_id, deployed.address):
        for place in SONAR._places(name):
            for index in (place.start, place.stop - 1):
                changed = bytearray(code)
                changed[index] ^= 1
                said = SONAR.difference(bytes(changed), deployed.chain_id, deployed.address)
                assert said is not None
                assert said.startswith(f"its immutable {name} is 0x")
                compared += 1
    assert compared == 14


def test_a_constructor_that_writes_what_nobody_sees_is_refused(chain_web3, new_account):
    # SSTORE(1, 1) before the code of the contract itself: as well it could have been somebody's credit.
    account = new_account()
    code = SONAR.runtime_code(chain_web3.eth.chain_id, next_address(chain_web3, account))
    address, transaction = put(chain_web3, account, returning(code, before=bytes.fromhex("6001600155")))
    assert bytes(chain_web3.eth.get_storage_at(address, 1))[-1] == 1
    verify_deployment(chain_web3, address)
    with pytest.raises(WrongChainError, match="its storage may hold anything: do not use it"):
        verify_deployment(chain_web3, address, transaction=transaction)


def test_the_transaction_of_another_deployment_proves_nothing(chain_web3, deployed, new_account):
    other = deploy(chain_web3, new_account())
    with pytest.raises(WrongChainError, match=f"did not deploy {deployed.address}"):
        verify_deployment(chain_web3, deployed.address, transaction=other.transaction)
    with pytest.raises(WrongChainError, match="is not on this chain"):
        verify_deployment(chain_web3, deployed.address, transaction=bytes(32))


def test_a_committee_of_another_threshold_or_other_members_is_refused(chain_web3, new_account):
    done = deploy(chain_web3, new_account(), PANEL)
    with pytest.raises(WrongChainError, match=r"its immutable threshold is 0x0+2 instead of 0x0+3"):
        verify_deployment(chain_web3, done.address, replace(PANEL, threshold=3))
    with pytest.raises(WrongChainError, match="has other members: 0x"):
        verify_deployment(chain_web3, done.address, committee([*MEMBERS[:2], Account.create().address], 2))
    with pytest.raises(WrongChainError, match="not this version's Sonar contract: it has"):
        verify_deployment(chain_web3, done.address)


def test_a_committee_that_would_not_be_deployed_is_refused_before_it_is_paid_for():
    for members, threshold, said in (
        ([], 1, "1 to 32 members, not 0"),
        ([Account.create().address for _ in range(33)], 1, "1 to 32 members, not 33"),
        ([*MEMBERS, MEMBERS[0].lower()], 2, "twice"),
        (["0x" + 40 * "0"], 1, "zero address"),
        (["capsule"], 1, "'capsule' is not an address"),
        (MEMBERS, 0, "is 1 to 3, not 0"),
        (MEMBERS, 4, "is 1 to 3, not 4"),
    ):
        with pytest.raises(ConfigError, match=said):
            committee(members, threshold)
    assert committee(list(reversed(MEMBERS)), 2) == PANEL


def test_the_separator_in_the_code_is_the_one_that_messages_are_signed_with(deployed):
    message = encode_typed_data(
        {"name": "Sonar", "version": "1", "chainId": deployed.chain_id, "verifyingContract": deployed.address},
        {"Nothing": []}, {},
    )  # fmt: skip
    assert SONAR._immutables(deployed.chain_id, deployed.address)["_cachedDomainSeparator"] == HexBytes(message.header)
