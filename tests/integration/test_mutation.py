"""Mutation testing itself: what it changes, who judges, and what it makes of mutants that live."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="the compiler needs Node")

SAMPLE = """
contract Sample {
    uint256 internal constant LIMIT = 2 minutes;
    bytes32 internal last = bytes32(0);
    bytes4 internal constant NO = bytes4(0xffffffff);
    address internal constant NOBODY = address(0);
    uint256 internal sum;

    function add(uint256 a, uint256 b) external returns (uint256 c) {
        if (a > LIMIT || a - b == 0) {
            revert("a");
        }
        unchecked {
            for (uint256 i = 0; i < b; ++i) {
                c = (a < b ? a : b) + i;
            }
        }
        if (!(c % 2 == 1)) {
            sum += c;
        } else {
            emptied();
        }
    }

    function emptied() internal once returns (bool) {
        delete sum;
        return true;
    }

    modifier once() {
        _;
    }
}
"""

WHOLE_SAMPLE = {
    "Sample.LIMIT": {
        ("constant", "2 minutes", "(2 minutes + 1)"),
        ("constant", "2 minutes", "(2 minutes - 1)"),
    },
    "Sample.last": {
        ("constant", "bytes32(0)", "bytes32(uint256(1))"),
    },
    "Sample.NO": {
        ("constant", "bytes4(0xffffffff)", "bytes4(uint32((0xffffffff + 1)))"),  # which does not compile
        ("constant", "bytes4(0xffffffff)", "bytes4(uint32((0xffffffff - 1)))"),
    },
    "Sample.NOBODY": {("constant", "address(0)", "address(1)")},
    "Sample.add": {
        ("drop", 'if (a > LIMIT || a - b == 0) { revert("a"); }', ""),
        ("condition", "a > LIMIT || a - b == 0", "!(a > LIMIT || a - b == 0)"),
        ("logic", "a > LIMIT || a - b == 0", "(a > LIMIT) && (a - b == 0)"),
        ("one side", "a > LIMIT || a - b == 0", "(a > LIMIT)"),
        ("one side", "a > LIMIT || a - b == 0", "(a - b == 0)"),
        ("comparison", "a > LIMIT", "(a >= LIMIT)"),
        ("comparison", "a > LIMIT", "(a <= LIMIT)"),
        ("operands", "a > LIMIT", "(a < LIMIT)"),
        ("comparison", "a - b == 0", "((a - b) != 0)"),
        ("arithmetic", "a - b", "(a + b)"),
        ("operands", "a - b", "(b - a)"),
        ("constant", "0", "1"),
        ("constant", '"a"', '"ax"'),
        ("unchecked", "unchecked", ""),
        ("comparison", "i < b", "(i <= b)"),
        ("comparison", "i < b", "(i >= b)"),
        ("operands", "i < b", "(i > b)"),
        ("arithmetic", "++i", "--i"),
        ("drop", "++i", ""),
        ("drop", "c = (a < b ? a : b) + i;", ""),
        ("arithmetic", "(a < b ? a : b) + i", "((a < b ? a : b) - i)"),
        ("ternary", "a < b ? a : b", "(a)"),
        ("ternary", "a < b ? a : b", "(b)"),
        ("comparison", "a < b", "(a <= b)"),
        ("comparison", "a < b", "(a >= b)"),
        ("operands", "a < b", "(a > b)"),
        ("drop", "if (!(c % 2 == 1)) { sum += c; } else { emptied(); }", "{ sum += c; }"),
        ("drop", "if (!(c % 2 == 1)) { sum += c; } else { emptied(); }", "{ emptied(); }"),
        ("condition", "!(c % 2 == 1)", "(c % 2 == 1)"),
        ("comparison", "c % 2 == 1", "(c % 2) != 1"),
        ("arithmetic", "c % 2", "(c * 2)"),
        ("operands", "c % 2", "(2 % c)"),
        ("constant", "2", "(2 + 1)"),
        ("constant", "2", "(2 - 1)"),
        ("constant", "1", "(1 + 1)"),
        ("constant", "1", "(1 - 1)"),
        ("arithmetic", "sum += c", "sum -= c"),
        ("arithmetic", "sum += c", "sum = c"),
        ("drop", "sum += c;", ""),
        ("drop", "emptied();", ""),
    },
    "Sample.emptied": {
        ("modifier", "once", ""),
        ("drop", "delete sum;", ""),
        ("drop", "return true;", ""),
        ("constant", "true", "false"),
    },
}


@pytest.fixture
def scripts(monkeypatch):
    """Lets a test import what stands beside the script."""
    monkeypatch.syspath_prepend(str(SCRIPTS))


WRONG = """
[[explained]]
why = "It is not so."
changes = { "CapsuleCommittee.constructor" = [["isMember[member] = true;", ""]] }
"""
COMMITTEE = ("--contract", "CapsuleCommittee", "--jobs", "1")


def mutate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPTS / "mutate-contracts", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_kind_of_change_is_made_everywhere_once(scripts):
    from mutation_operators import mutants

    request = {
        "language": "Solidity",
        "sources": {"Sample.sol": {"content": SAMPLE}},
        "settings": {"outputSelection": {"*": {"": ["ast"]}}},
    }
    done = subprocess.run(
        ["node", SCRIPTS / "mutation_solc.js"], input=json.dumps(request), cwd=ROOT, capture_output=True, text=True
    )
    source = SAMPLE.encode()
    found = mutants(source, json.loads(done.stdout)["sources"]["Sample.sol"]["ast"], "Sample")

    def plain(text: str) -> str:
        return " ".join(text.split())

    made: dict[str, set[tuple[str, str, str]]] = {}
    for mutant in found:
        replaced = source[mutant.start : mutant.end].decode()
        made.setdefault(mutant.where, set()).add((mutant.operator, plain(replaced), plain(mutant.replacement)))
        assert mutant.source(source) == SAMPLE[: mutant.start] + mutant.replacement + SAMPLE[mutant.end :]
        assert SAMPLE.splitlines()[mutant.line - 1].strip() in mutant.before or mutant.before == plain(replaced)
    assert made == WHOLE_SAMPLE
    assert len({mutant.source(source) for mutant in found}) == len(found)


def test_with_all_switches_off_a_contract_is_itself_and_one_turns_its_mutant_on(scripts):
    from mutation_compiler import Compiler
    from mutation_judge import Judge
    from mutation_operators import Form, mutants
    from mutation_switches import coinbase, with_switches

    with Compiler(ROOT, "CapsuleCommittee") as compiler, Judge("CapsuleCommittee", seconds=300) as judge:
        found = mutants(compiler.source, compiler.tree(), "CapsuleCommittee")
        some = {
            number: mutant for number, mutant in enumerate(found, 1) if mutant.form is not Form.OTHER and number < 40
        }
        bytecode = compiler.bytecode(with_switches(compiler.source, some))
        assert bytecode is not None
        assert judge.killer(bytecode) is None
        number = next(number for number, mutant in some.items() if mutant.before == "isMember[member] = true;")
        assert "::test_a_committee_knows_its_members" in judge.killer(bytecode, coinbase(number))


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Tries three mutants that tests notice, one that none can, and one that is no contract."""
    listed = mutate("--list", *COMMITTEE).stdout.splitlines()
    changes = [
        "if (member <= previous) { -> if (member < previous) {",
        "_isSigned, constant: address previous = address(0);",
        "isMember[member] = true; -> nothing",
        "bytes4(uint32((0xffffffff + 1)))",
        "previous = signer; -> nothing",
    ]
    numbers = [entry.partition(":")[0] for entry in listed for change in changes if change in entry]
    assert len(numbers) == len(changes)
    results = tmp_path_factory.mktemp("mutation") / "results.json"

    def run(*arguments):
        return mutate("--only", ",".join(numbers), "--json", results, *COMMITTEE, *arguments)

    return run(), results, run


def test_tests_kill_mutants_and_explained_ones_may_live(few):
    done, results, _ = few
    assert done.returncode == 0, done.stderr
    score, *living = done.stdout.splitlines()
    assert score == (
        "CapsuleCommittee: 3 of 4 mutants killed, 75.0%; 1 live that are explained, 0 that are not; "
        "0 compile to the same code, 1 to none"
    )
    assert [line.partition(": line ")[0] for line in living] == ["explained"]
    found = json.loads(results.read_text())["CapsuleCommittee"]["mutants"].values()
    by_change = {mutant["before"]: (mutant["verdict"], mutant["by"]) for mutant in found}
    killers = {before: by.partition("::")[0] for before, (_, by) in by_change.items() if by}
    assert killers == dict.fromkeys(
        ["if (member <= previous) {", "isMember[member] = true;", "previous = signer;"],
        "tests/contracts/test_capsule_committee.py",
    )
    assert by_change["address previous = address(0);"] == ("alive", None)


def test_a_second_run_tries_only_what_lived_and_fails_on_what_is_not_explained_or_explained_wrongly(few, tmp_path):
    *_, run = few
    explanations = tmp_path / "mutants.toml"
    explanations.write_text(WRONG)
    done = run("--explanations", explanations)
    assert done.returncode == 1
    assert "5 chosen, 1 to try" in done.stderr
    assert "0 live that are explained, 1 that are not" in done.stdout
    assert "\nalive: line " in done.stdout
    assert "explained, but not alive: CapsuleCommittee.constructor: isMember[member] = true; -> nothing" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--only", "3"), "name it with --contract"),
        (("--only", "5..2", *COMMITTEE), "'5..2' is no number and no range"),
        (("--only", "9999", *COMMITTEE), "none of them was chosen"),
    ],
)
def test_a_choice_of_no_mutant_is_refused_instead_of_passed(arguments, says):
    tried = mutate(*arguments)
    assert tried.returncode != 0
    assert says in tried.stderr


@pytest.mark.full
def test_a_sample_of_mutants_is_killed():
    done = mutate("--contract", "Sonar", "--sample", "12", "--seed", "4")
    assert done.returncode == 0, done.stdout + done.stderr
