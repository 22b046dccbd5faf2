"""Feeds: articles behind the entries, editions that ask for what is new only, and whatever may come as a feed."""

import contextlib
import json
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from html import escape

import pytest
from frozen_site import FrozenSite, Reply
from helpers_collect import broken, damage, digests, documents, log, outcomes, run
from hypothesis import given
from hypothesis import strategies as st
from test_collect_unchanged import Editions

from lmcore.collect.feed_entries import read_feed
from lmcore.collect.feed_params import FeedSource
from lmcore.collect.presets import Preset
from lmcore.collect.unpack import Unreadable
from lmcore.forget.texts import Forgotten
from storage.errors import RunError

WORDS = "The harvest was good this year and the mill by the river ran day and night. "


def article(number, words=WORDS, **kwargs):
    body = (
        f"<html lang='en'><head><title>Page {number}</title></head><body><nav>menu</nav><main><h1>Story {number}</h1>"
    )
    return Reply(body=body + f"<p>Number {number}. {words * 5}</p></main></body></html>", **kwargs)


def item(number, *, link=None, guid=True, date=True, text="A short summary.", updated=""):
    parts = [f"<title>Story {number}</title>", f"<description>{escape(text)}</description>"]
    parts += [f"<link>{link or f'/story/{number}'}</link>"] if link != "" else []
    parts += [f'<guid isPermaLink="false">id-{number}</guid>'] if guid else []
    when = updated or format_datetime(datetime(2026, 11, 1, number % 24, tzinfo=UTC))
    parts += [f"<pubDate>{when}</pubDate>"] if date else []
    return f"<item>{''.join(parts)}<category>News</category><category>Mills</category></item>"


def rss(*items, head=""):
    return (
        '<?xml version="1.0" encoding="utf-8"?><rss version="2.0"><channel><title>Mills</title><language>en</language>'
        f"<copyright>All rights reserved</copyright>{head}{''.join(items)}</channel></rss>"
    )


def feed_reply(*items, **kwargs):
    return Reply(body=rss(*items, **kwargs), content_type="application/rss+xml")


def site_of(*numbers):
    pages = {f"/story/{number}": article(number) for number in range(12)}
    return FrozenSite(pages={**pages, "/feed": feed_reply(*map(item, numbers))})


def source(site, **params):
    given = {"name": "mills", "feeds": (f"{site.url}/feed",), "delay": 0, "timeout": 10, "retries": 0}
    return FeedSource(**{**given, **params})


def parsed(text, **kwargs):
    return read_feed(text if isinstance(text, bytes) else text.encode(), "https://example.org/feed", **kwargs)


class TestArticles:
    def test_a_record_is_the_article(self, tmp_path):
        with site_of(1, 2) as site:
            metrics = run(tmp_path, source(site))
        assert metrics["records"] == 2
        row = documents(tmp_path)[0]
        assert row["url"] == f"{site.url}/story/1" == row["page_of_origin"]
        assert (row["title"], row["lang"], row["license"]) == ("Story 1", "en", "unknown")
        assert "Number 1." in row["text"]
        assert "menu" not in row["text"]
        assert row["tags"] == [("categories", "News; Mills")]
        meta = json.loads(row["meta"])
        assert meta["extractor"] == "trafilatura"
        assert (meta["date"], meta["rights"]) == ("2026-11-01T01:00:00+00:00", "All rights reserved")
        assert meta["entry"] == {
            "feed": f"{site.url}/feed", "id": "id-1", "version": "Sun, 01 Nov 2026 01:00:00 +0000",
        }  # fmt: skip
        assert outcomes(tmp_path) == {"/feed": "ok", "/story/1": "ok", "/story/2": "ok"}

    def test_a_preset_of_the_recipe_reads_the_pages(self, tmp_path):
        preset = Preset(name="mine", hosts=("127.0.0.1",), text=("h1",))
        with site_of(1) as site:
            run(tmp_path, source(site, presets=(preset,), min_chars=1))
        assert documents(tmp_path)[0]["text"] == "Story 1"
        assert json.loads(documents(tmp_path)[0]["meta"])["extractor"] == "preset:mine"

    def test_the_feeds_own_text(self, tmp_path):
        text = f"<p>{WORDS * 4}</p><script>alert(1)</script><p>See <a href='/x'>there</a>.</p>"
        with FrozenSite(pages={"/feed": feed_reply(item(1, text=text), item(2))}) as site:
            run(tmp_path, source(site, follow="summary"))
        (row,) = documents(tmp_path)
        assert row["text"] == f"{(WORDS * 4).strip()}\nSee there."
        assert json.loads(row["meta"])["extractor"] == "feed"
        assert outcomes(tmp_path) == {"/feed": "ok", "/story/2": "short"}
        assert set(site.requests) == {"/robots.txt", "/feed"}

    def test_both_take_the_feeds_text_where_the_page_has_none(self, tmp_path):
        items = [item(number, text=WORDS * 4) for number in (1, 2)]
        with FrozenSite(pages={"/feed": feed_reply(*items), "/story/1": article(1)}) as site:
            run(tmp_path, source(site, follow="both"))
        texts = {row["url"][-1]: row["text"] for row in documents(tmp_path)}
        assert "Number 1." in texts["1"]
        assert texts["2"] == (WORDS * 4).strip()

    def test_articles_of_other_hosts_only_where_allowed(self, tmp_path):
        with site_of(1) as other, FrozenSite(pages={}) as site:
            link = f"{other.url}/story/1"
            leads_out = Reply(302, headers={"Location": link})
            site.replies["/feed"] = [feed_reply(item(1, link=link), item(2))]
            site.replies["/story/2"] = [leads_out]
            with pytest.raises(RunError, match=r"2 outside.*neither a feed's host") as told:
                run(tmp_path / "1", source(site))
            assert "allow_hosts" in told.value.mend
            assert not other.requests
            run(tmp_path / "2", source(site, allow_hosts=(f"127.0.0.1:{other.port}",)))
        assert {row["url"] for row in documents(tmp_path / "2")} == {link, f"{site.url}/story/2"}

    def test_pages_that_give_nothing_are_rows_of_the_log(self, tmp_path):
        with site_of(1, 2, 3, 4) as site:
            site.replies["/story/2"] = [Reply(body="<p>Too little.</p>")]
            site.replies["/story/3"] = [article(3, headers={"X-Robots-Tag": "noindex"})]
            site.replies["/story/4"] = [Reply(410)]
            run(tmp_path, source(site))
        assert outcomes(tmp_path) == {
            "/feed": "ok", "/story/1": "ok", "/story/2": "short", "/story/3": "noindex", "/story/4": "http_error",
        }  # fmt: skip

    def test_what_is_forgotten_is_not_kept(self, tmp_path):
        from lmcore.collect.params import CollectRuntime
        from lmcore.collect.source import collect
        from lmcore.progress import silent

        with site_of(1, 2, 3) as site:
            run(tmp_path / "1", source(site))
            text = next(row["text"] for row in documents(tmp_path / "1") if row["url"].endswith("3"))
            from lmcore.forget.texts import text_digest

            forgotten = Forgotten(urls=frozenset({f"{site.url}/story/2"}), texts=frozenset({text_digest(text)}))
            site.requests.clear()
            collect(
                tmp_path / "2", edition="e", parent=None, parent_digest=None, locate=None, params=source(site),
                runtime=CollectRuntime(), report=silent, forgotten=forgotten,
            )  # fmt: skip
        assert [row["url"][-1] for row in documents(tmp_path / "2")] == ["1"]
        assert not site.requests["/story/2"]
        kept = b"".join(
            path.read_bytes() for path in (tmp_path / "2").rglob("*") if path.suffix in (".parquet", ".sqlite")
        )
        assert b"Number 3." not in kept
        assert outcomes(tmp_path / "2") == {
            "/feed": "ok", "/story/1": "ok", "/story/2": "forgotten", "/story/3": "forgotten",
        }  # fmt: skip


class TestEditions:
    def test_only_what_is_new_is_asked_for_and_what_left_the_feed_stays(self, tmp_path):
        with site_of(3, 2, 1) as site:
            editions = Editions(tmp_path, source(site))
            editions.make()
            site.requests.clear()
            editions.make()
            assert site.requests == {"/robots.txt": 1, "/feed": 1}
            assert not site.hits["/feed"] > 1
            assert (editions.metrics["records"], editions.metrics["new"]) == (3, 0)
            site.replies["/feed"] = [feed_reply(item(5), item(4), item(3))]
            site.requests.clear()
            work = editions.make()
            assert site.requests == {"/robots.txt": 1, "/feed": 1, "/story/4": 1, "/story/5": 1}
            assert (editions.metrics["records"], editions.metrics["new"]) == (5, 2)
            stats = json.loads((work / "out" / "stats.json").read_text())
            assert stats["entries"] == {"known": 1, "left": 2, "new": 2, "repeated": 0}
            assert {url[-1]: edition for url, (_, edition) in editions.texts().items()} == {
                "1": "e0", "2": "e0", "3": "e0", "4": "e2", "5": "e2",
            }  # fmt: skip

    def test_an_updated_entry_is_read_again(self, tmp_path):
        with site_of(1, 2) as site:
            editions = Editions(tmp_path, source(site))
            editions.make()
            site.replies["/feed"] = [feed_reply(item(1, updated="Mon, 02 Nov 2026 10:00:00 GMT"), item(2))]
            site.replies["/story/1"] = [article(1, "Corrected since then, and longer than it was before. ")]
            site.requests.clear()
            editions.make()
            assert site.requests == {"/robots.txt": 1, "/feed": 1, "/story/1": 1}
            assert (editions.metrics["records"], editions.metrics["new"]) == (2, 1)
            assert "Corrected" in editions.texts()[f"{site.url}/story/1"][0]

    def test_an_updated_entry_whose_page_is_gone_keeps_its_text(self, tmp_path):
        with site_of(1, 2) as site:
            editions = Editions(tmp_path, source(site))
            editions.make()
            site.replies["/feed"] = [feed_reply(item(1, updated="Mon, 02 Nov 2026 10:00:00 GMT"), item(2))]
            site.replies["/story/1"] = [Reply(404)]
            editions.make()
            assert (editions.metrics["records"], editions.metrics["new"]) == (2, 0)

    def test_what_could_not_be_had_is_asked_for_again_although_the_feed_has_not_changed(self, tmp_path):
        with site_of(1, 2) as site:
            site.replies["/story/2"] = [Reply(act=lambda handler: None), article(2)]
            editions = Editions(tmp_path, source(site))
            editions.make()
            assert editions.metrics["records"] == 1
            editions.make()
            assert (editions.metrics["records"], editions.metrics["new"]) == (2, 1)

    def test_other_settings_read_anew_what_is_in_the_window(self, tmp_path):
        with site_of(2, 1) as site:
            editions = Editions(tmp_path, source(site))
            editions.make()
            site.replies["/feed"] = [feed_reply(item(2, text=WORDS * 5))]
            editions.make(source(site, follow="summary"))
            texts = {url[-1]: text for url, (text, _) in editions.texts().items()}
            assert texts["2"] == (WORDS * 5).strip()
            assert "Number 1." in texts["1"]

    def test_a_feed_that_is_down_costs_nothing_that_was_there(self, tmp_path):
        with site_of(1, 2) as site:
            editions = Editions(tmp_path, source(site))
            editions.make()
            site.replies["/feed"] = [Reply(act=lambda handler: None)]
            work = editions.make()
            assert (editions.metrics["records"], editions.metrics["failed"]) == (2, 1)
            assert outcomes(work) == {"/feed": "unreachable"}
            site.replies["/feed"] = [feed_reply(item(3))]
            editions.make()
            assert editions.metrics["records"] == 3

    def test_a_feed_taken_out_of_the_settings_takes_its_entries_with_it(self, tmp_path):
        with site_of(1) as site:
            site.replies["/other"] = [feed_reply(item(2))]
            both = (f"{site.url}/feed", f"{site.url}/other")
            editions = Editions(tmp_path, source(site, feeds=both))
            editions.make()
            editions.make(source(site))
            assert list(editions.texts()) == [f"{site.url}/story/1"]

    def test_the_same_bytes_as_an_edition_that_asked_for_everything(self, tmp_path):
        with site_of(1, 2, 3) as site:
            editions = Editions(tmp_path / "a", source(site))
            first = editions.make()
            run(tmp_path / "b", source(site), edition="e0")
        assert digests(first / "out") == digests(tmp_path / "b" / "out")


class TestFeeds:
    def test_repeated_ids_count_once(self, tmp_path):
        with site_of(1, 1, 2, 1) as site:
            run(tmp_path, source(site))
        assert len(documents(tmp_path)) == 2
        assert json.loads((tmp_path / "out" / "stats.json").read_text())["entries"]["repeated"] == 2
        assert site.requests["/story/1"] == 1

    def test_entries_without_id_link_or_date(self, tmp_path):
        items = [
            item(1, guid=False, date=False, text=WORDS * 4),
            item(2, link="", guid=False, date=False, text=WORDS * 5),
            item(3, link="", text=WORDS * 6),
        ]
        with FrozenSite(pages={"/feed": feed_reply(*items)}) as site:
            editions = Editions(tmp_path, source(site, follow="summary"))
            editions.make()
            urls = sorted(url.removeprefix(site.url) for url in editions.texts())
            assert urls[0].startswith("/feed#")
            assert urls[1:] == ["/feed#id-3", "/story/1"]
            site.replies["/feed"] = [feed_reply(items[0].replace("harvest", "vintage"), *items[1:])]
            editions.make()
            assert (editions.metrics["records"], editions.metrics["new"]) == (3, 1)

    def test_an_entry_without_link_has_no_article(self, tmp_path):
        with FrozenSite(pages={"/feed": feed_reply(item(1, link=""), item(2)), "/story/2": article(2)}) as site:
            run(tmp_path, source(site))
        assert sorted(outcomes(tmp_path).values()) == ["no_link", "ok", "ok"]

    def test_pages_of_a_feed(self, tmp_path):
        def page(number, following):
            atom = f'<link xmlns="http://www.w3.org/2005/Atom" rel="next" href="{following}"/>'
            return feed_reply(item(number), head=atom)

        with site_of() as site:
            site.replies |= {"/feed": [page(3, "/feed?2")], "/feed?2": [page(2, "/feed?3")]}
            site.replies["/feed?3"] = [page(1, "/feed")]
            run(tmp_path / "one", source(site))
            assert len(documents(tmp_path / "one")) == 1
            run(tmp_path / "all", source(site, max_pages=9))
            assert len(documents(tmp_path / "all")) == 3
            run(tmp_path / "two", source(site, max_pages=9, max_entries=2))
            assert len(documents(tmp_path / "two")) == 2

    def test_atom(self):
        feed = parsed(
            '<feed xmlns="http://www.w3.org/2005/Atom" xml:base="https://example.org/blog/" xml:lang="hu">'
            '<link rel="next" href="?page=2"/><entry><id>urn:1</id><link href="one.html"/>'
            '<title type="html">A &lt;b&gt;mill&lt;/b&gt;</title>'
            "<updated>2026-11-02T10:00:00+01:00</updated><published>2026-11-01T10:00:00Z</published>"
            '<category term="x" label="Mills"/><rights>CC BY</rights><content type="xhtml"><div '
            'xmlns="http://www.w3.org/1999/xhtml"><p>One</p><p>two</p></div></content></entry></feed>'
        )
        (entry,) = feed.entries
        assert (entry.id, entry.url, entry.title) == ("urn:1", "https://example.org/blog/one.html", "A mill")
        assert (entry.version, entry.date) == ("2026-11-02T10:00:00+01:00", "2026-11-01T10:00:00+00:00")
        assert (entry.text, entry.categories, entry.rights, entry.lang) == ("One\ntwo", ("Mills",), "CC BY", "hu")
        assert feed.next_url == "https://example.org/blog/?page=2"

    def test_json_feed(self):
        value = {
            "version": "https://jsonfeed.org/version/1.1", "language": "am", "next_url": "/2",
            "items": [
                {
                    "id": 7, "url": "/a", "title": "A", "content_html": "<p>One</p>",
                    "date_published": "2026-11-01T10:00:00Z",
                },
                {"id": "8", "content_text": "Two", "tags": ["x"], "date_modified": "2026-11-03T00:00:00Z"}, "junk",
            ],
        }  # fmt: skip
        feed = parsed(json.dumps(value))
        assert [(e.id, e.url, e.text, e.lang) for e in feed.entries] == [
            ("7", "https://example.org/a", "One", "am"), ("8", "", "Two", "am"),
        ]  # fmt: skip
        assert feed.entries[0].date == "2026-11-01T10:00:00+00:00"
        assert feed.entries[1].version == "2026-11-03T00:00:00Z"
        assert feed.next_url == "https://example.org/2"

    @pytest.mark.parametrize(
        ("codec", "declared", "header"),
        [
            ("utf-8", "utf-8", ""),
            ("utf-8", "iso-8859-1", ""),
            ("cp1250", "utf-8", ""),
            ("cp1250", "windows-1250", ""),
            ("cp1250", "windows-1250", "text/xml; charset=utf-8"),
            ("utf-16", "utf-16", ""),
            ("utf-8", "utf-8", "text/xml; charset=us-ascii"),
        ],
    )
    def test_charsets(self, codec, declared, header):
        text = rss(item(1, text="Árvíztűrő tükörfúrógép, a malom őrli a búzát.")).replace('"utf-8"', f'"{declared}"')
        feed = parsed(text.encode(codec), content_type=header, lang="hu")
        assert feed.entries[0].text == "Árvíztűrő tükörfúrógép, a malom őrli a búzát."

    def test_a_feed_cut_short_loses_its_last_entry_only(self, tmp_path):
        text = rss(item(1), item(2), item(3))
        cut = parsed(text[: text.index("Story 3") + 3])
        assert ([entry.id for entry in cut.entries], cut.cut) == (["id-1", "id-2"], True)
        with site_of(1, 2) as site:
            body = site.replies["/feed"][0].body
            whole = Reply(body=body)
            site.replies["/feed"] = [Reply(body=body[: body.rindex("<title>")]), whole]
            editions = Editions(tmp_path, source(site))
            work = editions.make()
            assert outcomes(work) == {"/feed": "truncated", "/story/1": "ok"}
            editions.make()
            assert editions.metrics["records"] == 2

    def test_what_is_not_well_formed_is_read_as_far_as_it_goes(self, tmp_path):
        with site_of(1, 2) as site:
            site.replies["/feed"] = [Reply(body=rss(item(1), "<oops>", item(2)) + "&nbsp;")]
            run(tmp_path, source(site))
        assert len(documents(tmp_path)) == 2
        assert next(row["reason"] for row in log(tmp_path) if row["url"].endswith("/feed")).startswith(
            "not well-formed"
        )

    def test_bombs_are_not_unfolded(self):
        laughs = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
        bomb = f'<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY l0 "lol">{laughs}]>' + rss(item(1, text="@"))[38:]
        hidden = "<!DOCTYPE rss [<!-- <rss> --><!ENTITY a 'x'>]><rss version='2.0'><channel/></rss>"
        system = '<!DOCTYPE rss [<!ENTITY a SYSTEM "file:///etc/hostname">]>' + rss(item(1, text="@"))[38:].replace(
            "@", "&a;"
        )
        for text in (bomb.replace("@", "&l9;"), hidden, system, bomb.encode("utf-16")):
            with pytest.raises(Unreadable, match="entities of its own"):
                parsed(text)

    def test_an_article_about_entities_is_no_bomb(self):
        assert parsed(rss(item(1, text='Write <!ENTITY a "b"> there.'))).entries

    def test_no_string_of_a_feed_is_opened_or_fetched(self, tmp_path):
        (tmp_path / "secret").write_text(rss(item(1)))
        with FrozenSite(pages={"/x": feed_reply(item(1))}) as site:
            for data in (str(tmp_path / "secret"), f"{site.url}/x", "file:///etc/passwd"):
                with pytest.raises(Unreadable, match="no_feed"):
                    parsed(data)
            assert not site.requests

    @pytest.mark.parametrize("piece", ["<", "<!", "<a ", "<item>", "&", "&lt;a "])
    def test_time_grows_with_length_only(self, piece):
        def seconds(length):
            began = time.process_time()
            with contextlib.suppress(Unreadable):
                parsed(f"<rss version='2.0'><channel><item><description>{piece * length}")
            return time.process_time() - began

        parsed(rss(item(1)))
        assert seconds(20_000) < 12 * max(seconds(4_000), 0.02)

    def test_no_feed_at_all(self, tmp_path):
        with (
            FrozenSite(pages={"/feed": article(1)}) as site,
            pytest.raises(RunError, match="no entry gave a record: 1 no_feed"),
        ):
            run(tmp_path, source(site))

    def test_a_feed_that_is_too_large(self, tmp_path):
        page = feed_reply(item(1, text="x" * 5000))
        with FrozenSite(pages={"/feed": page}) as site, pytest.raises(RunError, match="1 too_large"):
            run(tmp_path, source(site, max_bytes=2000))


def _read(data):
    try:
        feed = parsed(data)
    except Unreadable as error:
        if "\n" in error.reason:
            raise AssertionError(error.reason) from error
        return
    assert len({entry.id for entry in feed.entries}) == len(feed.entries)
    for entry in feed.entries:
        for text in (entry.id, entry.url, entry.title, entry.text, entry.version, entry.rights, *entry.categories):
            text.encode()
            assert "\0" not in text
        assert entry.id
        assert entry.version
        assert entry.url.startswith(("http://", "https://")) or not entry.url
    assert "\n" not in feed.problem


GOOD = rss(*map(item, range(6))).encode()
ATOM = (
    b'<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>1</id><link href="/a"/>'
    b'<updated>2026-11-01T10:00:00Z</updated><content type="html">&lt;p&gt;x&lt;/p&gt;</content></entry>'
    b"<entry><id>2</id><summary>y</summary></entry></feed>"
)
JSON = b'{"version": "https://jsonfeed.org/version/1", "items": [{"id": "1", "url": "/a", "content_html": "<p>x"}, {}]}'


class TestWhateverComes:
    @given(st.binary(max_size=300))
    def test_any_bytes(self, data):
        _read(data)

    @given(
        st.sampled_from([b"<rss version='2.0'><channel><item>", b"<feed><entry>", b'{"items":']), st.text(max_size=200)
    )
    def test_any_text_in_a_feed(self, begin, text):
        _read(begin + text.encode("utf-8", "surrogatepass"))

    @damage
    def test_damaged_rss(self, at, junk, cut):
        _read(broken(GOOD, at, junk, cut))

    @damage
    def test_damaged_atom(self, at, junk, cut):
        _read(broken(ATOM, at, junk, cut))

    @damage
    def test_damaged_json(self, at, junk, cut):
        _read(broken(JSON, at, junk, cut))


class TestSettings:
    def test_presets(self):
        bbc = FeedSource(name="bbc", preset="bbc-amharic")
        assert (bbc.feeds, bbc.lang, bbc.delay) == (("https://feeds.bbci.co.uk/amharic/rss.xml",), "am", 2.0)
        assert "www.bbc.com" in bbc.hosts
        assert FeedSource(name="voa", preset="voa-amharic", delay=9).delay == 9
        assert FeedSource(**bbc.model_dump()) == bbc
        own = bbc.model_dump(mode="json") | {"presets": [{"name": "mine", "text": ["h1"]}]}
        assert FeedSource.model_validate_json(json.dumps(own), strict=True).presets[0].text == ("h1",)

    def test_mistakes(self):
        for wrong, told in [
            ({}, "at least one URL"),
            ({"feeds": ["ftp://x"]}, "not an http"),
            ({"preset": "x"}, "bbc-amharic"),
        ]:
            with pytest.raises(ValueError, match=told):
                FeedSource(name="x", **wrong)
        with pytest.raises(ValueError, match="is no host"):
            FeedSource(name="x", feeds=("http://x.org",), allow_hosts=("x.org/a",))
