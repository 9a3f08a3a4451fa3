"""Docstrings as Markdown, for `mkdocs build` (mkdocs.yml): examples, trees and columns keep their lines.

In a terminal and an editor these stand as they are written; Markdown would make quotations of the one and one long line
of the others.
"""

import re
from typing import Any

import griffe

_COLUMNS = re.compile(r"\S.*? {2,}\S.*|[|`]--.*")


class Fences(griffe.Extension):
    """Puts such paragraphs between fences."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each object with its docstring as it is in the source."""
        if obj.docstring:
            obj.docstring.value = "\n\n".join(fenced(part) for part in obj.docstring.value.split("\n\n"))


def fenced(paragraph: str) -> str:
    """A paragraph as Markdown that shows it as it is."""
    lines = paragraph.splitlines()
    if paragraph.startswith(">>>"):
        return f"```pycon\n{paragraph}\n```"
    if sum(bool(_COLUMNS.fullmatch(line)) for line in lines) > len(lines) / 2:
        return f"```text\n{paragraph}\n```"
    return paragraph
