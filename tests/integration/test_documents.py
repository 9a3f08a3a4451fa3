"""The documents say what is: every command, every file that they name."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


def test_every_command_and_option_is_documented_as_it_is():
    done = subprocess.run(
        [sys.executable, "scripts/commands-reference", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_of_a_document_leads_to_a_file(document: Path):
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("command", ["sonar", "capsule", "mine", "pysonar"])
def test_help_answers_within_half_a_second(command):
    # Of the processor's time, which other work on the machine does not count into; the best of three.
    assert min(timed_help(command) for _ in range(3)) < 0.5


def timed_help(command: str) -> float:
    """The seconds that the processor works for a command's help, in a fresh interpreter."""
    code = (
        "import resource, subprocess, sys; "
        f"subprocess.run([sys.executable, '-m', '{command}', '--help'], check=True, capture_output=True); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)
