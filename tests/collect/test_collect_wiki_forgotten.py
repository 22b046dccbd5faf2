"""Pages of wikis that were taken down: not asked for, not stored, whatever the spelling of their URL."""

import pytest
from helpers_collect import documents, log, nowhere
from test_collect_wiki_dumps import NAME, pages, write_dump
from wiki_server import WikiServer

from lmcore.collect.params import CollectRuntime
from lmcore.collect.responses import RESPONSES
from lmcore.collect.source import collect
from lmcore.collect.wikipedia import WikipediaSource
from lmcore.forget.texts import Forgotten, text_digest
from lmcore.progress import silent
from storage.parquet import read_parquet

FAST = {"delay": 0, "retries": 2, "timeout": 10, "min_chars": 40}
TEXT = "The {0} is a thing that has been written about at length. {0} again, and {0} once more."
SECRET = "Kajszi"  # page 2


@pytest.fixture
def wiki():
    with WikiServer() as wiki:
        for name in ("Alma", SECRET, "Szilva", "Dió"):
            wiki.put(name, TEXT.format(name))
        yield wiki


def run(work, params, forgotten=None, parent=None, edition="first"):
    return collect(
        work, edition=edition, parent=parent, parent_digest="d0" if parent else None,
        locate=(lambda _: parent) if parent else nowhere, params=params, runtime=CollectRuntime(), report=silent,
        forgotten=forgotten,
    )  # fmt: skip


def source(wiki, **more):
    return WikipediaSource(**{"name": "wiki", "site": wiki.api, "all_pages": True, **FAST, **more})


def bodies(out):
    found = [read_parquet(path) for path in sorted((out / RESPONSES).glob("*.parquet"))]
    return b"".join(row["body"] or b"" for table in found for row in table.to_pylist()).decode()


def outcome(work, url):
    return [row["outcome"] for row in log(work) if row["url"] == url]


@pytest.mark.parametrize("extractor", ["extracts", "wikitext"])
def test_a_page_that_was_taken_down_is_neither_asked_for_nor_stored(tmp_path, wiki, extractor):
    url = wiki.page_url(SECRET)
    run(tmp_path, source(wiki, extractor=extractor), Forgotten(urls=frozenset({url})))
    assert {row["title"] for row in documents(tmp_path)} == {"Alma", "Szilva", "Dió"}
    assert outcome(tmp_path, url) == ["forgotten"]
    assert set(wiki.texts) == {1, 3, 4}
    assert SECRET not in bodies(tmp_path / "out")


def test_a_text_that_was_taken_down_is_stored_nowhere_and_asked_for_once(tmp_path, wiki):
    url = wiki.page_url(SECRET)
    forgotten = Forgotten(texts=frozenset({text_digest(TEXT.format(SECRET).upper())}))
    first = tmp_path / "one"
    run(first, source(wiki), forgotten)
    assert outcome(first, url) == ["forgotten"]
    assert SECRET not in bodies(first / "out")
    wiki.texts.clear()
    run(tmp_path / "two", source(wiki), forgotten, parent=first / "out", edition="second")
    assert not wiki.texts
    assert SECRET not in bodies(tmp_path / "two" / "out")


def test_a_page_of_a_dump_that_was_taken_down_is_not_read(tmp_path):
    write_dump(tmp_path / NAME, pages(5))
    given = WikipediaSource(name="wiki", base=str(tmp_path), paths=(NAME,), min_chars=20)
    run(tmp_path / "all", given)
    by_title = {row["title"]: row for row in documents(tmp_path / "all")}
    forgotten = Forgotten(
        urls=frozenset({by_title["Szó 2"]["url"]}), texts=frozenset({text_digest(by_title["Szó 3"]["text"])})
    )
    run(tmp_path / "less", given, forgotten)
    assert {row["title"] for row in documents(tmp_path / "less")} == {"Szó 0", "Szó 1", "Szó 4"}
    for title in ("Szó 2", "Szó 3"):
        assert outcome(tmp_path / "less", by_title[title]["url"]) == ["forgotten"]
