"""What the commands share: their options."""

from pathlib import Path

import click

__all__ = ["as_json", "home", "network", "pairs", "patience", "small_key"]

home = click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), help="The mine's home (default: SONAR_MINE_HOME)."
)
network = click.option(
    "--network", type=click.Path(dir_okay=False, path_type=Path), help="The network file (default: SONAR_NETWORK)."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
small_key = click.option("--allow-insecure-small-key", "small_key", is_flag=True, hidden=True)
patience = click.option(
    "--patience", default=30.0, show_default=True, type=click.FloatRange(min=0.1), metavar="SECONDS",
    help="How long to wait for one answer or transaction before trying again later.",
)  # fmt: skip


def pairs(_context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """What is written LEFT=RIGHT, of which the right side may hold the sign again."""
    found = []
    for value in values:
        left, sign, right = value.partition("=")
        if not (sign and left.strip() and right.strip()):
            raise click.BadParameter(f"{value!r} is not of the form {option.metavar}")
        found.append((left.strip(), right.strip()))
    return tuple(found)
