"""What a crawl finds and keeps beyond following links: sitemaps, a byte budget, canonical addresses, two extractors."""

import gzip
import itertools
import json
import random
import signal
import subprocess
import sys

import pytest
from frozen_site import FrozenSite, Reply
from helpers_collect import digests, documents, log, outcomes, run, web
from hypothesis import given
from hypothesis import strategies as st
from test_collect_kill import finish, start
from test_collect_unchanged import Editions

from lmcore.collect.crawl_order import Budget
from lmcore.collect.frontier import Frontier, NewPage
from lmcore.collect.http import Response
from lmcore.collect.sitemaps import read_sitemap
from lmcore.progress import silent

TEXT = "<p>" + "These are enough words for a page to become a record of its own. " * 5 + "</p>"
XML = '<?xml version="1.0" encoding="UTF-8"?>'
SPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'


def urlset(*rows):
    urls = "".join(f"<url><loc>{url}</loc>{f'<lastmod>{day}</lastmod>' if day else ''}</url>" for url, day in rows)
    return f"{XML}<urlset {SPACE}>{urls}</urlset>"


def index(*urls):
    return f"{XML}<sitemapindex {SPACE}>{''.join(f'<sitemap><loc>{u}</loc></sitemap>' for u in urls)}</sitemapindex>"


def page(text="", head="", links=()):
    anchors = "".join(f'<a href="{link}">go</a> ' for link in links)
    return Reply(body=f"<html><head>{head}</head><body>{TEXT}<p>{text}</p>{anchors}</body></html>")


def stats(work):
    return json.loads((work / "out" / "stats.json").read_text())


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch):
    monkeypatch.setattr("lmcore.collect.http.BACKOFF", 0.02)


@pytest.fixture
def mapped():
    """A site whose pages are in sitemaps only: an index by robots.txt, of one in XML, one packed, one of plain text."""
    with FrozenSite(pages={"/": page("front"), **{f"/{n}": page(f"number {n}") for n in range(9)}}) as site:
        at = site.url
        site.replies["/robots.txt"] = [
            Reply(body=f"User-agent: *\nDisallow: /8\nSitemap: {at}/index.xml\n", content_type="text/plain")
        ]
        maps = {
            "/index.xml": index(f"{at}/a.xml", f"{at}/b.xml.gz", f"{at}/c.txt", f"{at}/gone.xml", f"{at}/index.xml"),
            "/a.xml": urlset((f"{at}/1", "2024-02-03T10:00:00Z"), (f"{at}/2", ""), ("https://other.example/", "")),
            "/b.xml.gz": gzip.compress(urlset((f"{at}/3", ""), (f"{at}/8", "")).encode(), mtime=0),
            "/c.txt": f"{at}/4\n\n{at}/5\nno url at all\n",
        }
        for path, body in maps.items():
            site.replies[path] = [Reply(body=body, content_type="application/octet-stream")]
        yield site


class TestSitemaps:
    def test_pages_of_all_sitemaps(self, mapped, tmp_path):
        run(tmp_path, web(mapped, sitemaps=True))
        found = outcomes(tmp_path)
        assert {path for path, outcome in found.items() if outcome == "ok"} >= {"/", "/1", "/2", "/3", "/4", "/5"}
        assert found["/8"] == "robots_denied"
        assert found["/gone.xml"] == "http_error"
        assert not {"/0", "/6", "/7"} & set(found)
        assert stats(tmp_path)["sitemaps"] == {"http_error": 1, "ok": 4}
        assert stats(tmp_path)["outcomes"] == {"ok": 6, "robots_denied": 1}
        meta = {row["url"].removeprefix(mapped.url): json.loads(row["meta"]) for row in documents(tmp_path)}
        assert meta["/1"]["lastmod"] == "2024-02-03"
        assert "lastmod" not in meta["/2"]
        assert not mapped.requests["/sitemap.xml"]

    def test_without_the_setting_none_is_asked_for(self, mapped, tmp_path):
        run(tmp_path, web(mapped))
        assert set(mapped.requests) == {"/robots.txt", "/"}

    def test_usual_place_and_deny(self, tmp_path):
        with FrozenSite(pages={"/": page(), "/a": page("a"), "/b": page("b")}, robots=Reply(404)) as site:
            site.replies["/sitemap.xml"] = [Reply(body=urlset((f"{site.url}/a", ""), (f"{site.url}/b", "")))]
            run(tmp_path, web(site, sitemaps=True, deny=("/b$",)))
            assert outcomes(tmp_path) == {"/": "ok", "/a": "ok", "/sitemap.xml": "ok"}

    def test_unchanged_sitemaps_are_not_sent_again(self, mapped, tmp_path):
        editions = Editions(tmp_path, web(mapped, sitemaps=True))
        editions.make()
        mapped.hits.clear()
        work = editions.make()
        assert dict(mapped.hits) == {"/robots.txt": 1}
        assert {row["status"] for row in log(work) if row["url"].endswith((".xml", ".gz", ".txt"))} == {304, 404}
        assert editions.metrics["new"] == 0

    @pytest.mark.parametrize("point", ["collect.page-stored:4", "collect.level-opened:2"])
    def test_killed(self, mapped, tmp_path, point):
        params = web(mapped, sitemaps=True)
        run(tmp_path / "whole", params)
        assert finish(start(tmp_path, params, point))[0] == -signal.SIGKILL
        assert finish(start(tmp_path, params))[0] == 0
        assert digests(tmp_path / "work" / "out") == digests(tmp_path / "whole" / "out")

    def test_broken_ones_give_what_comes_before(self):
        good = urlset(("http://h/a", ""), ("http://h/b", ""))
        assert [url for url, _ in read_sitemap(good[: good.index("http://h/b")].encode())[0]] == ["http://h/a"]
        bomb = (
            '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><urlset><url><loc>http://h/&b;</loc></url></urlset>'
        )
        assert "aaaa" not in str(read_sitemap(bomb.encode()))
        picture = '<urlset><url><loc>http://h/a</loc><i:image xmlns:i="x"><i:loc>http://h/a.jpg</i:loc></i:image></url></urlset>'
        assert read_sitemap(picture.encode()) == ([("http://h/a", "")], [])

    @given(
        st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: f"<urlset><url><loc>{text}".encode()))
    )
    def test_whatever_comes(self, body):
        for url, lastmod in read_sitemap(body)[0]:
            assert url.startswith("http")
            assert len(lastmod) in (0, 10)


class TestByteBudget:
    @pytest.mark.parametrize("concurrency", [1, 16])
    def test_what_is_kept_is_the_first_in_canonical_order(self, tmp_path, concurrency):
        paths = [f"/{number:02d}" for number in range(40)]
        with FrozenSite(pages={"/": page(links=paths), **{path: page(path * 40) for path in paths}}) as site:
            sizes = [len(site.replies[path][0].body) for path in ["/", *paths]]
            metrics = run(tmp_path, web(site, max_total_bytes=sum(sizes[:12])), concurrency=concurrency)
            got = outcomes(tmp_path)
            assert sorted(path for path, outcome in got.items() if outcome == "ok") == ["/", *paths[:11]]
            assert stats(tmp_path)["outcomes"] == {"ok": 12, "over_budget": 29}
            assert metrics["failed"] == 0
            if concurrency == 1:
                assert sum(site.hits.values()) <= 12 + 3
            before = digests(tmp_path / "out")
            run(tmp_path / "again", web(site, max_total_bytes=sum(sizes[:12])), concurrency=5)
            assert digests(tmp_path / "again" / "out") == before

    def test_the_cut_is_found_whatever_comes_first(self, tmp_path, seed):
        """Against the sum in order, after every page of a level in which each page is stored in any order."""
        draw = random.Random(seed)
        for number in range(20):
            sizes = {f"http://s/{page:02d}": draw.choice([0, 1, 5, 40]) for page in range(30)}
            frontier = Frontier.open(tmp_path / f"{number}.sqlite", "settings", silent)
            frontier.open_level(0, [NewPage(name, name) for name in sizes])
            most = draw.randint(0, sum(sizes.values()))
            budget, stored = Budget(frontier, 0, most + 1), {}
            for name in draw.sample(list(sizes), len(sizes)):
                if budget.cut is not None and name >= budget.cut:
                    continue
                body = b"x" * sizes[name]
                frontier.store(name, Response(name, name, "ok", body=body, size=len(body)), name, "")
                stored[name] = len(body)
                budget.spend(name, len(body))
                sums = zip(sorted(stored), itertools.accumulate(stored[name] for name in sorted(stored)), strict=True)
                assert budget.cut == next((name for name, total in sums if total > most + 1), None)
            frontier.close()

    def test_no_more_levels_after_it(self, tmp_path):
        with FrozenSite(pages={"/": page(links=["/a", "/b"]), "/a": page(links=["/c"]), "/b": page("b" * 99)}) as site:
            size = sum(len(site.replies[path][0].body) for path in ("/", "/a"))
            run(tmp_path, web(site, max_total_bytes=size))
            assert outcomes(tmp_path) == {"/": "ok", "/a": "ok", "/b": "over_budget"}


class TestCanonicalAddresses:
    def test_a_page_that_names_another_is_its_duplicate(self, tmp_path):
        def named(path, text=""):
            return page(text, f'<link rel="canonical" href="{path}">')

        pages = {
            "/": page(links=["/x?print=1", "/self", "/lost1", "/lost2", "/ring1", "/ring2", "/home", "/away"]),
            "/x?print=1": named("/x"),
            "/x": named("/x"),  # nobody links to it
            "/self": named("/self#top"),
            "/lost1": named("/missing"),
            "/lost2": named("/missing"),
            "/ring1": named("/ring2"),
            "/ring2": named("/ring1"),
            "/home": named("/"),
            "/away": named("http://elsewhere.example/"),
        }
        with FrozenSite(pages=pages) as site:
            run(tmp_path, web(site))
            assert outcomes(tmp_path) == {
                "/": "ok", "/x?print=1": "duplicate", "/x": "ok", "/self": "ok", "/lost1": "ok", "/lost2": "duplicate",
                "/ring1": "ok", "/ring2": "ok", "/home": "ok", "/away": "ok", "/missing": "http_error",
            }  # fmt: skip
            reason = next(row["reason"] for row in log(tmp_path) if row["outcome"] == "duplicate" and "x" in row["url"])
            assert reason == f"its canonical address is {site.url}/x"
            meta = {row["url"].removeprefix(site.url): json.loads(row["meta"]) for row in documents(tmp_path)}
            assert meta["/self"]["canonical"] == f"{site.url}/self"
            assert "canonical" not in meta["/"]
            assert meta["/away"]["canonical"] == "http://elsewhere.example/"


class TestTwoExtractors:
    @pytest.mark.parametrize("extractor", ["trafilatura", "bulk"])
    def test_agreement_by_host(self, tmp_path, extractor):
        with FrozenSite() as site:
            run(tmp_path, web(site, extractor=extractor, max_pages=20, audit=1.0))
            ((host, found),) = stats(tmp_path)["agreement"].items()
            assert host == site.url.removeprefix("http://")
            assert found["pages"] == stats(tmp_path)["records"]
            # The front page is a list of links: only the default's fallback, all visible text, takes them.
            assert (0.5 if extractor == "trafilatura" else 0.9) < found["lowest"] <= found["f1"] <= 1
            assert found["f1"] > 0.95
            fallback = {"visible text"} if extractor == "trafilatura" else set()
            assert set(stats(tmp_path)["extractors"]) == {extractor} | fallback
            run(tmp_path / "some", web(site, extractor=extractor, max_pages=20))
            assert stats(tmp_path / "some")["agreement"][host]["pages"] == 5
            run(tmp_path / "more", web(site, max_pages=20, audit=0.5))
            assert stats(tmp_path / "more")["agreement"][host]["pages"] == 10
            run(tmp_path / "none", web(site, max_pages=20, audit=0))
            assert "agreement" not in stats(tmp_path / "none")


def test_a_comment_beside_the_root_element():
    text = b"<!-- mine --><?x y?><url><loc>http://a.example/x</loc></url><!-- mine -->"
    assert read_sitemap(text) == ([("http://a.example/x", "")], [])


def test_memory_stays_flat_whatever_the_elements_are_called():
    """In a process of its own: the most memory it ever had is the measure. The 4 MB themselves are allowed for."""
    program = (
        "import resource\nfrom lmcore.collect.sitemaps import read_sitemap\n"
        "body = b'<urlset>' + b'<a/>' * 1_000_000\n"
        "kib = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "read_sitemap(body[:1000]); before = kib(); read_sitemap(body); print(kib() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40_000
