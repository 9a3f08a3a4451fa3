"""The code that ships: what it is able to do at all, whatever it is told."""

import json
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "sonar" / "chain" / "data"
SHIPPED = ["Sonar", "CapsuleCommittee"]
CHANGES_STATE = {
    "Sonar": {
        "acceptCampaign", "close", "createCampaign", "expireRound", "settleRound", "submitGradient", "topUp",
        "transferCampaign", "withdraw",
    },
    "CapsuleCommittee": set(),
}  # fmt: skip
PUSH1, PUSH32 = 0x60, 0x7F
CALL, CALLCODE, DELEGATECALL, STATICCALL, SELFDESTRUCT = 0xF1, 0xF2, 0xF4, 0xFA, 0xFF
CREATE, CREATE2 = 0xF0, 0xF5


def shipped(contract):
    return json.loads((DATA / f"{contract}.json").read_text())


def opcodes(code):
    """The instructions of a contract without what they push."""
    found, place = set(), 0
    while place < len(code):
        found.add(code[place])
        place += 1 + (code[place] - PUSH1 + 1 if PUSH1 <= code[place] <= PUSH32 else 0)
    return found


# R908
@pytest.mark.parametrize("contract", SHIPPED)
def test_it_fits_the_size_limit_of_a_chain(contract):
    assert len(shipped(contract)["deployedBytecode"].removeprefix("0x")) // 2 <= 24_576


# R904
@pytest.mark.parametrize("contract", SHIPPED)
def test_it_has_no_instruction_to_run_others_code_in_its_place_to_make_contracts_or_to_destroy_itself(contract):
    code = bytes.fromhex(shipped(contract)["deployedBytecode"].removeprefix("0x"))
    assert opcodes(code) & {CALLCODE, DELEGATECALL, SELFDESTRUCT, CREATE, CREATE2} == set()


# R1002, R1004
def test_a_committee_calls_nobody_but_the_curves_precompile():
    code = bytes.fromhex(shipped("CapsuleCommittee")["deployedBytecode"].removeprefix("0x"))
    assert opcodes(code) & {CALL, STATICCALL} == {STATICCALL}


# R904, R1002
@pytest.mark.parametrize("contract", SHIPPED)
def test_nothing_but_the_specified_functions_changes_state(contract):
    functions = [entry for entry in shipped(contract)["abi"] if entry["type"] in ("function", "fallback", "receive")]
    changing = {
        entry.get("name", entry["type"]) for entry in functions if entry["stateMutability"] not in ("view", "pure")
    }
    assert changing == CHANGES_STATE[contract]
