"""Prints the worked example of docs/judging.md: four mines on digits, one of them with shuffled labels, three rounds.

The gradients are those that the encrypted path gives, in plain numbers; the judge is the Capsule's.
"""

import click
import numpy as np
from bench_judge_mines import affine_map, gradient, split

from capsule.judge import judge_round, score
from sonar.units import PPM, ether, format_ppm, round_ether

SEED, ROUNDS = 2, 3
TARGET, BOUNTY, BOND, SLASH = 920_000, ether(1), ether("0.001"), 100_000
NAMES = ("A", "B", "C", "D")


def rows() -> list[list[str]]:
    """One row a mine and round: round, mine, records, share, pay and bond lost in ether, reason; the scores between."""
    data = split("digits", SEED, len(NAMES))
    shares = [*data.shares[:-1], (data.shares[-1][0], np.random.default_rng(SEED).permutation(data.shares[-1][1]))]
    maps = [affine_map(data.spec, X, y) for X, y in shares]
    weights, now = data.start, score(data.validation, data.start)
    table = []
    for number in range(ROUNDS):
        gradients = [gradient(data.spec, affine, weights) for affine in maps]
        judged = judge_round(data.spec, data.validation, weights, now, gradients, bytes([number]))
        pay = BOUNTY * (min(judged.score, TARGET) - now) // TARGET
        rise = f"{format_ppm(now)} to {format_ppm(judged.score)}"
        for name, (_, y), result in zip(NAMES, shares, judged.results, strict=True):
            lost = 0 if result.kept else BOND * SLASH // PPM
            table.append([
                f"{number}: {rise}", f"{name} ({len(y)})", format_ppm(result.share),
                round_ether(pay * result.share // PPM), round_ether(lost), result.reason,
            ])  # fmt: skip
        if judged.weights is not None:
            weights, now = judged.weights, judged.score
    return table


@click.command(help=__doc__)
def main() -> None:
    click.echo("| round | mine (records) | share | ether | of the bond lost | reason |\n|---|---|---|---|---|---|")
    for row in rows():
        click.echo(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
