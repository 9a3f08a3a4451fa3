"""docs/SECURITY.md says which test holds which line of the threat model: all of them are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "SECURITY.md").read_text()
ROW = re.compile(r"^\| ?(.*?) ?\| `(test_[a-z0-9_]+)` \|$", re.MULTILINE)
TEST = re.compile(r"^ *(?:async )?def (test_[a-z0-9_]+)\(", re.MULTILINE)


def names_in(*patterns: str) -> list[str]:
    files = [file for pattern in patterns for file in (ROOT / "tests").glob(pattern)]
    return [name for file in files for name in TEST.findall(file.read_text())]


def test_every_test_that_the_threat_model_names_exists():
    named = [name for _, name in ROW.findall(DOCUMENT)]
    assert len(named) > 50
    assert set(named) <= set(names_in("**/test_*.py"))


def test_every_test_of_the_threat_model_is_named_in_it():
    named = {name for _, name in ROW.findall(DOCUMENT)}
    assert set(names_in("judge/test_capsule_threats.py")) <= named


def test_every_line_of_the_threat_model_has_a_test():
    section = DOCUMENT.partition("## Threats and their tests")[2].partition("\nEvery decoder")[0]
    parties = re.split(r"^\*\*(.+?)\*\*", section, flags=re.MULTILINE)[1:]
    names = [
        "A mine",
        "A data scientist",
        "A Capsule",
        "Whoever watches",
        "Who may write to a Capsule's database",
        "Anyone",
    ]
    assert parties[::2] == names
    for party, lines in zip(parties[::2], parties[1::2], strict=True):
        rows = [line for line in lines.splitlines() if line.startswith("|")]
        assert rows[:2] == ["| | test |", "|---|---|"], party
        assert all(ROW.fullmatch(row) for row in rows[2:]), party
        assert ROW.fullmatch(rows[2])[1], f"{party}: the first test is for nothing"
