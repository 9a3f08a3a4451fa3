"""Compares what Slither finds in our own contracts with what contracts/slither.toml explains, for scripts/slither."""

import inspect
import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from crytic_compile import CryticCompile
from crytic_compile.platform.solc_standard_json import SolcStandardJson
from slither import Slither
from slither.detectors import all_detectors
from slither.detectors.abstract_detector import AbstractDetector, DetectorClassification

ROOT = Path(__file__).resolve().parent.parent
EXPLANATIONS = Path("contracts/slither.toml")

# Slither reads the syntax tree, to which these make no difference; without them some contracts do not compile.
SETTINGS = {
    "evmVersion": "paris",
    "optimizer": {"enabled": True, "runs": 1000},
    "viaIR": True,
    "remappings": ["@openzeppelin=node_modules/@openzeppelin"],
}
SERIOUS = {DetectorClassification.HIGH, DetectorClassification.MEDIUM, DetectorClassification.LOW}


class Place(NamedTuple):
    """Where a finding stands. It names no line, so that it moves with its function, but changes with its code."""

    detector: str
    where: str
    """The function or other definition, as `Contract.function`."""
    code: str
    """The expression; empty where a detector means the definition as a whole."""

    def __str__(self) -> str:
        return f"{self.detector} in {self.where}" + (f": {self.code}" if self.code else "")


def main(explanations: Path) -> int:
    found = _findings()
    explained = _explained(explanations)
    for place in sorted(found.keys() - explained):
        print(f"not explained: {place}\n{found[place]}", file=sys.stderr)
    for place in sorted(explained - found.keys()):
        print(f"explained, but not found any more: {place}", file=sys.stderr)
    if found.keys() != explained:
        print(f"Error: change the contracts, or explain the findings in {EXPLANATIONS}", file=sys.stderr)
        return 1
    print(f"slither: {len(found)} findings above informational, each explained in {EXPLANATIONS}")
    return 0


def _findings() -> dict[Place, str]:
    """What Slither says of each place in our own contracts, above informational."""
    names = [str(path) for path in sorted(Path("contracts").rglob("*.sol")) if _is_own(str(path))]
    request = {"sources": {name: {"urls": [name]} for name in names}, "settings": SETTINGS}
    compiler = ROOT / "scripts" / "solc-node"
    compiled = CryticCompile(SolcStandardJson(request), solc=str(compiler), solc_disable_warnings=True)
    # Comments in the sources and old triages hide nothing: there is one place where a finding is explained.
    slither = Slither(compiled, show_ignored_findings=True)
    for detector in vars(all_detectors).values():
        if inspect.isclass(detector) and issubclass(detector, AbstractDetector) and detector.IMPACT in SERIOUS:
            slither.register_detector(detector)
    found: dict[Place, list[str]] = defaultdict(list)
    for finding in (finding for results in slither.run_detectors() for finding in results):
        elements = finding["elements"]
        if not any(_is_own(element["source_mapping"]["filename_relative"]) for element in elements):
            continue
        text = f"  {finding['impact']}: {finding['description'].strip()}"
        pieces = [element["name"] for element in elements if element["type"] == "node"]
        for code in pieces or [""]:
            found[Place(finding["check"], _where(elements[0]), code)].append(text)
    return {place: "\n".join(texts) for place, texts in found.items()}


def _is_own(name: str) -> bool:
    return name.startswith("contracts/") and not name.startswith("contracts/mocks/")


def _where(element: dict) -> str:
    """A definition's name below its contract; an expression stands for the function that it is in."""
    names = [] if element["type"] == "node" else [element["name"]]
    while parent := element.get("type_specific_fields", {}).get("parent"):
        element = parent
        if element["type"] != "source_unit":
            names.insert(0, element["name"])
    return ".".join(names)


def _explained(path: Path) -> set[Place]:
    """The places that the file explains."""
    places = set()
    for explanation in tomllib.loads(path.read_text(encoding="utf-8")).get("explained", []):
        if not explanation["why"].strip():
            raise ValueError(f"{path}: {explanation['detector']} has no reason")
        for where, pieces in explanation["code"].items():
            places |= {Place(explanation["detector"], where, code) for code in pieces or [""]}
    return places


if __name__ == "__main__":
    sys.exit(main(ROOT / EXPLANATIONS))
