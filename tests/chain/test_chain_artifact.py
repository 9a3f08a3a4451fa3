"""The compiled contracts that ship are the ones in contracts/, and compiling is deterministic."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from eth_utils import keccak

from sonar.chain import compile as compiler

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "sonar" / "chain" / "data"
MAX_RUNTIME_BYTES = 24_576


@pytest.fixture(params=compiler.SHIPPED)
def shipped(request):
    """The file of each contract that ships."""
    return DATA / f"{request.param}.json"


@pytest.fixture
def copy(tmp_path):
    """The sources in another directory."""
    shutil.copytree(ROOT / "contracts", tmp_path / "contracts")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    return tmp_path


def creation_hash(name: str) -> str:
    """The Keccak-256 of a contract's creation code."""
    return "0x" + keccak(hexstr=json.loads((DATA / f"{name}.json").read_text())["bytecode"]).hex()


def test_the_sources_compile_to_the_shipped_contract_wherever_they_are(copy):
    # The smaller of the two: the script, in the next test, compiles both.
    compiled = compiler.compile_contract(copy, "CapsuleCommittee")
    assert compiler.dump_artifact(compiled) == (DATA / "CapsuleCommittee.json").read_text(), "run scripts/compile"


def test_the_script_says_that_the_shipped_contracts_are_fresh():
    script = subprocess.run([sys.executable, ROOT / "scripts" / "compile", "--check"], capture_output=True, text=True)
    said = [f"sonar/chain/data/{name}.json is fresh, creation code {creation_hash(name)}" for name in compiler.SHIPPED]
    assert (script.returncode, script.stderr.splitlines()) == (0, said)


def test_a_compiler_built_for_another_platform_makes_the_same_artifact(tmp_path, monkeypatch):
    # The native compiler's banner names another platform than that of npm's.
    solc = tmp_path / "solc-v0.8.37"
    banner = r"solc, the solidity compiler commandline interface\nVersion: 0.8.37+commit.f401782d.Linux.g++\n"
    other = f'[ "$1" = --version ] && printf "{banner}" && exit\nexec "{ROOT}/scripts/solc-node" "$@"\n'
    solc.write_text(f"#!/bin/sh\n{other}")
    solc.chmod(0o755)
    monkeypatch.setenv("SOLCX_BINARY_PATH", str(tmp_path))
    assert compiler._compiler(ROOT) == solc
    compiled = compiler.compile_contract(ROOT, "CapsuleCommittee")
    assert compiler.dump_artifact(compiled) == (DATA / "CapsuleCommittee.json").read_text()


def test_what_is_asked_of_the_compiler_does_not_change_what_the_sources_are_known_by():
    file = "contracts/CapsuleCommittee.sol"
    (shipped,) = compiler.compile_file(ROOT, file).values()
    assert shipped == json.loads((DATA / "CapsuleCommittee.json").read_text())
    changed = compiler._request(ROOT, file, {})
    changed["settings"]["optimizer"]["runs"] += 1
    assert compiler._digest(changed) != compiler._digest(compiler._request(ROOT, file, {})) == shipped["sourceSha256"]


NAMED = """\
// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity 0.8.37;

abstract contract Base {{
    uint256 private immutable {inherited} = block.number;

    function one() external view returns (uint256) {{
        return {inherited};
    }}
}}

contract Named is Base {{
    uint256 private immutable own = block.timestamp;

    function two() external view returns (uint256) {{
        return own;
    }}
}}
"""


def test_immutables_are_known_by_name(copy):
    (copy / "contracts" / "Named.sol").write_text(NAMED.format(inherited="inherited"))
    references = compiler.compile_contract(copy, "Named")["immutableReferences"]
    lengths = {name: [place["length"] for place in places] for name, places in references.items()}
    assert lengths == {"inherited": [32], "own": [32]}


def test_immutables_that_cannot_be_told_apart_are_refused(copy):
    (copy / "contracts" / "Named.sol").write_text(NAMED.format(inherited="own"))
    with pytest.raises(compiler.CompileError, match="Named has two immutables of one name"):
        compiler.compile_contract(copy, "Named")


def test_a_source_that_does_not_compile_is_a_clear_error(copy):
    (copy / "contracts" / "Sonar.sol").write_text("pragma solidity 0.8.37; contract")
    with pytest.raises(compiler.CompileError, match="does not compile: ParserError"):
        compiler.compile_contract(copy, "Sonar")


def test_a_missing_library_is_a_clear_error(copy):
    (copy / "node_modules").unlink()
    with pytest.raises(compiler.CompileError, match="run `npm ci`"):
        compiler.compile_contract(copy, "Sonar")


def test_the_contract_fits_the_chains_size_limit(shipped):
    code = json.loads(shipped.read_text())["deployedBytecode"]
    assert len(bytes.fromhex(code.removeprefix("0x"))) <= MAX_RUNTIME_BYTES


def test_nothing_in_the_shipped_contract_names_a_directory_of_this_machine(shipped):
    assert str(ROOT) not in shipped.read_text()


@pytest.mark.parametrize("contract", compiler.SHIPPED)
def test_every_library_file_comes_from_npm(contract):
    names = [name for name in compiler.sources(ROOT, f"contracts/{contract}.sol") if not name.startswith("contracts/")]
    assert names
    assert all(name.startswith("@openzeppelin/contracts/") for name in names)
