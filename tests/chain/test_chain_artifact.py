"""The compiled contracts that ship are the ones in contracts/, and compiling is deterministic."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_the_sources_compile_to_the_shipped_contract_wherever_they_are(copy, shipped):
    compiled = compiler.compile_contract(copy, shipped.stem)
    assert compiler.dump_artifact(compiled) == shipped.read_text(), "run scripts/compile"


def test_the_script_says_that_the_shipped_contracts_are_fresh():
    script = subprocess.run([sys.executable, ROOT / "scripts" / "compile", "--check"], capture_output=True, text=True)
    said = [f"sonar/chain/data/{name}.json is fresh" for name in compiler.SHIPPED]
    assert (script.returncode, script.stderr.splitlines()) == (0, said)


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
    names = [name for name in compiler.sources(ROOT, contract) if not name.startswith("contracts/")]
    assert names
    assert all(name.startswith("@openzeppelin/contracts/") for name in names)
