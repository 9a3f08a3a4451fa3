"""The demo's data scientist: publishes a campaign with pysonar, waits, closes it, and measures the model she gets."""

import argparse
import csv
import json
from pathlib import Path

import numpy as np

import pysonar
from sonar.chain.records import Status
from sonar.processes import wait_until


def read_table(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The feature names, the features (records, features) and the labels (records,) of a CSV, target column last."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return (
        header[:-1],
        np.array([[float(cell) for cell in row[:-1]] for row in rows]),
        np.array([row[-1] for row in rows]),
    )


def main() -> None:
    """Runs the campaign to its end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("--plan", type=Path, required=True, help="JSON written by demo.py")
    parser.add_argument("--result", type=Path, required=True, help="where the result goes as JSON")
    arguments = parser.parse_args()
    plan = json.loads(arguments.plan.read_text())

    names, X_val, y_val = read_table(Path(plan["validation"]))
    _, X_test, y_test = read_table(Path(plan["test"]))
    classes = plan["classes"]

    sonar = pysonar.connect(arguments.network, account=arguments.key_file)
    campaign = sonar.create_campaign(
        model=pysonar.LinearClassifier(features=names, classes=classes, offset=plan["offset"], scale=plan["scale"]),
        validation=(X_val, y_val),
        bounty=plan["bounty_wei"],
        target=plan["target"],
        deadline=plan["deadline"],
        name=plan["name"],
        target_column=plan["target_column"],
        min_records=plan["min_records"],
        training=plan["training"],
        rounds=plan["rounds"],
    )
    # The campaign is over for us once no further round can come: at the target, after the last round, at the deadline.
    wait_until(lambda: campaign.status is not Status.RUNNING, timeout=plan["timeout"], what="the end of the campaign")
    model = campaign.result()
    campaign.close()
    refund = campaign.withdraw()
    accuracy = model.score(X_test, y_test)
    arguments.result.write_text(json.dumps({"withdrawn_wei": refund, "test_accuracy": accuracy}))


if __name__ == "__main__":
    main()
