"""What `mkdocs build` does besides (mkdocs.yml): notebooks become pages, and links out of docs/ become words."""

import re
from itertools import groupby
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds a page for each notebook; the notebook itself stays beside it, to be taken home."""
    for path in sorted(Path(config.docs_dir).glob("notebooks/*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=notebook_page(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Leads links to notebooks to their pages; of what lies outside of docs/, and so of the site, the name remains."""
    markdown = re.sub(r"\]\(([\w/.-]+)\.ipynb\)", r"](\1.md)", markdown)
    beyond = r"\.\./" * (page.file.src_uri.count("/") + 1)
    return re.sub(rf"\[([^\]]*)\]\({beyond}[^)]*\)", r"\1", markdown)


def notebook_page(path: Path) -> str:
    """A notebook as Markdown: its text, its code, and what that has shown."""
    pieces = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            pieces.append(cell.source)
        else:
            pieces.append(f"```python\n{cell.source}\n```")
            for plain, several in groupby(cell.outputs, _is_plain):
                outputs = list(several)
                pieces += [_plain("".join(map(_text_of, outputs)))] if plain else map(_shown, outputs)
    return "\n\n".join([*pieces, f'<a href="{path.name}" download>This notebook</a> to run it yourself.'])


def _is_plain(output: dict[str, Any]) -> bool:
    """Whether a terminal would show it as well; such outputs, one after another, are one text."""
    return output["output_type"] == "stream" or not _drawn(output)


def _text_of(output: dict[str, Any]) -> str:
    return str(output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"])


def _drawn(output: dict[str, Any]) -> bool:
    return "image/png" in output["data"] or "<table" in output["data"].get("text/html", "")


def _shown(output: dict[str, Any]) -> str:
    data = output["data"]
    if "image/png" in data:
        return f'<img alt="{data["text/plain"]}" src="data:image/png;base64,{data["image/png"].strip()}">'
    # In the site's style instead of its own, and without blank lines, at which Markdown would begin anew.
    table = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
    table = table.replace(' border="1" class="dataframe"', "")
    return re.sub(r"\s*\n\s*", "\n", table).strip()


def _plain(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"
