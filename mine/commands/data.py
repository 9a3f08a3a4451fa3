"""`mine add`: the data sets that the mine trains on."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mine.commands import options
from sonar.cli_support import echo_json, talk

if TYPE_CHECKING:
    from mine.data import Dataset

__all__ = ["add"]

_LONGEST_SECONDS = 7 * 24 * 3600.0
"""For reading a data set once; who waits for it can stop it."""
_MANY_CLASSES = 20
"""More different numbers than these are hardly classes, though a campaign may take them for such."""


@click.command()
@click.argument("name")
@click.argument("source", required=False)
@click.option("--target", "targets", multiple=True, metavar="COLUMN",
              help="The column with each record's class or number; several times for several numbers. Images whose "
              "sub-folders are their labels need none.")  # fmt: skip
@click.option("--sql", metavar="QUERY", help="Take what this SELECT gives: of a database, or of files in a folder.")
@click.option("--table", metavar="TABLE", help="Take this table of a database.")
@click.option("--ignore", multiple=True, metavar="COLUMN", help="A column to leave out; may be given several times.")
@click.option("--alias", "aliases", multiple=True, metavar="FEATURE=COLUMN", callback=options.pairs,
              help="Which column a campaign's feature is, where the names differ.")  # fmt: skip
@click.option("--unit", "units", multiple=True, metavar="COLUMN=UNIT", callback=options.pairs,
              help="A column's unit, compared with the campaign's.")  # fmt: skip
@click.option("--replace", is_flag=True, help="Put this data set in the place of the one with the same name.")
@options.home
@options.as_json
def add(
    name: str, source: str | None, targets: tuple[str, ...], sql: str | None, table: str | None,
    ignore: tuple[str, ...], aliases: tuple[tuple[str, str], ...], units: tuple[tuple[str, str], ...], replace: bool,
    home: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Add the data set NAME, which stays where it is.

    SOURCE is a file (.csv, .parquet, .jsonl, .sqlite), a pattern of Parquet or JSON files ('visits/*.parquet'), a
    folder of images, a folder of files to ask with --sql (this one, unless you name it), or a PostgreSQL database
    (postgresql://user@host/name, its password where libpq looks for it).
    """
    from mine.apart.workroom import Limits, Workroom
    from mine.data import Kind, Source
    from mine.home import Home
    from mine.privacy.budgets import said_of_place

    if source is None and sql is None:
        raise click.UsageError("name the SOURCE: a file, a folder or a database")
    Home(home).require()
    rule = Home(home).policy().privacy
    with Home(home).ledger() as ledger:
        dataset = Workroom(talk, home=Home(home).path).inspect(
            name, Source.of(source or ".", query=sql, table=table), targets, ignored=ignore, aliases=aliases,
            units=units, limits=Limits(seconds=_LONGEST_SECONDS),
        )  # fmt: skip
        ledger.add_dataset(dataset, replace=replace)
        shared = said_of_place(ledger, dataset, rule)
    if as_json:
        echo_json(_report(dataset))
        return
    if dataset.source.kind is Kind.IMAGES:
        columns = "images"
    else:
        columns = f"{len([c for c in dataset.columns if c.name not in dataset.targets])} numeric columns"
    what = f"{len(dataset.labels)} classes" if dataset.labels else "numbers"
    if len(dataset.labels) > _MANY_CLASSES and set(dataset.targets) <= {column.name for column in dataset.columns}:
        what = f"{len(dataset.labels)} different numbers"
    click.echo(f"{name}: {dataset.records} records, {columns}, {what} in {', '.join(map(repr, dataset.targets))}")
    for fault in faults(dataset):
        talk(fault)
    if shared:
        talk(shared)


def faults(dataset: "Dataset") -> list[str]:
    """What the owner should know of records that cannot be trained on."""
    from mine.data.dataset import gaps, listed, no_images, records_have

    found: list[str] = []
    faulty = [column for column in dataset.columns if column.missing or column.bad]
    found += [f"column {column.name!r} has {gaps(column)}" for column in faulty[:8]]
    if len(faulty) > 8:
        found.append(f"and so have {len(faulty) - 8} columns more")
    if dataset.unlabelled:
        found.append(f"{records_have(dataset.unlabelled)} no label")
    if dataset.bad_images:
        found.append(f"{no_images(dataset.bad_images)} that can be decoded")
    if found:
        found.append(
            "a campaign that needs these is refused, or such records are dropped, as on_bad_records in the policy says"
        )
    found += dataset.remarks
    if dataset.left:
        found.append(f"left alone, because they hold no numbers: {listed(dataset.left)}")
    return found


def _report(dataset: "Dataset") -> dict[str, Any]:
    return {
        "name": dataset.name, **dataset.source.to_dict(), "targets": list(dataset.targets), "records": dataset.records,
        "columns": [
            {"name": column.name, "type": column.type, "unit": column.unit, "minimum": column.minimum,
             "maximum": column.maximum, "missing": column.missing, "bad": column.bad, "reading": column.reading}
            for column in dataset.columns
        ],
        "labels": dict(dataset.labels), "left": list(dataset.left), "unlabelled": dataset.unlabelled,
        "bad_images": dataset.bad_images, "remarks": list(dataset.remarks), "aliases": dict(dataset.aliases),
        "fingerprint": dataset.fingerprint,
    }  # fmt: skip
