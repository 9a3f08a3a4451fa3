"""`mine add`: the data sets that the mine trains on."""

from pathlib import Path

import click

from mine.commands import options
from sonar.cli_support import echo_json

__all__ = ["add"]


@click.command()
@click.argument("name")
@click.argument("csv", type=click.Path(path_type=Path))
@click.option("--target", required=True, metavar="COLUMN", help="The column with the class of each record.")
@click.option("--ignore", multiple=True, metavar="COLUMN", help="A column to leave out; may be given several times.")
@click.option("--replace", is_flag=True, help="Put this data set in the place of the one with the same name.")
@options.home
@options.as_json
def add(
    name: str, csv: Path, target: str, ignore: tuple[str, ...], replace: bool, home: Path | None, as_json: bool
) -> None:
    """Add the data set NAME: a CSV file with a header row. The file stays where it is."""
    from mine.data import inspect
    from mine.home import Home

    with Home(home).ledger() as ledger:
        dataset = inspect(name, csv, target, ignore)
        ledger.add_dataset(dataset, replace=replace)
    if as_json:
        echo_json({"name": name, "path": str(dataset.path), "target": target, "records": dataset.records,
                   "columns": list(dataset.columns), "labels": dict(dataset.labels)})  # fmt: skip
    else:
        click.echo(f"{name}: {dataset.records} records, {len(dataset.columns)} numeric columns, "
                   f"{len(dataset.labels)} classes in {target!r}")  # fmt: skip
