"""A site where everything goes wrong at once: every page has one entry in the fetch log, with why and how often."""

import time
from collections import Counter

import pytest
from frozen_site import FrozenSite, Reply
from helpers_collect import documents, log, run, web

TEXT = "<p>" + "These are enough words for a page to become a record of its own. " * 5 + "</p>"


def drip(handler):
    """A slow loris: a header, then a byte now and then, without end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
    while True:
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)


def drip_headers(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X-A: b\r\n")
        handler.wfile.flush()
        time.sleep(0.05)


def die(handler):
    """Half of what was promised, then the connection is gone."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9999\r\n\r\n<p>Half")


def die_in_a_chunk(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n<p>Ha")


def hang_up(handler):
    pass


def nonsense(handler):
    handler.wfile.write(b"\x00\x01\x02 no HTTP at all\r\n\r\n")


BROKEN = (
    "<html><p><table><tr><b><i><a href='/good'>x</p></b>"
    + TEXT
    + "<div <p <<>>&#xffffff; &nosuch; \x00</html></html><p>End"
)
PAGES = {
    "broken": Reply(body=BROKEN),
    "deep": Reply(body="<div>" * 200 + TEXT + "</div>" * 10),
    "latin": Reply(body=("Žluťoučký kůň. " * 20).encode("cp1250") + b"<p>", content_type="text/html; charset=no-such"),
    "wrong": Reply(
        body=(TEXT + "<p>Un été à la plage, déjà vu, garçon, forêt, à bientôt, naïve façade.").encode("cp1252")
    ),
    "utf16": Reply(
        body=("<p>Sixteen bits a letter. " * 20).encode("utf-16-le"), content_type="text/html; charset=utf-16le"
    ),
    "good": Reply(body=TEXT + "good"),
    "drip": Reply(act=drip),
    "drip-headers": Reply(act=drip_headers),
    "dies": Reply(act=die),
    "dies-in-a-chunk": Reply(act=die_in_a_chunk),
    "hangs-up": Reply(act=hang_up),
    "nonsense": Reply(act=nonsense),
    "ring-1": Reply(302, headers={"Location": "/ring-2"}),
    "ring-2": Reply(302, headers={"Location": "/ring-1"}),
    "far": Reply(302, headers={"Location": "/far/0"}),
    **{f"far/{n}": Reply(302, headers={"Location": f"/far/{n + 1}"}) for n in range(30)},
    "nowhere": Reply(302, headers={"Location": "mailto:us@example.org"}),
    "no-place": Reply(302, body=TEXT),
    "busy": Reply(503, headers={"Retry-After": "0"}),
    "once": Reply(503, headers={"Retry-After": "0"}),
}
EXPECTED = {  # outcome, words of the reason, tries
    "/": ("ok", "", 1),
    "/broken": ("ok", "", 1),
    "/deep": ("ok", "", 1),
    "/latin": ("ok", "", 1),
    "/wrong": ("ok", "", 1),
    "/utf16": ("ok", "", 1),
    "/good": ("ok", "", 1),
    "/drip": ("too_slow", "no complete answer within 5 s", 1),
    "/drip-headers": ("too_slow", "no complete answer within 5 s", 1),
    "/dies": ("truncated", "breaks off", 3),
    "/dies-in-a-chunk": ("truncated", "breaks off", 3),
    "/hangs-up": ("unreachable", "", 3),
    "/nonsense": ("unreachable", "", 3),
    "/ring-1": ("duplicate", "redirects to", 1),
    "/ring-2": ("duplicate", "redirects to", 1),
    "/far": ("redirect_loop", "more than 10 redirects", 11),
    "/nowhere": ("redirect_refused", "no http URL", 1),
    "/no-place": ("http_error", "status 302", 1),
    "/busy": ("unavailable", "status 503", 3),
    "/once": ("ok", "", 2),
}


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch):
    monkeypatch.setattr("lmcore.collect.http.BACKOFF", 0.02)


@pytest.mark.parametrize("extractor", ["trafilatura", "bulk"])
def test_every_page_is_told_once(tmp_path, extractor):
    paths = sorted(path for path in EXPECTED if path != "/")
    # robots.txt of 1 MB: what stands in the first 500 KiB counts, the rest is not read.
    robots = "User-agent: *\nDisallow: /private/\n" + "# nothing\n" * 100_000 + "Disallow: /good\n"
    links = "".join(f'<a href="{path}">x</a>' for path in [*paths, *paths, "/private/x"])
    pages = {"/": Reply(body=TEXT + links), **{f"/{name}": reply for name, reply in PAGES.items()}}
    with FrozenSite(pages=pages, robots=robots) as site:
        site.replies["/once"] = [PAGES["once"], Reply(body=TEXT + "at last")]
        run(tmp_path, web(site, timeout=5, retries=2, extractor=extractor), concurrency=8)
        rows = {row["url"].removeprefix(site.url): row for row in log(tmp_path)}
        assert len(log(tmp_path)) == len(rows)
        assert rows.pop("/private/x")["outcome"] == "robots_denied"
        assert set(rows) == set(EXPECTED)
        for path, (outcome, words, tries) in EXPECTED.items():
            row = rows[path]
            assert (row["outcome"], row["tries"]) == (outcome, tries), path
            assert words in row["reason"], path
            assert bool(row["reason"]) == (outcome != "ok"), path
            assert "\n" not in row["reason"]
        assert site.requests["/robots.txt"] == 1
        texts = {row["url"].removeprefix(site.url): row["text"] for row in documents(tmp_path)}
        assert Counter(row["outcome"] for row in rows.values())["ok"] == len(texts) == len(documents(tmp_path))
        assert "enough words" in texts["/broken"]
        assert "déjà vu, garçon" in texts["/wrong"]
        assert "Žluťoučký kůň" in texts["/latin"]
