"""docs/SPECIFICATION.md: every rule is cited by a contract test, and every citation is of a rule that exists."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RULE = re.compile(r"^- \*\*(R\d{3,4})\*\* (.*)$", re.MULTILINE)
CITATION = re.compile(r"^# (R\d{3,4}(?:, R\d{3,4})*)$", re.MULTILINE)


def rules() -> list[tuple[str, str]]:
    return RULE.findall((ROOT / "docs" / "SPECIFICATION.md").read_text())


def citations() -> Counter[str]:
    cited: Counter[str] = Counter()
    for file in (ROOT / "tests" / "contracts").rglob("test_*.py"):
        for line in CITATION.findall(file.read_text()):
            cited.update(line.split(", "))
    return cited


def test_the_rules_are_numbered_once_and_in_order():
    numbers = [number for number, _ in rules()]
    assert len(numbers) > 80
    assert numbers == sorted(set(numbers), key=lambda number: int(number[1:]))


def test_each_rule_is_one_sentence():
    assert [text for _, text in rules() if not text.endswith(".") or ". " in text] == []


def test_every_rule_is_cited_by_a_contract_test():
    assert [number for number, _ in rules() if number not in citations()] == []


def test_every_citation_is_of_a_rule_that_exists():
    assert citations().keys() - dict(rules()).keys() == set()


def test_every_citation_stands_above_a_test():
    for file in (ROOT / "tests" / "contracts").rglob("test_*.py"):
        text = file.read_text()
        for found in CITATION.finditer(text):
            rest = text[found.end() :].split("\n\n", 1)[0]
            assert "def test_" in rest or "class " in rest, f"{file.name}: {found.group(1)} stands above no test"
