"""Whole crawls of the frozen site, and of sites with something wrong."""

import json

import pytest
from frozen_site import FrozenSite, Reply
from helpers_collect import digests, documents, log, outcomes, run, web

from lmcore.collect.params import CollectRuntime, WebSource
from lmcore.documents import DOCUMENT, read_documents
from storage.errors import RunError, UserError

TEXT = "<p>" + "These are enough words for a page to become a record of its own. " * 5 + "</p>"


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch):
    monkeypatch.setattr("lmcore.collect.http.BACKOFF", 0.02)


@pytest.fixture(scope="module")
def site():
    with FrozenSite() as site:
        yield site


@pytest.fixture(scope="module")
def crawled(site, tmp_path_factory):
    work = tmp_path_factory.mktemp("crawl")
    site.hits.clear()
    site.requests.clear()
    notes = []
    metrics = run(work, web(site), report=lambda done, total, note="": notes.append(note))
    return work, metrics, dict(site.hits), dict(site.requests), notes


def small_site(links, **pages):
    """A site whose front page links to the given paths; the other pages by name."""
    front = "<html><body>" + TEXT + "".join(f'<a href="{link}">go</a> ' for link in links) + "</body></html>"
    replies = {"/": Reply(body=front)}
    for name, reply in pages.items():
        replies["/" + name] = reply if isinstance(reply, Reply) else Reply(body=reply)
    return FrozenSite(pages=replies, robots=Reply(404))


class TestWholeSite:
    def test_every_page_once(self, crawled):
        work, metrics, hits, requests, _ = crawled
        assert metrics["records"] == metrics["new"] == 60
        assert metrics["failed"] == 1
        assert set(hits.values()) == {1}
        assert max(requests.values()) == 1
        assert "/private/diary.html" not in requests
        got = outcomes(work)
        assert got.pop("/missing.html") == "http_error"
        assert got.pop("/private/diary.html") == "robots_denied"
        assert set(got.values()) == {"ok"}

    def test_records(self, crawled, site):
        work, metrics, *_ = crawled
        table = read_documents(work / "out" / "documents" / "00000.parquet", DOCUMENT)
        rows = table.to_pylist()
        depth = {site.url + "/": 0}
        depth.update({f"{site.url}/section/{n}": 1 for n in range(6)})
        assert [row["url"] for row in rows] == sorted((row["url"] for row in rows), key=lambda u: (depth.get(u, 2), u))
        assert sum(len(row["text"].encode()) for row in rows) == metrics["bytes"] > 250_000
        article = next(row for row in rows if row["url"].endswith("/article/00.html"))
        assert article["source"] == "frozen"
        assert article["edition"] == "first"
        assert article["lang"] == "en"
        assert article["license"] == "unknown"
        assert article["page_of_origin"] == article["url"]
        assert article["title"].endswith("(1)")
        assert json.loads(article["meta"])["extractor"] == "trafilatura"
        assert "Served frozen" not in article["text"]

    @pytest.mark.parametrize(
        ("number", "words", "charset", "source"),
        [
            ("01", "costs 5 € – “quite dear”", "cp1252", "header"),
            ("02", "Árvíztűrő tükörfúrógép", "iso8859-2", "meta"),
            ("03", "Un été à la plage, déjà vu", "cp1252", "detected"),
            ("04", "吾輩は猫である", "cp932", "header"),
            ("05", "ünïcödé", "utf-16-le", "bom"),
            ("06", "Łódź, Kraków", "utf-8", "utf-8"),
            ("07", "", "utf-8", "header"),
        ],
    )
    def test_charsets(self, crawled, number, words, charset, source):
        row = next(row for row in documents(crawled[0]) if row["url"].endswith(f"/article/{number}.html"))
        meta = json.loads(row["meta"])
        assert (meta["charset"], meta["charset_source"]) == (charset, source)
        assert words in row["text"]

    def test_stats_and_log(self, crawled):
        work, metrics, *_ = crawled
        stats = json.loads((work / "out" / "stats.json").read_text())
        assert stats["outcomes"] == {"http_error": 1, "ok": 60, "robots_denied": 1}
        assert (stats["records"], stats["bytes"], stats["levels"]) == (60, metrics["bytes"], 4)
        rows = log(work)
        assert len(rows) == 62
        assert all(row["fetched_at"].startswith("20") and row["etag"] for row in rows if row["outcome"] == "ok")
        assert all(row["reason"] for row in rows if row["outcome"] != "ok")

    def test_progress(self, crawled):
        notes = crawled[4]
        assert notes[0] == "1 of 1 pages, 0 failed"
        assert notes[-1].endswith("pages, 1 failed")

    @pytest.mark.parametrize("concurrency", [1, 3, 16])
    def test_concurrency_changes_no_byte(self, crawled, site, tmp_path, concurrency):
        run(tmp_path, web(site), concurrency=concurrency)
        assert digests(tmp_path / "out") == digests(crawled[0] / "out")

    def test_run_again_in_the_same_folder(self, crawled, site):
        before, requests = digests(crawled[0] / "out"), dict(site.requests)
        run(crawled[0], web(site))
        assert digests(crawled[0] / "out") == before
        assert dict(site.requests) == requests

    @pytest.mark.parametrize("concurrency", [1, 8])
    def test_max_pages_keeps_the_first_in_canonical_order(self, crawled, site, tmp_path, concurrency):
        run(tmp_path, web(site, max_pages=20), concurrency=concurrency)
        expected = [row["url"] for row in log(crawled[0]) if row["outcome"] != "robots_denied"][:20]
        assert [row["url"] for row in log(tmp_path) if row["outcome"] != "robots_denied"] == expected
        stats = json.loads((tmp_path / "out" / "stats.json").read_text())
        assert stats["pages_beyond_limit"] > 0

    def test_max_depth(self, site, tmp_path):
        assert run(tmp_path, web(site, max_depth=1))["records"] == 7

    def test_allow_and_deny(self, site, tmp_path):
        run(tmp_path, web(site, allow=(r"/section/[0-3]$", r"/article/.*\.html$"), deny=(r"/article/1",)))
        paths = set(outcomes(tmp_path))
        assert "/section/3" in paths
        assert "/section/4" not in paths
        assert "/article/00.html" in paths
        assert not any(path.startswith("/article/1") for path in paths)


class TestPages:
    def test_same_page_in_many_spellings(self, tmp_path):
        links = [
            "/a#one",
            "/a#two",
            "./a",
            "/x/../a",
            "/a?",
            "HTTP://127.0.0.1:{port}/a",
            "//127.0.0.1:{port}/a",
            " /a\n",
        ]
        with small_site([], a=TEXT) as site:
            front = TEXT + "".join(f'<a href="{link.format(port=site.port)}">go</a>' for link in links)
            site.replies["/"] = [Reply(body=front)]
            run(tmp_path, web(site))
            assert site.requests["/a"] == 1
            assert outcomes(tmp_path) == {"/": "ok", "/a": "ok"}

    def test_order_of_query_arguments(self, tmp_path):
        with small_site(["/a?y=2&x=1", "/a?x=1&y=2"]) as site:
            site.replies["/a?x=1&y=2"] = [Reply(body=TEXT)]
            run(tmp_path, web(site))
            assert sum(count for path, count in site.requests.items() if path.startswith("/a")) == 1

    def test_redirects_to_one_page(self, tmp_path):
        to_new, to_b = (Reply(301, headers={"Location": path}) for path in ("/new", "/b"))
        with small_site(
            ["/1", "/2", "/3", "/b"], **{"1": to_new, "2": to_new, "3": to_b, "new": TEXT, "b": TEXT}
        ) as site:
            run(tmp_path, web(site))
            assert outcomes(tmp_path) == {"/": "ok", "/1": "ok", "/2": "duplicate", "/3": "duplicate", "/b": "ok"}
            assert sorted(row["url"].removeprefix(site.url) for row in documents(tmp_path)) == ["/", "/b", "/new"]
            assert site.requests["/b"] == 1

    def test_redirect_out_of_the_area(self, tmp_path):
        with FrozenSite() as other, small_site(["/a"], a=Reply(302, headers={"Location": other.url + "/"})) as site:
            run(tmp_path / "1", web(site))
            assert outcomes(tmp_path / "1")["/a"] == "redirect_refused"
            run(tmp_path / "2", web(site, allow=(".",)))
            assert outcomes(tmp_path / "2")["/a"] in ("private_address", "robots_unavailable")
            assert not other.requests

    def test_seed_that_moved_to_another_host(self, tmp_path):
        with FrozenSite(
            pages={"/": Reply(body=TEXT + '<a href="/a">a</a>'), "/a": Reply(body=TEXT)}, robots=Reply(404)
        ) as new:
            old_pages = {"/": Reply(301, headers={"Location": new.url + "/"}), "/b": Reply(body=TEXT)}
            with FrozenSite(pages=old_pages, robots=Reply(404)) as old:
                # The second seed makes the new host's private address permitted.
                run(tmp_path, web(old, seeds=(old.url + "/", old.url + "/b", new.url + "/a")))
                assert sorted(row["url"] for row in documents(tmp_path)) == sorted(
                    [new.url + "/", new.url + "/a", old.url + "/b"]
                )

    def test_redirect_to_raw_utf8(self, tmp_path):
        with small_site(["/a"], a=Reply(302, headers={"Location": "/caf\u00c3\u00a9"})) as site:
            site.replies["/caf%C3%A9"] = [Reply(body=TEXT)]
            run(tmp_path, web(site))
            assert outcomes(tmp_path)["/a"] == "ok"

    def test_what_a_server_says_is_harmless_on_a_terminal(self, tmp_path):
        with small_site(["/a"], a=Reply(content_type="evil/\x1b[31m\x07type")) as site:
            run(tmp_path, web(site))
            reason = next(row["reason"] for row in log(tmp_path) if row["outcome"] == "content_type")
            assert reason == "content type evil/ [31m type"

    def test_what_robots_meta_says(self, tmp_path):
        def page(rule):
            head = f'<html><head><meta name="robots" content="{rule}"></head>'
            return f'{head}<body>{TEXT}<a href="/{rule}/x">x</a></body></html>'

        header = Reply(body=TEXT, headers={"X-Robots-Tag": "noindex"})
        pages = {"noindex": page("noindex"), "nofollow": page("nofollow"), "none": page("none"), "header": header}
        with small_site(["/noindex", "/nofollow", "/none", "/header", "/plain"], **pages) as site:
            site.replies["/"][0].body += '<a rel="nofollow" href="/secret">s</a>'
            run(tmp_path, web(site))
            assert outcomes(tmp_path) == {
                "/": "ok",
                "/noindex": "noindex",
                "/nofollow": "ok",
                "/none": "noindex",
                "/header": "noindex",
                "/plain": "http_error",
                "/noindex/x": "http_error",
            }

    def test_short_pages_still_lead_on(self, tmp_path):
        with small_site(["/list"], list='<a href="/a">a</a>', a=TEXT, empty="") as site:
            run(tmp_path, web(site))
            assert outcomes(tmp_path) == {"/": "ok", "/list": "short", "/a": "ok"}

    def test_plain_text_page(self, tmp_path):
        plain = Reply(body="A plain text.\n\n\n\nWith  two paragraphs. " * 10, content_type="text/plain; charset=utf-8")
        with small_site(["/a.txt"], **{"a.txt": plain}) as site:
            run(tmp_path, web(site))
            row = next(row for row in documents(tmp_path) if row["url"].endswith(".txt"))
            assert row["text"].startswith("A plain text.\n\nWith  two")
            assert json.loads(row["meta"])["extractor"] == "plain text"

    def test_fallback_is_said(self, tmp_path):
        rows = "".join(f"<div><span>word{n}</span></div>" for n in range(30_000))
        with small_site(["/huge"], huge=f"<html><body>{rows}</body></html>") as site:
            run(tmp_path, web(site))
            row = next(row for row in documents(tmp_path) if row["url"].endswith("/huge"))
            assert json.loads(row["meta"])["extractor"] == "visible text"
            assert row["text"].startswith("word0\nword1\n")

    def test_blank_comes_before_the_digest(self, tmp_path):
        ids = []
        for address in ("0x7f001122", "0x7fffaabb"):
            with small_site([]) as site:
                site.replies["/"] = [Reply(body=f"<p>An object at {address} lives here.</p>{TEXT}")]
                work = tmp_path / address
                run(work, web(site, blank=(r" at 0x[0-9a-f]+",)))
                row = documents(work)[0]
                assert "An object lives here." in row["text"]
                ids.append(row["text"])
        assert ids[0] == ids[1]

    def test_settings_reach_the_records(self, tmp_path):
        with small_site([]) as site:
            run(tmp_path, web(site, license="PSF-2.0", lang="hu", text_kind="qa", name="other"))
            row = documents(tmp_path)[0]
            assert [row[key] for key in ("license", "lang", "kind", "source")] == ["PSF-2.0", "hu", "qa", "other"]

    def test_all_failures_have_their_outcome(self, tmp_path):
        bad = {
            "pdf": Reply(body=b"%PDF", content_type="application/pdf"),
            "big": Reply(body=TEXT * 1000),
            "loop": Reply(302, headers={"Location": "/loop"}),
            "br": Reply(body=b"xx", headers={"Content-Encoding": "br"}),
            "gone": Reply(410),
            "blank": "<html><body><script>only()</script></body></html>",
        }
        with small_site(["/" + name for name in bad], **bad) as site:
            metrics = run(tmp_path, web(site, max_bytes=100_000))
            got = outcomes(tmp_path)
            assert metrics["failed"] == 5
            assert got == {
                "/": "ok",
                "/pdf": "content_type",
                "/big": "too_large",
                "/loop": "redirect_loop",
                "/br": "undecodable",
                "/gone": "http_error",
                "/blank": "no_text",
            }


class TestWhenItGoesWrong:
    def test_empty_crawl_says_why_and_can_be_repeated(self, tmp_path):
        with FrozenSite(pages={"/": Reply(500, headers={"Retry-After": "0"})}, robots=Reply(404)) as site:
            with pytest.raises(RunError) as error:
                run(tmp_path, web(site, retries=0))
            assert "1 unavailable" in error.value.what
            assert "status 500" in error.value.what
            assert error.value.mend
            assert not (tmp_path / "out").exists()
            site.replies["/"] = [Reply(body=TEXT)]
            assert run(tmp_path, web(site))["records"] == 1

    def test_everything_forbidden(self, tmp_path):
        with FrozenSite(robots="User-agent: *\nDisallow: /\n") as site:
            with pytest.raises(RunError, match="1 robots_denied"):
                run(tmp_path, web(site))
            assert set(site.requests) == {"/robots.txt"}

    def test_dead_host(self, tmp_path):
        with FrozenSite(pages={}) as site:
            params = web(site, retries=0)
        with pytest.raises(RunError, match="robots_unavailable"):
            run(tmp_path, params)

    def test_host_that_goes_away_and_comes_back(self, tmp_path):
        def hang_up(handler):
            pass

        paths = [f"/{number:02d}" for number in range(60)]
        with small_site(paths) as site:
            for path in paths:
                site.replies[path] = [Reply(body=TEXT + path)]
            for path in paths[10:]:
                site.replies[path].insert(0, Reply(act=hang_up))
            with pytest.raises(RunError, match="stopped answering after") as error:
                run(tmp_path, web(site, retries=0), concurrency=4)
            assert "continues" in error.value.mend
            for path in paths:
                site.replies[path] = site.replies[path][-1:]
            assert run(tmp_path, web(site, retries=0))["records"] == 61
            assert {site.hits[path] for path in paths} == {1}

    def test_public_host_needs_a_contact(self, tmp_path):
        params = WebSource(name="public", seeds=("https://example.org/",))
        with pytest.raises(UserError, match="contact"):
            run(tmp_path, params)

    @pytest.mark.parametrize("damage", ["not sqlite", "torn", "other settings"])
    def test_damaged_frontier_is_set_aside(self, tmp_path, damage):
        notes = []
        with small_site(["/a"], a=TEXT) as site:
            if damage == "other settings":
                run(tmp_path, web(site, max_depth=0))
            else:
                run(tmp_path, web(site))
                path = tmp_path / "frontier.sqlite"
                data = path.read_bytes()
                path.write_bytes(
                    b"garbage" * 100 if damage == "not sqlite" else data[:4096] + b"\x55" * (len(data) - 4096)
                )
            run(tmp_path, web(site), report=lambda done, total, note="": notes.append(note))
            assert "starting again" in notes[0]
            assert outcomes(tmp_path) == {"/": "ok", "/a": "ok"}
            assert (tmp_path / "frontier.sqlite.damaged").exists()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"seeds": ()}, "at least one URL"),
        ({"seeds": ("ftp://a.example/",)}, "not an http or https URL"),
        ({"seeds": ("http://me:secret@a.example/",)}, "not an http or https URL"),
        ({"seeds": ("http://a.example/",), "deny": ("(",)}, "not a regular expression"),
        ({"seeds": ("http://a.example/",), "name": "No Spaces"}, "name"),
        ({"seeds": ("http://a.example/",), "depth": 3}, "depth"),
    ],
)
def test_wrong_settings(params, words):
    with pytest.raises(ValueError, match=words):
        WebSource(**{"name": "x", **params})


def test_runtime_is_not_in_the_key():
    assert not set(CollectRuntime.model_fields) & set(WebSource.model_fields)
