"""Runs the contract tests under Brownie's coverage and judges the result, for scripts/coverage-contracts."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TESTS = Path("tests/contracts")
EXCEPTIONS = Path("contracts/coverage.toml")
CONTRACTS = ("Sonar", "CapsuleCommittee")

# Ganache, because Anvil keeps the memory at each step of every transaction: tens of gigabytes. Code that is measured is
# above the size limit of real chains.
NETWORK = """\
live: []
development:
  - name: Ganache
    id: ganache
    cmd: ganache --logging.quiet --miner.timestampIncrement 1 --chain.allowUnlimitedContractSize
    host: http://127.0.0.1
    timeout: 300
    cmd_settings: {{port: {port}, gas_limit: 30000000, accounts: 10, evm_version: berlin, mnemonic: brownie}}
"""

# Only unoptimized code of the compiler's older generator has every statement and branch in its source map.
UNMEASURABLE = "viaIR: true\n    optimizer:\n      enabled: true"
MEASURABLE = "viaIR: false\n    optimizer:\n      enabled: false"

# What must be in the source map, or it could not be seen to be missed. Brownie knows neither declarations, which are
# reached if the next statement is, nor `revert`, each of which is a branch by itself.
STATEMENTS = {"EmitStatement", "ExpressionStatement", "Return"}

Offset = tuple[int, int]


@dataclass(slots=True)
class Function:
    """What there is to reach in a function, and what of it was not reached, by code."""

    statements: int = 0
    missed_statements: set[str] = field(default_factory=set)
    branches: int = 0
    missed_branches: set[str] = field(default_factory=set)


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="sonar-coverage-") as temporary:
        project = Path(temporary) / "project"
        code = _run(project, Path(temporary) / "home", arguments)
        path = project / "reports" / "coverage.json"
        if not path.is_file():
            return code or 1
        report = json.loads(path.read_text())["highlights"]
        functions: dict[str, Function] = {}
        for contract in CONTRACTS:
            build = json.loads((project / "build" / "contracts" / f"{contract}.json").read_text())
            functions |= _functions(contract, build, report)
    _print(functions)
    return _compare(functions) or code


def _run(project: Path, home: Path, arguments: list[str]) -> int:
    """Runs the tests in a copy of the project that compiles otherwise, which leaves the project's own build alone."""
    shutil.copytree(ROOT / "contracts", project / "contracts")
    shutil.copytree(ROOT / TESTS, project / TESTS, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("node_modules", "sonar"):
        (project / name).symlink_to(ROOT / name)
    config = (ROOT / "brownie-config.yaml").read_text()
    if UNMEASURABLE not in config:
        raise ValueError(f"brownie-config.yaml has no {UNMEASURABLE!r}")
    (project / "brownie-config.yaml").write_text(config.replace(UNMEASURABLE, MEASURABLE))
    (version,) = re.findall(r"version: ([\d.]+)", config)
    (home / ".brownie").mkdir(parents=True)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    (home / ".brownie" / "network-config.yaml").write_text(NETWORK.format(port=port))
    (home / f"solc-v{version}").symlink_to(ROOT / "scripts" / "solc-node")
    environment = os.environ | {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(ROOT / "node_modules" / ".bin"), os.environ["PATH"]]),
        "SOLCX_BINARY_PATH": str(home),
        "SONAR_TEST_CHAIN": "brownie",
    }
    command = [sys.executable, ROOT / "scripts" / "brownie_coverage.py", "test", TESTS, "-c", TESTS / "brownie.ini"]
    command += ["--coverage", "--network", "ganache", *arguments]
    return subprocess.run(command, cwd=project, env=environment, check=False).returncode


def _functions(contract: str, build: dict[str, Any], report: dict[str, Any]) -> dict[str, Function]:
    """What was reached in the functions of one contract's own source."""
    source = build["source"].encode()
    (path,) = (number for number, name in build["allSourcePaths"].items() if name == f"contracts/{contract}.sol")
    functions: dict[str, Function] = defaultdict(Function)
    for kind, wanted in _wanted(build["ast"], contract).items():
        for function, places in build["coverageMap"][kind][path].items():
            wanted |= {tuple(place[:2]): function for place in places.values()}
        marks = report[kind].get(contract, {}).get(path, [])
        reached = {(start, stop) for start, stop, colour, _ in marks if colour == "green"}
        for (start, stop), name in sorted(wanted.items()):
            function = functions[name]
            missed = function.missed_statements if kind == "statements" else function.missed_branches
            if (start, stop) not in reached:
                missed.add(" ".join(source[start:stop].decode().split()))
            if kind == "statements":
                function.statements += 1
            else:
                function.branches += 1
    return functions


def _wanted(tree: dict[str, Any], contract: str) -> dict[str, dict[Offset, str]]:
    """The statements, and the conditions that must have been true and false, each with its function."""
    wanted: dict[str, dict[Offset, str]] = {"statements": {}, "branches": {}}
    for function in _nodes(tree, {"FunctionDefinition"}):
        name = f"{contract}.{function['name'] or '<' + function['kind'] + '>'}"
        for node in _nodes(function, STATEMENTS):
            wanted["statements"][_offset(node)] = name
        for node in _nodes(function, {"IfStatement", "Conditional"}):
            for condition in _conditions(node["condition"]):
                wanted["branches"][_offset(condition)] = name
    return wanted


def _nodes(tree: Any, types: set[str]) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        if tree.get("nodeType") in types:
            yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for child in tree:
            yield from _nodes(child, types)


def _conditions(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts of a condition that are no and, or, not or choice of others."""
    match node["nodeType"]:
        case "BinaryOperation" if node["operator"] in ("&&", "||"):
            parts = [node["leftExpression"], node["rightExpression"]]
        case "Conditional":
            parts = [node["trueExpression"], node["falseExpression"]]
        case "TupleExpression":
            parts = node["components"]
        case "UnaryOperation":
            parts = [node["subExpression"]]
        case _:
            yield node
            return
    for part in parts:
        yield from _conditions(part)


def _offset(node: dict[str, Any]) -> Offset:
    start, length, _ = map(int, node["src"].split(":"))
    return start, start + length


def _print(functions: dict[str, Function]) -> None:
    print(f"\n{'':40}{'statements':>14}{'branches':>14}")
    for contract in CONTRACTS:
        own = {name: function for name, function in functions.items() if name.startswith(f"{contract}.")}
        _print_row(contract, list(own.values()))
        for name, function in sorted(own.items()):
            _print_row("  " + name.removeprefix(f"{contract}."), [function])


def _print_row(name: str, functions: list[Function]) -> None:
    statements = sum(function.statements for function in functions)
    missed_statements = sum(len(function.missed_statements) for function in functions)
    branches = sum(function.branches for function in functions)
    missed_branches = sum(len(function.missed_branches) for function in functions)
    left = f"{statements - missed_statements}/{statements}"
    right = f"{branches - missed_branches}/{branches}" if branches else "-"
    print(f"{name:40}{left:>14}{right:>14}")


def _compare(functions: dict[str, Function]) -> int:
    """Compares what was not reached with the exceptions."""
    missed = {
        (name, code)
        for name, function in functions.items()
        for code in function.missed_statements | function.missed_branches
    }
    wrong = []
    for exception in tomllib.loads((ROOT / EXCEPTIONS).read_text(encoding="utf-8"))["exceptions"]:
        name = exception["function"]
        listed = {code for function, code in missed if function == name}
        if "code" in exception:
            wrong += [f"listed, but reached: {name}: {code}" for code in exception["code"] if code not in listed]
            listed &= set(exception["code"])
        elif not listed:
            wrong.append(f"listed, but reached: all of {name}")
        wrong += [f"there is no test {test}" for test in exception["tests"] if not _is_test(test)]
        missed -= {(name, code) for code in listed}
    wrong += [f"not reached: {name}: {code}" for name, code in sorted(missed)]
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        print(f"Error: write a test, or list what only Brownie does not see in {EXCEPTIONS}", file=sys.stderr)
        return 1
    print(f"everything is reached but for the exceptions in {EXCEPTIONS}")
    return 0


def _is_test(name: str) -> bool:
    file, _, function = name.partition("::")
    path = ROOT / TESTS / file
    return path.is_file() and f"\ndef {function}(" in path.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
