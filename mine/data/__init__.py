"""The owner's data sets: where their records are, what they hold, which campaigns they fit, and one pass over them.

    Source --inspect--> Dataset --match--> Match --gather--> sums over the records, and a record of what was read

Adapters read CSV, Parquet, JSON lines, SQLite, PostgreSQL, folders of images, and SQL over files; each gives a chunk at
a time, and nothing but the sums over the chunks outlives a pass. A dataset or match is text in the ledger (`to_text`).
"""

from mine.data.dataset import Column, Dataset, listed
from mine.data.footprint import source_state
from mine.data.gathering import OnBad, Pass, Provenance, check_gathered, gather
from mine.data.inspecting import inspect
from mine.data.likeness import Guess
from mine.data.links import How, Link, Match
from mine.data.matching import consider, match, nearness
from mine.data.source import Kind, Source
from mine.data.watching import file_state

__all__ = [
    "Column", "Dataset", "Guess", "How", "Kind", "Link", "Match", "OnBad", "Pass", "Provenance", "Source",
    "check_gathered", "consider", "file_state", "gather", "inspect", "listed", "match", "nearness", "source_state",
]  # fmt: skip
