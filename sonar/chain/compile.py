"""Compiles the contracts into the package data that every other module reads; for developers only.

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

__all__ = ["SHIPPED", "CompileError", "compile_contract", "compile_file", "dump_artifact", "sources"]

SOLC_VERSION = "0.8.37"
EVM_VERSION = "paris"
"""The newest version that all chains know on which Sonar is tested: Ganache 7 stops at Shanghai."""
OPTIMIZER_RUNS = 1_000

SHIPPED = ("Sonar", "CapsuleCommittee")
"""The contracts that ship as package data, each compiled from the file of its name."""

_OUTPUTS = ("abi", "evm.bytecode.object", "evm.deployedBytecode")
_SYNTAX = {"": ["ast"]}
"""Asked of every source: only its syntax tree knows an immutable by name."""
_IMPORT = re.compile(r'^\s*import\s+(?:[^"\';]*\sfrom\s+)?["\']([^"\']+)["\']', re.MULTILINE)


class CompileError(ChainError):
    """The sources cannot be read or compiled, or there is no compiler."""


def compile_contract(root: Path, name: str) -> dict[str, Any]:
    """A compiled contract of the repository at `root`, ready to be written as package data."""
    file = _file(name)
    return _compile_request(root, _request(root, file, {"*": {name: _OUTPUTS, **_SYNTAX}}), file)[name]


def compile_file(root: Path, file: str) -> dict[str, dict[str, Any]]:
    """All contracts of one source below `root`, by name, compiled as those that ship.

    Each source is compiled by itself: the optimizer's output may depend on what is compiled beside it.
    """
    return _compile_request(root, _request(root, file, {file: {"*": _OUTPUTS}, "*": _SYNTAX}), file)


def dump_artifact(artifact: Mapping[str, Any]) -> str:
    """The text of the package data file."""
    return json.dumps(artifact, indent=1, sort_keys=True) + "\n"


def sources(root: Path, file: str) -> dict[str, str]:
    """A source and all that it imports, by import name: own files from `contracts`, others from npm."""
    found: dict[str, str] = {}
    queue = [file]
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


def _file(contract: str) -> str:
    return f"contracts/{contract}.sol"


def _request(root: Path, file: str, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The compiler's standard JSON input."""
    return {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources(root, file).items()},
        "settings": {
            "evmVersion": EVM_VERSION,
            "optimizer": {"enabled": True, "runs": OPTIMIZER_RUNS},
            "viaIR": True,
            "metadata": {"appendCBOR": False, "bytecodeHash": "none"},
            "outputSelection": outputs,
        },
    }


def _compile_request(root: Path, request: Mapping[str, Any], file: str) -> dict[str, dict[str, Any]]:
    """The compiled contracts of the request's main source, by name."""
    from solcx.wrapper import get_solc_version

    compiler = _compiler(root)
    answer = _compile(compiler, request)
    _refuse_warnings(answer)
    version = str(get_solc_version(compiler, with_commit_hash=True))
    digest = _digest(request)
    names = _immutable_names(answer["sources"])
    return {
        name: _artifact(name, contract, names, version, digest) for name, contract in answer["contracts"][file].items()
    }


def _digest(request: Mapping[str, Any]) -> str:
    """SHA-256 of all that decides the bytecode: the sources and the settings, whatever else is asked for."""
    settings = {key: value for key, value in request["settings"].items() if key != "outputSelection"}
    return sha256(canonical.dumps({**request, "settings": settings})).hexdigest()


def _immutable_names(sources: Mapping[str, Any]) -> dict[str, str]:
    """The immutables' names by the numbers that the compiler gave them, which depend on what it read before."""
    names: dict[str, str] = {}
    queue: list[Any] = [source["ast"] for source in sources.values()]
    while queue:
        node = queue.pop()
        if isinstance(node, list):
            queue += node
        elif isinstance(node, dict):
            if node.get("nodeType") == "VariableDeclaration" and node.get("mutability") == "immutable":
                names[str(node["id"])] = node["name"]
            queue += node.values()
    return names


def _artifact(
    name: str, contract: Mapping[str, Any], immutables: Mapping[str, str], compiler: str, digest: str
) -> dict[str, Any]:
    runtime = contract["evm"]["deployedBytecode"]
    references = {immutables[number]: places for number, places in runtime["immutableReferences"].items()}
    if len(references) < len(runtime["immutableReferences"]):
        raise CompileError(f"{name} has two immutables of one name: rename one, so that they can be told apart")
    return {
        "contractName": name,
        "abi": contract["abi"],
        "bytecode": "0x" + contract["evm"]["bytecode"]["object"],
        "deployedBytecode": "0x" + runtime["object"],
        "immutableReferences": references,
        "compiler": compiler,
        "evmVersion": EVM_VERSION,
        "optimizerRuns": OPTIMIZER_RUNS,
        "viaIR": True,
        "sourceSha256": digest,
    }


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
        if problem.get("sourceLocation", {}).get("file", "contracts/").startswith("contracts/")
    ]
    if own:
        raise CompileError("the contract compiles with warnings:\n" + "\n".join(own))
