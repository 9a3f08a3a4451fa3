"""Measures the judge: what it keeps of honest and poisoned rounds, whom it pays, what it takes for copies, how fast.

Simulated campaigns on scikit-learn's tables, in plain numbers for speed; the table `encrypted` runs one on real
Paillier through the Capsule's own jobs, and fails unless both are the same to the last bit. docs/judging.md has more.
"""

import json
import platform
from dataclasses import asdict, replace
from pathlib import Path

import click
import numpy as np
from bench_judge_encrypted import encrypted
from bench_judge_tables import QUICK, TABLES, Sizes

ALL = {**TABLES, "encrypted": encrypted}


@click.command(help=__doc__)
@click.option("--only", type=click.Choice(list(ALL)), multiple=True, help="A table; may be given again.")
@click.option("--quick", is_flag=True, help="One seed and small keys: half a minute, and numbers that mean little.")
@click.option("--seeds", type=click.IntRange(1, 1000), help="How many seeds every mean is over (8).")
@click.option("--json", "target", type=click.Path(dir_okay=False, allow_dash=True), help="Write all numbers to a file.")
def main(only: tuple[str, ...], quick: bool, seeds: int | None, target: str | None) -> None:
    sizes = QUICK if quick else Sizes()
    if seeds is not None:
        sizes = replace(sizes, seeds=seeds)
    tables = []
    for name in only or ALL:
        table = ALL[name](sizes)
        tables.append(table)
        click.echo(table.markdown(), err=target == "-")
    if target is None:
        return
    report = {
        "quick": quick,
        "seeds": sizes.seeds,
        "machine": {"processor": platform.machine(), "python": platform.python_version(), "numpy": np.__version__},
        "tables": [asdict(table) for table in tables],
    }
    text = json.dumps(report, indent=2) + "\n"
    if target == "-":
        click.echo(text, nl=False)
    else:
        Path(target).write_text(text)


if __name__ == "__main__":
    main()
