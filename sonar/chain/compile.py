"""Compiles the contract into the package data that every other module reads; for developers only.

The same sources always give the same bytes: the compiler is pinned, the sources are named by their place below the
repository's root, and no metadata hash is appended to the bytecode.
"""

import json
import re
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Any

from sonar import canonical
from sonar.chain.errors import ChainError

__all__ = ["CompileError", "compile_sonar", "dump_artifact", "sources"]

SOLC_VERSION = "0.8.37"
EVM_VERSION = "paris"
"""The newest version that all chains know on which Sonar is tested: Ganache 7 stops at Shanghai."""
OPTIMIZER_RUNS = 1_000

_ROOT_SOURCE = "contracts/Sonar.sol"
_IMPORT = re.compile(r'^\s*import\s+(?:[^"\';]*\sfrom\s+)?["\']([^"\']+)["\']', re.MULTILINE)


class CompileError(ChainError):
    """The sources cannot be read or compiled, or there is no compiler."""


def compile_sonar(root: Path) -> dict[str, Any]:
    """The compiled contract of the repository at `root`, ready to be written as package data."""
    from solcx.wrapper import get_solc_version

    request = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources(root).items()},
        "settings": {
            "evmVersion": EVM_VERSION,
            "optimizer": {"enabled": True, "runs": OPTIMIZER_RUNS},
            "viaIR": True,
            "metadata": {"appendCBOR": False, "bytecodeHash": "none"},
            "outputSelection": {"*": {"Sonar": ["abi", "evm.bytecode.object", "evm.deployedBytecode"]}},
        },
    }
    compiler = _compiler(root)
    answer = _compile(compiler, request)
    _refuse_warnings(answer)
    contract = answer["contracts"][_ROOT_SOURCE]["Sonar"]
    runtime = contract["evm"]["deployedBytecode"]
    return {
        "contractName": "Sonar",
        "abi": contract["abi"],
        "bytecode": "0x" + contract["evm"]["bytecode"]["object"],
        "deployedBytecode": "0x" + runtime["object"],
        "immutableReferences": runtime["immutableReferences"],
        "compiler": str(get_solc_version(compiler, with_commit_hash=True)),
        "evmVersion": EVM_VERSION,
        "optimizerRuns": OPTIMIZER_RUNS,
        "viaIR": True,
        "sourceSha256": sha256(canonical.dumps(request)).hexdigest(),
    }


def dump_artifact(artifact: Mapping[str, Any]) -> str:
    """The text of the package data file."""
    return json.dumps(artifact, indent=1, sort_keys=True) + "\n"


def sources(root: Path) -> dict[str, str]:
    """The contract's source and all that it imports, by import name: own files from `contracts`, others from npm."""
    found: dict[str, str] = {}
    queue = [_ROOT_SOURCE]
    while queue:
        name = queue.pop()
        if name in found:
            continue
        path = root / name if name.startswith("contracts/") else root / "node_modules" / name
        try:
            found[name] = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise CompileError(f"the source {name} is not there: run `npm ci` in the repository, then again") from error
        queue += [
            normpath(join(dirname(name), target)) if target.startswith(".") else target
            for target in _IMPORT.findall(found[name])
        ]
    return dict(sorted(found.items()))


def _compile(compiler: Path, request: Mapping[str, Any]) -> Mapping[str, Any]:
    import solcx
    from solcx.exceptions import SolcError

    try:
        answer: Mapping[str, Any] = solcx.compile_standard(dict(request), solc_binary=compiler)
    except SolcError as error:
        raise CompileError(f"the contract does not compile: {error.message}") from error
    return answer


def _compiler(root: Path) -> Path:
    """A native solc that py-solc-x has, else npm's behind the same command line, else one that can be downloaded."""
    import solcx
    from solcx.exceptions import SolcInstallationError, SolcNotInstalled

    try:
        return Path(solcx.install.get_executable(SOLC_VERSION))
    except SolcNotInstalled:
        if (root / "node_modules" / "solc").is_dir() and shutil.which("node"):
            return root / "scripts" / "solc-node"
    try:
        solcx.install_solc(SOLC_VERSION, show_progress=False)
    except (SolcInstallationError, OSError) as error:
        raise CompileError(
            f"there is no solc {SOLC_VERSION} and it cannot be downloaded: run `npm ci` in the repository, then again"
        ) from error
    return Path(solcx.install.get_executable(SOLC_VERSION))


def _refuse_warnings(answer: Mapping[str, Any]) -> None:
    """Our own sources compile without a warning; the library's are its authors' affair."""
    own = [
        problem["formattedMessage"]
        for problem in answer.get("errors", ())
        if problem.get("sourceLocation", {}).get("file", _ROOT_SOURCE).startswith("contracts/")
    ]
    if own:
        raise CompileError("the contract compiles with warnings:\n" + "\n".join(own))
