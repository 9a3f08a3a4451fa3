"""What a data owner types and reads, kept in transcripts/: each is played again on a chain and must read the same.

SONAR_WRITE_TRANSCRIPTS=1 writes down how they read now; a new one needs its commands and stage directions only.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image
from transcripts import Player

from mine.cli import main
from mine.home import Home
from sonar.chain.records import Verdict
from sonar.units import ether

TRANSCRIPTS = sorted(Path(__file__).with_name("transcripts").glob("*.txt"))
FEATURES = ("age", "dose", "pulse", "weight")
CLASSES = ("better", "same", "worse")
REWRITE = os.environ.get("SONAR_WRITE_TRANSCRIPTS") == "1"


def write_clinic(path: Path, *, records: int = 150, names=FEATURES) -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(records) % len(CLASSES)
    features = rng.normal(size=(records, len(names))) + 2 * np.eye(len(names))[labels]
    rows = (",".join([*map(repr, row), CLASSES[label]]) for row, label in zip(features.tolist(), labels, strict=True))
    path.write_text("\n".join([",".join([*names, "outcome"]), *rows]) + "\n")


class Scene:
    """What stage directions do around the mine at `~/.sonar/mine`."""

    def __init__(self, stage, funder, advance_time, monkeypatch):
        self.stage, self.funder, self.advance_time = stage, funder, advance_time
        self.place = stage.folder / "home"
        self.place.mkdir()
        self.network_file = stage.network.save(self.place / ".sonar" / "network.json")
        self.home = Home(self.place / ".sonar" / "mine")
        monkeypatch.chdir(self.place)
        monkeypatch.setenv("HOME", str(self.place))
        for name in [name for name in os.environ if name.startswith("SONAR_")]:
            monkeypatch.delenv(name)
        self.player = Player(
            {"mine": main}, {"COLUMNS": "100", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
            {
                "clinic.csv has 150 patients": lambda: write_clinic(self.place / "clinic.csv"),
                "small.csv has 12 patients": lambda: write_clinic(self.place / "small.csv", records=12),
                "a cell of clinic.csv is emptied": self.empty_cell,
                "the same patients are in visits.db, visits.jsonl and two Parquet files": self.convert,
                "a folder scans has 4 images of class better and 4 of class worse": self.draw,
                "the node is unreachable": lambda: stage.network.model_copy(
                    update={"rpc_url": "http://127.0.0.1:1"}
                ).save(self.network_file),
                "the node is back": lambda: stage.network.save(self.network_file),
                "other.csv has a column bpm in place of pulse": lambda: write_clinic(
                    self.place / "other.csv", names=("age", "dose", "bpm", "weight")
                ),
                "clinic.csv is moved away": lambda: self.move("clinic.csv", "away.csv"),
                "clinic.csv is back": lambda: self.move("away.csv", "clinic.csv"),
                "the policy misspells the data set": lambda: self.rule("[datasets.clinc]\npurposes = ['research']\n"),
                "the policy has its privacy table twice": lambda: self.rule(
                    "[privacy]\n# mode = 'off'\n\n[privacy]\nmode = 'on'\n"
                ),
                "the policy has the quotes of a text program": lambda: self.rule("[money]\nmax_bond = “0.01”\n"),
                "the policy is empty": lambda: self.rule(""),
                "the round closes without another mine's gradient, and is judged": self.judge_alone,
                "the policy asks for approval": lambda: self.rule("[accept]\napproval = true\n"),
                "the policy turns privacy on": self.privacy,
                "the policy drops bad records": lambda: self.rule('[data]\non_bad_records = "drop"\n'),
                "the policy has a mistake in its third line": lambda: self.rule("[money]\n\nmax_bond = 0.01\n"),
                "the account is funded": self.fund,
                "a campaign begins": self.begin,
                "another mine posts a gradient": lambda: self.stage.submit_other(self.campaign) and None,
                "the round is settled, and both gradients are kept": self.settle,
                "SONAR_PASSPHRASE is set": lambda: monkeypatch.setenv("SONAR_PASSPHRASE", "correct horse"),
                "a line of the audit log is edited": self.edit,
                "the end of the audit log is cut off": self.cut,
            },
            {
                str(self.place): "~", stage.owner.address: "<owner>", stage.attester.address: "<capsule>",
                stage.client.address: "<contract>",
            },
        )  # fmt: skip

    def convert(self):
        csv = f"read_csv('{self.place / 'clinic.csv'}')"
        with duckdb.connect() as db:
            db.execute(f"COPY (FROM {csv}) TO '{self.place / 'visits.jsonl'}' (FORMAT json)")
            for name, which in (("first", "< 75"), ("second", ">= 75")):
                rows = f"SELECT * EXCLUDE n FROM (SELECT *, row_number() OVER () - 1 AS n FROM {csv}) WHERE n {which}"
                db.execute(f"COPY ({rows}) TO '{self.place / name}.parquet' (FORMAT parquet)")
            rows = db.execute(f"FROM {csv}").fetchall()
        with closing(sqlite3.connect(self.place / "visits.db")) as db, db:
            db.execute("CREATE TABLE visit (age REAL, dose REAL, pulse REAL, weight REAL, outcome TEXT)")
            db.executemany("INSERT INTO visit VALUES (?, ?, ?, ?, ?)", rows)

    def draw(self):
        for label, shade in (("better", 60), ("worse", 200)):
            (self.place / "scans" / label).mkdir(parents=True)
            for number in range(4):
                Image.new("L", (16, 16), shade + number).save(self.place / "scans" / label / f"{number}.png")
        (self.place / "scans" / "worse" / "notes.png").write_text("not an image")

    def fund(self):
        self.funder(self.home.address(), ether(1))

    @property
    def spec(self):
        features = tuple({"name": name} for name in FEATURES)
        return self.stage.spec(
            name="recovery",
            features=features,
            classes=CLASSES,
            target_column="outcome",
            rounds={"round_size": 2},
            payout={"target": 800_000},
        )

    def begin(self):
        self.campaign = self.stage.campaign(self.spec)
        self.player.known["0x" + self.campaign.hex()] = "<campaign>"
        self.player.known["0x" + self.campaign.hex()[:12]] = "<camp>"

    def settle(self):
        model = self.stage.encrypted(np.zeros(self.spec.shape, dtype=np.int64), self.stage.paillier, self.spec)
        kept = [Verdict.KEPT, Verdict.KEPT]
        self.stage.settle(self.campaign, kept, model=model, key=self.stage.paillier.public.key_id)

    def move(self, name, to):
        (self.place / name).rename(self.place / to)

    def judge_alone(self):
        self.advance_time(self.spec.rounds.round_seconds + 1)
        self.stage.settle(self.campaign, [Verdict.LEFT_OUT])

    def privacy(self):
        self.rule('[privacy]\nmode = "on"\nepsilon = 2.0\n')
        self.player.masks.append((r"\(about \d+ records", "(about <noised> records"))

    def rule(self, text):
        self.home.policy_file.write_text(text)

    def empty_cell(self):
        path = self.place / "clinic.csv"
        lines = path.read_text().splitlines()
        lines[7] = "," + lines[7].partition(",")[2]
        path.write_text("\n".join(lines) + "\n")

    def edit(self):
        log = self.home.path / "audit.jsonl"
        lines = log.read_text().splitlines(keepends=True)
        lines[1] = lines[1].replace('"records":150', '"records":15')
        log.write_text("".join(lines))

    def cut(self):
        log = self.home.path / "audit.jsonl"
        log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize("script", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_reads_as_it_is_kept(script, stage, funder, advance_time, monkeypatch):
    text = Scene(stage, funder, advance_time, monkeypatch).player.play(script)
    if REWRITE:
        script.write_text(text)
    assert text == script.read_text(), "SONAR_WRITE_TRANSCRIPTS=1 writes down how it reads now"


def test_every_command_of_the_mine_is_in_a_transcript():
    typed = "".join(path.read_text() for path in TRANSCRIPTS)
    missing = [" ".join(words) for words in _commands(main) if f"$ mine {' '.join(words)}" not in typed]
    assert missing == []


def _commands(command, *words):
    if not hasattr(command, "commands"):
        return [words]
    return [found for name, inner in command.commands.items() for found in _commands(inner, *words, name)]
