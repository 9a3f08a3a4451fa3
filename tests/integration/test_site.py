"""The documents build as a site without a warning, and its pages load nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mkdocs.config import load_config

import pysonar
import pysonar.aio
from sonar import audit

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def pages(site: Path) -> dict[str, str]:
    """Every page's HTML by its place in the site."""
    return {str(path.relative_to(site)): path.read_text() for path in site.rglob("*.html")}


def test_every_document_is_a_page_that_the_navigation_leads_to(site: Path):
    index = (site / "index.html").read_text()
    for document in (ROOT / "docs").rglob("*.md"):
        place = document.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / place).is_file()
        assert f'href="{place}"' in index or place == "index.html", place
    for notebook in (ROOT / "docs").rglob("*.ipynb"):
        place = notebook.relative_to(ROOT / "docs")
        assert (site / place).is_file()
        assert f'href="{place.with_suffix(".html").as_posix()}"' in index


def test_pages_load_nothing_from_elsewhere(site: Path):
    for place, page in pages(site).items():
        loaded = re.findall(r'<(?:script|img|iframe|source)[^>]*\ssrc="([^"]*)"', page)
        loaded += [link for link in re.findall(r"<link[^>]*>", page) if "canonical" not in link]
        assert loaded
        assert not [what for what in loaded if re.search(r"(https?:)?//", what)], place
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text()), style.name


def test_the_reference_has_every_public_name(site: Path):
    told = "".join(page for place, page in pages(site).items() if place.startswith("reference"))
    anchors = {anchor.rpartition(".")[2] for anchor in re.findall(r'id="((?:pysonar|sonar)\.[\w.]+)"', told)}
    assert not {*pysonar.__all__, *pysonar.aio.__all__, *pysonar.errors.__all__, *audit.__all__} - anchors


def test_the_navigation_names_no_page_twice():
    config = load_config(str(ROOT / "mkdocs.yml"))
    named = re.findall(r"[\w/-]+\.md", str(config.nav))
    assert len(named) == len(set(named))


def test_examples_trees_and_columns_of_docstrings_keep_their_lines(site: Path):
    page = (site / "reference" / "aio.html").read_text()
    assert 'class="gp">&gt;&gt;&gt; </span>' in page
    assert not re.search(r"<blockquote>\s*<blockquote>", "".join(pages(site).values()))
    tree = (site / "reference" / "errors.html").read_text()
    assert re.search(r"<code>[^/]*CampaignError[^/]*\n\|-- ModelError", re.sub(r"</?span[^>]*>|</?a[^>]*>", "", tree))
