"""What an owner is told of records before they are read again, and that privacy mends what is refused without it."""

import pytest

from mine.data import inspect, match
from mine.policy import Policy
from mine.readiness import source_finding
from sonar.protocol.spec import Spec

MENDED = "with privacy on values out of a feature's range are cut to it and gaps are filled, and no record is refused"


@pytest.fixture
def clinic(tmp_path):
    """A table of 12 patients, of whom one is 90 years old."""
    rows = [f"{30 + at if at else 90},{'ab'[at % 2]}" for at in range(12)]
    (tmp_path / "clinic.csv").write_text("\n".join(["age,outcome", *rows]) + "\n")
    return inspect("clinic", tmp_path / "clinic.csv", "outcome")


def spec(most):
    return Spec.build(
        name="test", features=({"name": "age", "maximum": most},), classes=("a", "b"), target_column="outcome",
        min_records=10, payout={"target": 900_000},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("most", "mode", "changed", "says"),
    [
        (100, "off", False, "is as it was added, and no record was found bad then"),
        (100, "on", False, f"is as it was added: {MENDED}"),
        (50, "off", False, "above 50 as 'age'; such records are dropped (`on_bad_records` in [data])"),
        (50, "on", False, f"above 50 as 'age'; {MENDED}"),
        (100, "off", True, "has changed since it was added: which records are bad now shows when it is read"),
        (100, "on", True, f"has changed since it was added: {MENDED}"),
    ],
)
def test_what_becomes_of_bad_records_is_told_as_privacy_has_it(clinic, tmp_path, most, mode, changed, says):
    if changed:
        with (tmp_path / "clinic.csv").open("a") as file:
            file.write("31,a\n")
    policy = Policy.model_validate({"privacy": {"mode": mode}})
    found = source_finding(clinic, match(clinic, spec(most), {"age": "age"}), spec(most), policy)
    assert found.ok
    assert found.sentence.endswith(says)
