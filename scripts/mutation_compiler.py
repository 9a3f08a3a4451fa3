"""Compiles changed sources of one contract quickly, for scripts/mutate-contracts."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sonar.chain import compile as compiler

__all__ = ["Compiler"]


class Compiler:
    """A compiler that stays in memory, and the sources of a contract of the repository, one of which changes."""

    def __init__(self, root: Path, contract: str) -> None:
        self.contract = contract
        self.file = f"contracts/{contract}.sol"
        self._sources = compiler.sources(root, self.file)
        self._process = subprocess.Popen(
            ["node", str(root / "scripts" / "mutation_solc.js")],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def source(self) -> bytes:
        """The contract's own source, unchanged."""
        return self._sources[self.file].encode()

    def tree(self) -> Mapping[str, Any]:
        """The syntax tree of the source."""
        answer = self._ask(self._sources[self.file], {self.file: {"": ["ast"]}}, optimize=False)
        return answer["sources"][self.file]["ast"]

    def bytecode(self, source: str, *, optimize: bool = False) -> bytes | None:
        """What the source compiles to, if it does. Optimized as what ships it takes half as long again."""
        answer = self._ask(source, {self.file: {self.contract: ["evm.bytecode.object"]}}, optimize=optimize)
        if any(problem["severity"] == "error" for problem in answer.get("errors", ())):
            return None
        return bytes.fromhex(answer["contracts"][self.file][self.contract]["evm"]["bytecode"]["object"])

    def _ask(self, source: str, outputs: Mapping[str, Any], *, optimize: bool) -> dict[str, Any]:
        request = {
            "language": "Solidity",
            "sources": {name: {"content": text} for name, text in {**self._sources, self.file: source}.items()},
            "settings": {
                "evmVersion": compiler.EVM_VERSION,
                "optimizer": {"enabled": optimize, "runs": compiler.OPTIMIZER_RUNS},
                "viaIR": True,
                "metadata": {"appendCBOR": False, "bytecodeHash": "none"},
                "outputSelection": outputs,
            },
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the compiler ended with code {self._process.wait()}: run `npm ci` in the repository")
        return json.loads(answer)
