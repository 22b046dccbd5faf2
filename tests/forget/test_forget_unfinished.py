"""A collection that is unfinished loses what is forgotten and keeps hours of other work."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3

import pytest
import zstandard
from frozen_site import FrozenSite, Reply
from test_forget_spelling import TEXT, collected
from wiki_server import WikiServer

from lmcore.collect.fetched import FETCHED, Fetcher
from lmcore.collect.params import CollectRuntime
from lmcore.collect.responses import Before
from lmcore.collect.source import collect
from lmcore.collect.wikipedia import WikipediaSource
from lmcore.collect.wikipedia_store import PAGES
from lmcore.forget.takedown import carry_out, plan_takedown
from lmcore.forget.texts import forgotten_in
from lmcore.progress import silent
from storage.store import Store

SECRET = "Kajszi"


def everything(work):
    """What the databases of a work folder hold, unpacked."""
    found = []
    for name in (FETCHED, PAGES):
        if (work / name).exists():
            base = sqlite3.connect(work / name)
            for table, column in (("answer", "body"), ("page", "facts"), ("page", "raw")):
                if (name == FETCHED) == (table == "answer"):
                    rows = base.execute(f"select {column} from {table} where {column} is not null")
                    found += [zstandard.decompress(packed).decode() for (packed,) in rows]
            base.close()
    return found


def forget(store, what):
    with store.alone():
        takedown = plan_takedown(store, what)
        carry_out(store, takedown)
        assert plan_takedown(store, what).nothing_left
    return takedown


@pytest.mark.parametrize("finished", [True, False], ids=["also in an edition", "only in work"])
def test_a_wiki_goes_on_without_the_page(tmp_path, finished):
    store = Store(tmp_path / "store")
    with WikiServer() as wiki:
        for name in ("Alma", SECRET, "Szilva"):
            wiki.put(name, TEXT.format(name))
        source = WikipediaSource(name="wiki", site=wiki.api, all_pages=True, delay=0, retries=0, timeout=10)
        source = source.model_copy(update={"min_chars": 40})
        if finished:
            collected(store, wiki)
        work = store.work("collect", "77")
        given = {"edition": "two", "parent": None, "parent_digest": None, "locate": None, "params": source}
        given |= {"runtime": CollectRuntime(), "report": silent}
        collect(work, **given)
        shutil.rmtree(work / "out")
        assert any(SECRET in text for text in everything(work))
        forget(store, wiki.page_url(SECRET))
        assert not any(SECRET in text for text in everything(work) if "extract" in text or "categories" in text)
        wiki.texts.clear()
        collect(work, **given, forgotten=forgotten_in(store.root))
        assert not wiki.texts, "the other pages are not asked for again"


def test_answers_and_downloads_of_others_stay(tmp_path):
    store = Store(tmp_path / "store")
    with WikiServer() as wiki:
        for name in ("Alma", SECRET):
            wiki.put(name, TEXT.format(name))
        collected(store, wiki)
        secret = wiki.page_url(SECRET)
    work = store.work("collect", "88")
    bodies = {
        "/plain": f"<p>{TEXT.format('Other')}</p>",
        "/quotes": f"<p>{TEXT.format(SECRET).replace('and', '<b>and</b>')}</p>",
        "/file": "A file of quite other words than those.",
        "/packed": gzip.compress(b"nobody looks into it"),
    }
    with FrozenSite(pages={path: Reply(body=body) for path, body in bodies.items()}) as site:
        source = WikipediaSource(name="x", site=site.url + "/api.php", all_pages=True)
        before = Before(None, None, None, "", "", silent)
        local = {"private_sites": frozenset({site.url.partition("//")[2]}), "timeout": 10, "delay": 0}
        local |= {"max_bytes": 1_000_000, "retries": 0}
        with Fetcher.open(work, source, CollectRuntime(), before, silent, **local) as web:
            for path in ("/plain", "/quotes"):
                assert web.get(site.url + path).outcome == "ok"
            files = {path: web.download(site.url + path)[1] for path in ("/file", "/packed")}
    forget(store, secret)
    base = sqlite3.connect(work / FETCHED)
    left = [url for (url,) in base.execute("select url from answer order by url")]
    base.close()
    assert [url.removeprefix(site.url) for url in left] == ["/file", "/packed", "/plain"]
    assert files["/file"].exists()
    assert not files["/packed"].exists()
    assert json.dumps(everything(work)).count("Other") > 0


def test_a_database_that_cannot_be_read_goes_alone(tmp_path):
    store = Store(tmp_path / "store")
    with WikiServer() as wiki:
        wiki.put("Alma", TEXT.format("Alma"))
        wiki.put(SECRET, TEXT.format(SECRET))
        collected(store, wiki)
        secret = wiki.page_url(SECRET)
    work = store.work("collect", "99")
    for name in (FETCHED, PAGES):
        (work / name).write_bytes(b"no database at all" * 100)
    (work / "downloads").mkdir()
    (work / "downloads" / "plain").write_text("Quite other words.")
    forget(store, secret)
    assert sorted(path.name for path in work.rglob("*") if path.is_file()) == ["plain"]
