"""docs/judging.md tells a data scientist what the judge says, and its worked example is what the judge does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from capsule.judge import rounds
from sonar.chain.records import Verdict

ROOT = Path(__file__).parents[2]
SHORT = (ROOT / "docs" / "judging.md").read_text().partition("## The rules")[0]
SENTENCES = sorted(
    text for name, text in vars(rounds).items() if re.fullmatch("_[A-Z]+", name) and isinstance(text, str)
)


def told(source: str) -> list[str]:
    """The sentences without a stranger's words in them that a module of the worker says of a gradient."""
    text = (ROOT / "capsule" / "worker" / source).read_text()
    return re.findall(r'[^f]"((?:copy|invalid|unavailable): [^"]+)"', text)


def test_the_judge_has_nine_sentences():
    assert len(SENTENCES) == 9


@pytest.mark.parametrize("sentence", [*SENTENCES, *told("opening.py"), *told("gathering.py")])
def test_every_sentence_is_in_the_document(sentence):
    assert f"| {sentence} |" in SHORT


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_is_in_the_document(verdict):
    assert f"| `{verdict.name}` |" in SHORT


def test_the_worked_example_is_what_the_judge_does():
    done = subprocess.run(
        [sys.executable, "scripts/judge_example.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout in SHORT, (
        "put what scripts/judge_example.py prints now into the document, and read the text below it"
    )
