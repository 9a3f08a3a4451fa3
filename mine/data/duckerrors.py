"""What DuckDB says of a fault, in a sentence and without any value of a record."""

import re

from mine.data.source import Kind

__all__ = ["MEMORY", "problem_of"]

MEMORY = "1GB"
"""What DuckDB may use; streamed files need a small part of it, sorts and joins of a query as much as their tables."""
_WIDTHS = re.compile(r"Expected Number of Columns: \d+ Found: \d+")
_VALUE = re.compile(r"^(Conversion|Invalid Input|Out of Range) Error: (?!CSV Error|Malformed JSON in file)")
"""Errors of a query's functions, which repeat the value that they could not take."""


def problem_of(kind: Kind, message: str) -> str:
    """What follows the name of a source of that kind, from DuckDB's own message."""
    if kind is Kind.SQL and _VALUE.match(message):
        return "has a value that the query's functions cannot take: use try_cast, or leave such records out"
    told, _, rest = message.partition("Original Line:")  # DuckDB shows the record itself next
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    lines += [found[0] for found in (_WIDTHS.search(rest),) if found]
    problem = " ".join(lines[:3])[:500]
    if "state machine" in problem:  # what DuckDB says where line ends change, e.g. from \r\n to \n
        problem = "its lines do not all end alike, or its quotes do not match: save it anew"
    if "Out of Memory" in problem:
        return f"takes more than {MEMORY} of memory to be read: ask for less, without sorts and joins of large tables"
    if "file system operations are disabled" in problem:
        return "is all that the query may read: name files below this folder"
    what = {Kind.CSV: "CSV file", Kind.PARQUET: "Parquet file", Kind.JSONL: "file of JSON lines", Kind.SQL: "query"}
    return f"is not a readable {what[kind]}: {problem}"
