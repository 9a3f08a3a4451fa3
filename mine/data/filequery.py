"""A query over files: that it only selects, and its files' relative names from the folder where they lie.

Whatever is read must stand in the query as a name: the names say what is watched for changes, what is digested for the
log, and which data sets share a privacy budget.
"""

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
_MAKERS = {"range", "generate_series", "unnest"}
"""Functions that give rows and read nothing."""
_FILE = re.compile(r".*\.(parquet|pq|csv|tsv|json|jsonl|ndjson)(\.gz|\.zst)?$", re.IGNORECASE)


def resolve_query(query: str, folder: Path) -> tuple[str, list[str]]:
    """The query with absolute names of files, and these names, which may be patterns.

    A file is what a reader such as read_parquet takes first, or a table that is named like a file. Raises DataError
    unless it is one SELECT that reads by these alone, and names each file by a text.
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
        _check_functions(tree)
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
        yield from _texts(node["function"]["function_name"], first[0]["expression"] if first else None)
    if node.get("type") == "BASE_TABLE":
        path = node["qualified_name"]["path"]
        if len(path) == 1 and _FILE.match(path[0]):
            node["table_name"] = path[0]
            yield path, 0
    for child in node.values():
        yield from _places(child)


def _texts(reader: str, node: Any) -> Iterator[tuple[Any, Any]]:
    """The text that is a reader's first argument, or those of a list."""
    if isinstance(node, dict) and node.get("class") == "CONSTANT" and node["literal"].get("kind") == "STRING":
        yield node["literal"], "text"
    elif isinstance(node, dict) and node.get("class") == "FUNCTION" and node["function_name"] == "list_value":
        for argument in node["arguments"]:
            yield from _texts(reader, argument["expression"])
    else:
        raise DataError(f"the query has {reader} read what it computes: name each file by a text, such as 'visits.csv'")


def _check_functions(tree: Any) -> None:
    """Raises DataError for what reads without names of files, and for parts of the query that are named like files."""
    for node in _nodes(tree):
        if node.get("type") == "SHOW_REF":
            raise DataError(ONE_SELECT)
        if node.get("type") == "TABLE_FUNCTION":
            name = node["function"]["function_name"].lower()
            if not _READERS.match(name) and name not in _MAKERS:
                raise DataError(
                    f"the query takes rows from {name}: only read_csv, read_parquet, read_json, tables that are named "
                    f"like files, {', '.join(sorted(_MAKERS))} give some"
                )
        for part in (node.get("cte_map") or {}).get("map", ()):
            if _FILE.match(part["key"]):
                raise DataError(
                    f"the query calls a part of itself {part['key']!r:.80}, like a file: give it another name"
                )


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _nodes(child)


def _first_lines(error: BaseException) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:3])[:500]
