"""Collecting what was forgotten: by URL, by where a page leads, by its text. Links are followed all the same."""

from __future__ import annotations

import shutil
import sqlite3

import pytest
from frozen_site import FrozenSite, Reply
from helpers_collect import digests, documents, log, nowhere, web

from lmcore.collect.params import CollectRuntime, FilesSource
from lmcore.collect.source import collect
from lmcore.collect.web import FRONTIER
from lmcore.forget.texts import Forgotten, text_digest
from lmcore.progress import silent
from storage.errors import RunError

SECRET = "What stands on this page was taken back by the one who wrote it. " * 6
PLAIN = "These are enough words for a page to become a record of its own. " * 6


def page(text, *links):
    anchors = "".join(f'<a href="{link}">on</a> ' for link in links)
    return Reply(body=f"<html><head><title>t</title></head><body><p>{text}</p>{anchors}</body></html>")


@pytest.fixture
def site():
    pages = {
        "/": page(PLAIN, "/a", "/moved", "/twin"),
        "/a": page(SECRET, "/b"),
        "/b": page(PLAIN + "Page b."),
        "/moved": Reply(status=301, headers={"Location": "/b2"}),
        "/b2": page(PLAIN + "Page b2."),
        "/twin": page(SECRET.upper().replace(" ", "  "), "/c"),
        "/c": page(PLAIN + "Page c."),
    }
    with FrozenSite(pages=pages, robots=Reply(404)) as site:
        yield site


def run(work, params, forgotten):
    return collect(
        work, edition="first", parent=None, parent_digest=None, locate=nowhere, params=params,
        runtime=CollectRuntime(), report=silent, forgotten=forgotten,
    )  # fmt: skip


def paths(work, site):
    return sorted(row["url"].removeprefix(site.url) for row in documents(work))


def test_nothing_forgotten_changes_no_byte(site, tmp_path):
    run(tmp_path / "one", web(site), None)
    run(tmp_path / "two", web(site), Forgotten())
    run(tmp_path / "three", web(site), Forgotten(frozenset({"http://elsewhere/"}), frozenset({"0"}), frozenset({"1"})))
    assert digests(tmp_path / "one" / "out") == digests(tmp_path / "two" / "out") == digests(tmp_path / "three" / "out")


def test_by_url_and_by_text_and_the_pages_behind_are_found(site, tmp_path):
    run(tmp_path / "before", web(site), None)
    (text,) = (row["text"] for row in documents(tmp_path / "before") if row["url"].endswith("/a"))
    shutil.rmtree(tmp_path / "before")
    forgotten = Forgotten(urls=frozenset({f"{site.url}/a"}), texts=frozenset({text_digest(text)}))
    metrics = run(tmp_path, web(site), forgotten)
    assert paths(tmp_path, site) == ["/", "/b", "/b2", "/c"]
    assert (metrics["records"], metrics["failed"]) == (4, 0)
    assert {row["url"].removeprefix(site.url): row["outcome"] for row in log(tmp_path)} == {
        "/": "ok", "/a": "forgotten", "/moved": "ok", "/twin": "forgotten", "/b": "ok", "/c": "ok",
    }  # fmt: skip
    for path in tmp_path.glob(f"{FRONTIER}*"):
        assert b"taken back" not in path.read_bytes().lower()
    with sqlite3.connect(tmp_path / FRONTIER) as base:
        kept = base.execute("select title, text, length(body), etag from page where outcome = 'forgotten'").fetchall()
    base.close()
    assert kept == [("", "", 0, ""), ("", "", 0, "")]


@pytest.mark.parametrize("name", ["/moved", "/b2"])
def test_both_ends_of_a_redirect_are_the_page(site, tmp_path, name):
    run(tmp_path, web(site), Forgotten(urls=frozenset({site.url + name})))
    assert "/b2" not in paths(tmp_path, site)
    assert "/b" in paths(tmp_path, site)


def test_a_seed_that_is_forgotten_still_leads_on(site, tmp_path):
    run(tmp_path, web(site), Forgotten(urls=frozenset({site.url + "/"})))
    assert paths(tmp_path, site) == ["/a", "/b", "/b2", "/c", "/twin"]


def test_a_crawl_that_had_read_the_page_before_leaves_it_out(site, tmp_path, monkeypatch):
    monkeypatch.setattr("lmcore.collect.source._write", lambda *_: {})
    run(tmp_path, web(site), None)
    monkeypatch.undo()
    metrics = run(tmp_path, web(site), Forgotten(urls=frozenset({f"{site.url}/a"})))
    assert "/a" not in paths(tmp_path, site)
    assert metrics["records"] == 5
    (row,) = (row for row in log(tmp_path) if row["url"].endswith("/a"))
    assert row["outcome"] == "forgotten"


def test_a_collection_with_nothing_else_fails(site, tmp_path):
    with pytest.raises(RunError, match="1 forgotten"):
        run(tmp_path, web(site, max_pages=1), Forgotten(urls=frozenset({site.url + "/"})))


def test_files(tmp_path):
    for name, text in (("a", SECRET), ("b", PLAIN), ("c", SECRET.lower()), ("d", PLAIN + "More.")):
        (tmp_path / f"{name}.txt").write_text(text)
    source = FilesSource(name="files", base=str(tmp_path), paths=("*.txt",))
    forgotten = Forgotten(urls=frozenset({"file:b.txt"}), texts=frozenset({text_digest(SECRET)}))
    run(tmp_path / "work", source, forgotten)
    assert [row["url"] for row in documents(tmp_path / "work")] == ["file:d.txt"]
    assert [row["outcome"] for row in log(tmp_path / "work")] == ["forgotten", "forgotten", "forgotten", "ok"]
