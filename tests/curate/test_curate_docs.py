"""The pages about curation against the code: pieces of recipes load, queries run, links lead somewhere."""

import re
from pathlib import Path

import pytest
import yaml
from corpus_store import whole_store

from lmcore.recipe import load_recipe
from storage.catalog import Catalog

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "curate.md", *sorted((DOCS / "curation").glob("*.md"))]


def snippets(language):
    """Every block of this language, named by page and number."""
    found = []
    for page in PAGES:
        blocks = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        for number, block in enumerate(blocks):
            found.append(pytest.param(block, id=f"{page.stem}-{number}"))
    return found


def queries():
    """Every statement of every block of SQL."""
    found = []
    for block in snippets("sql"):
        for number, query in enumerate(block.values[0].split(";")):
            if re.sub(r"--.*", "", query).strip():
                found.append(pytest.param(query, id=f"{block.id}-{number}"))
    return found


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    store, _ = whole_store(tmp_path_factory.mktemp("corpus"))
    return Catalog(store)


def test_there_are_some_of_each():
    assert len(snippets("yaml")) >= 8
    assert len(queries()) >= 18


@pytest.mark.parametrize("piece", snippets("yaml"))
def test_a_piece_of_a_recipe_loads(tmp_path, piece):
    (tmp_path / "x.yaml").write_text(f"extends: quickstart\n{piece}", encoding="utf-8")
    (section,) = load_recipe(str(tmp_path / "x.yaml")).model_dump(include=set(yaml.safe_load(piece))).values()
    assert section


@pytest.mark.parametrize("query", queries())
def test_a_query_runs(catalog, query):
    assert catalog.query(query).num_columns


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link
