"""What fails in passing (a 503, a host that is away, a kill in the middle) costs no text and is asked for again."""

import json
import signal

import pytest
from frozen_site import FrozenSite, Reply
from helpers_collect import FilesSource, digests, documents, log, outcomes, run, web
from test_collect_feed import article, feed_reply, item
from test_collect_feed import source as feed_source
from test_collect_kill import finish, start
from test_collect_unchanged import Editions

from lmcore.collect.editions import load_edition
from lmcore.collect.http import Client
from storage.errors import RunError

BUSY = Reply(503, "busy", headers={"Retry-After": "0"})
WORDS = "This is a paragraph of readable words about some thing or other that goes on. " * 8


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch):
    monkeypatch.setattr("lmcore.collect.http.BACKOFF", 0.02)


def page(name, *links):
    return Reply(body=f"<html><body><p>{name}: {WORDS}</p>{''.join(f'<a href={link}>x</a>' for link in links)}</body>")


def hub_site(**kwargs):
    """A seed, a hub, and six pages that only the hub leads to."""
    below = {f"/{number}.html": page(number) for number in range(6)}
    return FrozenSite(pages={"/": page("front", "/hub.html"), "/hub.html": page("hub", *below), **below}, **kwargs)


def texts(editions):
    return {row["url"]: row["text"] for row in load_edition(editions.folders[-1], editions.locate).to_pylist()}


def no_answer(handler):
    pass


def cut_off(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1000\r\n\r\n<p>half")


class TestWeb:
    @pytest.mark.parametrize(("failure", "outcome"), [
        (BUSY, "unavailable"), (Reply(429, headers={"Retry-After": "0"}), "unavailable"), (Reply(500), "unavailable"),
        (Reply(act=no_answer), "unreachable"), (Reply(act=cut_off), "truncated"),
    ])  # fmt: skip
    def test_a_page_that_fails_in_passing_is_as_it_was(self, tmp_path, failure, outcome):
        with hub_site() as site:
            editions = Editions(tmp_path, web(site, retries=1))
            editions.make()
            first = texts(editions)
            good = site.replies["/hub.html"]
            site.replies["/hub.html"] = [failure]
            site.replies["/3.html"] = [page("three anew")]
            work = editions.make()
            assert (editions.metrics["records"], editions.metrics["new"]) == (8, 1)
            second = texts(editions)
            assert second.keys() == first.keys()
            assert {url for url in first if first[url] != second[url]} == {f"{site.url}/3.html"}
            (row,) = (row for row in log(work) if row["url"].endswith("/hub.html"))
            assert row["outcome"] == "ok"
            assert row["reason"].startswith(f"{outcome}: ")
            assert row["reason"].endswith("; as it was in the edition before")
            assert row["tries"] == 2
            # The next edition knows by what to ask whether it has changed since it was had.
            site.replies["/hub.html"] = good
            hits = site.hits.copy()
            editions.make()
            assert editions.metrics["records"] == 8
            assert site.hits - hits == {"/robots.txt": 1}

    def test_a_page_that_is_gone_is_gone(self, tmp_path):
        with hub_site() as site:
            editions = Editions(tmp_path, web(site))
            editions.make()
            site.replies["/hub.html"] = [Reply(404)]
            editions.make()
            assert list(texts(editions)) == [f"{site.url}/"]

    def test_a_page_that_was_not_there_before_fails(self, tmp_path):
        with hub_site() as site:
            site.replies["/3.html"] = [BUSY]
            editions = Editions(tmp_path, web(site, retries=0))
            editions.make()
            assert outcomes(editions.make())["/3.html"] == "unavailable"
            site.replies["/3.html"] = [page(3)]
            editions.make()
            assert (editions.metrics["records"], editions.metrics["new"]) == (8, 1)

    @pytest.mark.parametrize("most", [8, 5])
    def test_robots_txt_that_fails(self, tmp_path, most):
        """Nothing is asked for, all is kept, and no more than `max_pages`."""
        with hub_site() as site:
            editions = Editions(tmp_path, web(site, retries=0, max_pages=most))
            editions.make()
            first = texts(editions)
            assert len(first) == most
            site.replies["/robots.txt"] = [BUSY]
            site.requests.clear()
            editions.make()
            assert texts(editions) == first
            assert set(site.requests) == {"/robots.txt"}

    def test_where_redirects_led_to_must_still_be_allowed(self, tmp_path):
        with hub_site() as site:
            site.replies["/3.html"] = [Reply(302, headers={"Location": "/old/3.html"})]
            site.replies["/old/3.html"] = [page("old")]
            editions = Editions(tmp_path, web(site, retries=0))
            editions.make()
            assert f"{site.url}/old/3.html" in texts(editions)
            site.replies["/3.html"] = [BUSY]
            editions.make()
            assert f"{site.url}/old/3.html" in texts(editions)
            editions.make(web(site, retries=0, deny=("/old/",)))
            assert f"{site.url}/old/3.html" not in texts(editions)

    def test_all_bytes_count(self, tmp_path):
        with hub_site() as site:
            editions = Editions(tmp_path, web(site, retries=0, max_total_bytes=4_000))
            editions.make()
            first = texts(editions)
            assert 2 < len(first) < 8
            site.replies["/0.html"] = [BUSY]
            editions.make()
            assert texts(editions) == first

    @pytest.mark.parametrize("point", ["collect.page-stored:3", "collect.page-done:2", "collect.page-stored:8"])
    def test_killed(self, tmp_path, point):
        """Page 3 is the hub as it was: first its failure is stored, then what stands in for it."""
        with hub_site() as site:
            params = web(site, retries=0)
            run(tmp_path / "before", params)
            site.replies["/hub.html"] = site.replies["/5.html"] = [BUSY]
            before = tmp_path / "before" / "out"
            more = {"parent": str(before), "edition": "second"}
            assert finish(start(tmp_path, params, point, **more))[0] == -signal.SIGKILL
            code, output = finish(start(tmp_path, params, **more))
            assert code == 0
            assert json.loads(output)["records"] == 8
            run(
                tmp_path / "undisturbed", params, edition="second", parent=before, parent_digest=str(before),
                locate=lambda _: before,
            )  # fmt: skip
        assert digests(tmp_path / "work" / "out") == digests(tmp_path / "undisturbed" / "out")

    def test_a_host_that_goes_away_for_good_stops_the_run(self, tmp_path):
        """What was kept of the levels above stays kept when the run goes on."""
        pages = {f"/{number:02d}": page(number) for number in range(30)}
        with FrozenSite(pages={"/": page("front", "/hub"), "/hub": page("hub", *pages), **pages}) as site:
            editions = Editions(tmp_path, web(site, retries=0))
            editions.make(concurrency=2)
            first, replies = texts(editions), dict(site.replies)
            assert len(first) == 32
            site.replies |= {path: [Reply(act=no_answer)] for path in ["/hub", *pages]}
            with pytest.raises(RunError, match="stopped answering"):
                editions.make(concurrency=2)
            site.replies |= replies
            editions.make(concurrency=2)
            assert texts(editions) == first


class TestFeeds:
    def test_an_article_is_asked_for_again_although_the_feed_has_not_changed(self, tmp_path):
        """Also where the entry stands on the second page of the feed."""
        second = "<atom:link xmlns:atom='http://www.w3.org/2005/Atom' rel='next' href='/feed2'/>"
        pages = {"/feed": feed_reply(item(1), head=second), "/feed2": feed_reply(item(2), item(3))}
        with FrozenSite(pages={**pages, **{f"/story/{n}": article(n) for n in (1, 3)}, "/story/2": BUSY}) as site:
            editions = Editions(tmp_path, feed_source(site, max_pages=3))
            assert outcomes(editions.make())["/story/2"] == "unavailable"
            assert editions.metrics["records"] == 2
            site.replies["/story/2"] = [article(2)]
            editions.make()
            assert (editions.metrics["records"], editions.metrics["new"]) == (3, 1)
            assert site.hits["/story/3"] == 1
            # With nothing owed a feed is read as far as it has something new.
            site.replies["/feed"] = [feed_reply(item(1), head=f"{second}<ttl>5</ttl>")]
            site.requests.clear()
            editions.make()
            assert editions.metrics["records"] == 3
            assert set(site.requests) == {"/robots.txt", "/feed"}

    def test_a_text_that_is_owed_is_not_called_short(self, tmp_path):
        with FrozenSite(
            pages={"/feed": feed_reply(item(1), item(2)), "/story/1": BUSY, "/story/2": article(2)}
        ) as site:
            editions = Editions(tmp_path, feed_source(site, follow="both"))
            assert outcomes(editions.make())["/story/1"] == "unavailable"
            site.replies["/story/1"] = [article(1)]
            editions.make()
            assert (editions.metrics["records"], editions.metrics["new"]) == (2, 1)

    def test_the_feeds_own_text_is_for_now_only(self, tmp_path):
        short = "A summary that is long enough to be a record. " * 6
        with FrozenSite(pages={"/feed": feed_reply(item(1, text=short)), "/story/1": BUSY}) as site:
            editions = Editions(tmp_path, feed_source(site, follow="both"))
            editions.make()
            assert [text.startswith("A summary") for text in texts(editions).values()] == [True]
            site.replies["/story/1"] = [article(1)]
            editions.make()
            assert ["Number 1." in text for text in texts(editions).values()] == [True]
            # An update whose page fails in passing: the article stays as it was until it can be had.
            site.replies["/feed"] = [feed_reply(item(1, text=short, updated="Sun, 22 Nov 2026 10:00:00 GMT"))]
            site.replies["/story/1"] = [BUSY]
            editions.make()
            assert ["Number 1." in text for text in texts(editions).values()] == [True]
            site.replies["/story/1"] = [article(1, "All is new. " * 9)]
            editions.make()
            assert ["All is new." in text for text in texts(editions).values()] == [True]


class TestDownloads:
    def test_a_server_that_is_busy_stops_the_run(self, tmp_path):
        files = {f"/{name}.txt": Reply(body=name * 50, content_type="text/plain") for name in "ab"}
        with FrozenSite(pages=files) as site:
            editions = Editions(tmp_path, FilesSource(name="f", paths=tuple(site.url + path for path in files)))
            editions.make()
            site.replies["/a.txt"] = [BUSY]
            with pytest.raises(RunError, match="unavailable: status 503"):
                editions.make()
            site.replies["/a.txt"] = [Reply(body="anew" * 50, content_type="text/plain")]
            editions.make()
            assert editions.metrics["records"] == 2
            assert sorted(text[:4] for text in texts(editions).values()) == ["anew", "bbbb"]

    @pytest.mark.parametrize("point", ["collect.part-removed", "collect.part-begun"])
    def test_killed_while_a_download_begins_again(self, tmp_path, point):
        """The beginning of one version never gets the end of another."""
        old, new = b"OLD text. " * 20_000, b"NEW text. " * 20_000

        def half(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(old)))
            handler.send_header("ETag", '"old"')
            handler.end_headers()
            handler.wfile.write(old[: len(old) // 2])

        with FrozenSite(pages={"/a.txt": Reply(act=half)}) as site:
            params = FilesSource(name="texts", paths=(f"{site.url}/a.txt",))
            with pytest.raises(RunError, match="truncated"):
                run(tmp_path / "work", params)
            (part,) = (tmp_path / "work" / "downloads").glob("*.part")
            assert part.stat().st_size == len(old) // 2
            site.replies["/a.txt"] = [Reply(body=new)]
            code, _ = finish(start(tmp_path, params, point))
            assert code == -signal.SIGKILL
            assert finish(start(tmp_path, params))[0] == 0
            run(tmp_path / "undisturbed", params)
        assert digests(tmp_path / "work" / "out") == digests(tmp_path / "undisturbed" / "out")
        (row,) = documents(tmp_path / "work")
        assert "OLD" not in row["text"]

    @pytest.mark.parametrize(("goes_on", "most", "outcome"), [
        (False, 400_000, "ok"), (True, 300_000, "ok"), (True, 299_999, "too_large"), (False, 299_999, "too_large"),
    ])  # fmt: skip
    def test_what_has_come_takes_room_only_where_it_is_gone_on_from(self, tmp_path, goes_on, most, outcome):
        new = b"NEW" * 100_000
        with FrozenSite(pages={"/x": Reply(body=new, content_type="text/plain")}) as site:
            sites = frozenset({f"127.0.0.1:{site.port}"})
            etag = Client(private_sites=sites).fetch(f"{site.url}/x").etag if goes_on else '"old"'
            path = tmp_path / "x"
            path.with_name("x.part").write_bytes(new[:250_000] if goes_on else b"OLD" * 80_000)
            path.with_name("x.part.json").write_text(json.dumps({"url": f"{site.url}/x", "etag": etag}))
            response = Client(private_sites=sites, max_bytes=most).download(f"{site.url}/x", path)
            assert "Range" in site.headers["/x"][-1]
        assert response.outcome == outcome
        if outcome == "ok":
            assert path.read_bytes() == new
        else:
            assert list(tmp_path.iterdir()) == []

    def test_robots_txt_that_failed_is_asked_for_by_the_next_run(self, tmp_path):
        with FrozenSite(pages={"/a.txt": Reply(body="a text")}, robots=BUSY) as site:
            params = FilesSource(name="texts", paths=(f"{site.url}/a.txt",))
            with pytest.raises(RunError, match="robots_unavailable"):
                run(tmp_path, params)
            site.replies["/robots.txt"] = [Reply(404)]
            assert run(tmp_path, params)["records"] == 1
