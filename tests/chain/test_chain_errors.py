"""Contract errors as sentences, from every node's way of answering."""

from pathlib import Path

import pytest
from eth_abi import abi as codec
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st
from web3.exceptions import ContractCustomError, ContractLogicError, Web3RPCError

from sonar.chain import errors
from sonar.chain._artifact import arguments_type, artifact, decode_revert
from sonar.chain._rpc import _revert_data
from sonar.chain.errors import ChainError, ContractRevertError, TransactionFailedError

_ENTRIES = (*artifact("Sonar")["abi"], *artifact("CapsuleCommittee")["abi"])
ERRORS = [entry for entry in _ENTRIES if entry["type"] == "error"]
EXAMPLES = {"address": "0x" + "11" * 20, "bytes32": b"\x22" * 32, "string": "text", "bool": True}


def revert_bytes(entry: dict) -> bytes:
    kinds = arguments_type(entry)
    values = [EXAMPLES.get(kind, 1) for kind in kinds]
    return keccak(text=f"{entry['name']}({','.join(kinds)})")[:4] + codec.encode(kinds, values)


@pytest.mark.parametrize("entry", ERRORS, ids=lambda entry: entry["name"])
def test_every_error_of_the_contract_decodes_and_has_a_sentence(entry):
    error = decode_revert(revert_bytes(entry))
    assert error.name == entry["name"]
    assert list(error.arguments) == [item["name"] for item in entry["inputs"]]
    assert "?" not in str(error)
    assert "\n" not in str(error)
    if entry["name"].startswith(("Sonar_", "CapsuleCommittee_")):
        assert entry["name"] not in str(error), "give it a sentence in sonar.chain.errors"


def test_no_sentence_is_for_an_error_that_does_not_exist():
    names = {entry["name"] for entry in ERRORS} | {"Error", "Panic"}
    assert set(errors._SENTENCES) <= names


def test_ratios_times_and_states_are_written_for_people():
    score = ContractRevertError("Sonar_ScoreOutOfRange", {"score": 505_000, "current": 500_000, "minGain": 10_000})
    assert str(score).startswith(
        "score 50.50% does not fit the present 50.00%: an advancing round rises by at least 1.00%"
    )
    late = ContractRevertError("Sonar_DeadlinePassed", {"id": b"\1" * 32, "deadline": 0, "time": 2**62})
    assert "ended at 1970-01-01 00:00:00 UTC and it is 4611686018427387904" in str(late)
    status = ContractRevertError("Sonar_WrongStatus", {"id": b"\1" * 32, "status": 3})
    assert str(status) == f"campaign 0x{'01' * 32} is closed, which does not allow this"


def test_reasons_and_panics_of_solidity_decode():
    reason = decode_revert(keccak(text="Error(string)")[:4] + codec.encode(["string"], ["not today"]))
    assert str(reason) == "the contract refused the call: not today"
    panic = decode_revert(keccak(text="Panic(uint256)")[:4] + codec.encode(["uint256"], [17]))
    assert (panic.name, panic.arguments) == ("Panic", {"code": 17})


def test_bytes_that_no_known_error_wrote_are_shown():
    assert (
        str(decode_revert(b"\xde\xad\xbe\xef\x01"))
        == "the contract refused the call: no reason given (data 0xdeadbeef01)"
    )
    assert str(decode_revert(b"")) == "the contract refused the call: no reason given"


@given(st.binary(max_size=200), st.sampled_from(ERRORS))
def test_any_bytes_decode_to_some_revert(data, entry):
    head = keccak(text=f"{entry['name']}({','.join(arguments_type(entry))})")[:4]
    for attempt in (data, head + data):
        assert isinstance(decode_revert(attempt), ContractRevertError)


def test_the_revert_bytes_are_found_where_each_node_puts_them():
    data = "0x" + "ab" * 36
    ganache = ContractLogicError("execution reverted", data={"hash": None, "result": data, "reason": None})
    nested = Web3RPCError("reverted", rpc_response={"error": {"code": 3, "message": "m", "data": {"data": data}}})
    for error in (ContractCustomError(data, data=data), ganache, nested):
        assert _revert_data(error) == bytes.fromhex(data[2:])
    for text in ("0xabc", "Reverted", None):
        assert _revert_data(ContractLogicError("execution reverted", data=text)) is None


def test_a_reason_that_a_stranger_wrote_is_short_and_steers_no_terminal():
    head = keccak(text="Error(string)")[:4]
    error = decode_revert(head + codec.encode(["string"], ["\x1b[2J\nAll is well" + "!" * 10_000]))
    assert str(error).isprintable()
    assert str(error).startswith("the contract refused the call: \N{REPLACEMENT CHARACTER}[2J")
    assert len(str(error)) < 300
    assert error.arguments["reason"].startswith("\x1b"), "the evidence is as it was given"


def test_every_chain_error_ends_a_command_with_four():
    assert issubclass(ContractRevertError, TransactionFailedError)
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), ChainError)
        assert getattr(errors, name).exit_code == 4


@pytest.mark.parametrize(("contract", "interface"), [("Sonar", "ISonar"), ("CapsuleCommittee", "ICapsuleCommittee")])
def test_the_interface_declares_the_errors_that_the_artifact_has(contract, interface):
    source = (Path(__file__).parents[2] / "contracts" / "interfaces" / f"{interface}.sol").read_text()
    own = [e["name"] for e in artifact(contract)["abi"] if e["type"] == "error" and e["name"].startswith(contract)]
    assert own
    for name in own:
        assert f"error {name}(" in source
