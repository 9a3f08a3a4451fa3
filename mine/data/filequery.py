"""A query over files: that it only selects, and its files' relative names from the folder where they lie."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from mine.errors import DataError

__all__ = ["ONE_SELECT", "resolve_query"]

ONE_SELECT = "the query must be one SELECT, which reads and changes nothing: write it as such"
_READERS = re.compile(r"(read_(parquet|csv|csv_auto|json|json_auto|ndjson|ndjson_auto)|parquet_scan)$")
_FILE = re.compile(r".*\.(parquet|pq|csv|tsv|json|jsonl|ndjson)(\.gz|\.zst)?$", re.IGNORECASE)


def resolve_query(query: str, folder: Path) -> tuple[str, list[str]]:
    """The query with absolute names of files, and these names, which may be patterns.

    A file is what a reader such as read_parquet takes first, or a table that is named like a file. Raises DataError
    unless it is one SELECT.
    """
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise DataError(f"the query cannot be understood: {_first_lines(error)}") from error
    if len(statements) != 1 or statements[0].type is not duckdb.StatementType.SELECT:
        raise DataError(ONE_SELECT)
    with duckdb.connect(":memory:", config={"threads": 1}) as parser:
        parser.execute("SET enable_external_access = false")
        tree = json.loads(_value(parser, "SELECT json_serialize_sql(?)", query))
        if tree["error"]:
            raise DataError(ONE_SELECT)
        files: list[str] = []
        for holder, key in _places(tree):
            name = str(holder[key])
            absolute = str(folder / name)
            holder[key] = absolute
            if absolute not in files:
                files.append(absolute)
        return _value(parser, "SELECT json_deserialize_sql(?)", json.dumps(tree)), files


def _value(parser: duckdb.DuckDBPyConnection, query: str, text: str) -> str:
    rows = parser.execute(query, [text]).fetchall()
    return str(rows[0][0])


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Where names of files stand in the tree of a query."""
    if isinstance(node, list):
        for child in node:
            yield from _places(child)
    if not isinstance(node, dict):
        return
    if node.get("type") == "TABLE_FUNCTION" and _READERS.match(node["function"]["function_name"].lower()):
        first = node["function"]["arguments"][:1]
        yield from _texts(first[0]["expression"] if first else None)
    if node.get("type") == "BASE_TABLE":
        path = node["qualified_name"]["path"]
        if len(path) == 1 and _FILE.match(path[0]):
            node["table_name"] = path[0]
            yield path, 0
    for child in node.values():
        yield from _places(child)


def _texts(node: Any) -> Iterator[tuple[Any, Any]]:
    """Texts in an argument: one, or those of a list."""
    if not isinstance(node, dict):
        return
    if node.get("class") == "CONSTANT" and node["literal"].get("kind") == "STRING":
        yield node["literal"], "text"
    elif node.get("class") == "FUNCTION":
        for argument in node["arguments"]:
            yield from _texts(argument["expression"])


def _first_lines(error: BaseException) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:3])[:500]
