"""URLs as wikis and feeds spell them are found, whichever spelling is asked for."""

from __future__ import annotations

import pyarrow as pa
import pytest
import store_of_texts as shop
from wiki_server import WikiServer

from lmcore.collect.params import CollectRuntime
from lmcore.collect.responses import RESPONSES
from lmcore.collect.source import collect
from lmcore.collect.wikipedia import WikipediaSource
from lmcore.forget.takedown import carry_out, plan_takedown
from lmcore.forget.texts import Forgotten, forgotten_in
from lmcore.progress import silent
from storage.parquet import read_parquet
from storage.store import Store

TEXT = "The {0} is a thing that has been written about at length. {0} again, and {0} once more."


def collected(store, wiki):
    source = WikipediaSource(
        name="wiki", site=wiki.api, all_pages=True, delay=0, retries=0, timeout=10, min_chars=40
    )  # fmt: skip

    def build(work):
        collect(
            work, edition="one", parent=None, parent_digest=None, locate=None, params=source,
            runtime=CollectRuntime(), report=silent, forgotten=forgotten_in(store.root),
        )  # fmt: skip

    return shop.made(store, "collect", {}, {"source": source.key_values()}, build)


@pytest.mark.parametrize("spelled", ["Schindler%27s_List", "Schindler's_List", "Schindler%27s%5fList"])
def test_a_wiki_page_by_any_spelling(tmp_path, spelled):
    store = Store(tmp_path / "store")
    with WikiServer() as wiki:
        for name in ("Alma", "Schindler's List", "Szilva"):
            wiki.put(name, TEXT.format(name))
        artifact = collected(store, wiki)
        page = wiki.page_url("Schindler's List")
    with store.alone():
        takedown = plan_takedown(store, page.rpartition("/")[0] + "/" + spelled)
        carry_out(store, takedown)
    assert [row["title"] for row in takedown.found.rows.values()] == ["Schindler's List"]
    answers = [row for path in sorted((artifact.path / RESPONSES).glob("*.parquet")) for row in rows_of(path)]
    assert len(answers) == 3, "of the wiki itself and of two pages"
    assert not any(b"Schindler" in (row["body"] or b"") for row in answers)
    forgotten = forgotten_in(store.root)
    assert forgotten.page(page)
    assert forgotten.page(page.replace("%27", "'"))
    assert not forgotten.page(page + "s")


def rows_of(path):
    return read_parquet(path).to_pylist()


def test_both_sides_are_compared_in_every_spelling():
    urls = [
        "https://x.org/wiki/It%27s",
        "https://x.org/wiki/It's",
        "HTTPS://X.org:443/wiki/It's",
        "https://x.org/wiki/I",
    ]
    table = pa.table({"record_id": list("abcd"), "url": urls})
    for url in urls[:3]:
        assert Forgotten(urls=frozenset({url})).named(table).to_pylist() == [True, True, True, False], url


def test_what_stands_behind_the_hash_names_one_text_of_a_feed():
    forgotten = Forgotten(urls=frozenset({"https://x.org/feed's#id-1"}))
    assert forgotten.page("https://x.org/feed%27s#id-1")
    assert not forgotten.page("https://x.org/feed's#id-2", "https://x.org/feed's")
