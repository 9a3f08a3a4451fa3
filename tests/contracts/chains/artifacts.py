"""The contracts as they ship, and their mocks compiled likewise, kept below build/ by what they were compiled from."""

import fcntl
import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from sonar.chain import compile as compiler

__all__ = ["ROOT", "Artifact", "load_artifacts"]

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled contract."""

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes


def load_artifacts(root: Path = ROOT) -> dict[str, Artifact]:
    """All contracts below `root`, by name. Interfaces and abstract contracts are among them, without bytecode."""
    found: dict[str, Artifact] = {}
    for path in sorted((root / "contracts").rglob("*.sol")):
        for name, contract in _compiled(root, path.relative_to(root).as_posix()).items():
            assert name not in found, f"two contracts are called {name}"
            found[name] = Artifact(name, contract["abi"], bytes.fromhex(contract["bytecode"][2:]))
    return found


def _compiled(root: Path, file: str) -> dict[str, dict[str, Any]]:
    """A source's contracts: those that ship if they are of this very source, else from the cache, else compiled."""
    if Path(file).stem in compiler.SHIPPED:
        shipped = json.loads((ROOT / "sonar" / "chain" / "data" / f"{Path(file).stem}.json").read_text())
        if shipped["sourceSha256"] == compiler._digest(compiler._request(root, file, {})):
            return {shipped["contractName"]: shipped}
    settings = [compiler.SOLC_VERSION, compiler.EVM_VERSION, compiler.OPTIMIZER_RUNS]
    inputs = json.dumps([file, settings, compiler.sources(root, file), Path(compiler.__file__).read_text()])
    cached = ROOT / "build" / "test-artifacts" / f"{sha256(inputs.encode()).hexdigest()}.json"
    cached.parent.mkdir(parents=True, exist_ok=True)
    # Test runs beside this one may want the same file: one of them compiles it, and the others wait for that.
    with cached.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if cached.is_file():
            return json.loads(cached.read_text())
        contracts = compiler.compile_file(root, file)
        partial = cached.with_suffix(".part")
        partial.write_text(json.dumps(contracts))
        partial.replace(cached)
    return contracts
