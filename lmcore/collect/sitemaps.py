"""What sites say their pages are: sitemaps (sitemaps.org, version 0.9), found by robots.txt or at /sitemap.xml.

Indexes are followed, also packed ones; a sitemap may be XML or a text file of URLs. All go through the crawl's one
client. What came back is kept in the crawl's folder, so that a crawl that was killed is given the same again.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import lxml.etree

from lmcore.collect.charset import decode
from lmcore.collect.fetched import Fetched, Fetcher
from lmcore.collect.http import Client, Response
from lmcore.collect.links import tidy_url
from lmcore.collect.page_facts import iso_date
from lmcore.collect.params import WebSource
from lmcore.collect.responses import Before
from lmcore.progress import Report
from storage.digest import digest_json

SITEMAPS = "sitemaps.sqlite"
SITEMAP_BYTES = 50 * 1024 * 1024  # the protocol's own limit, unpacked
MAX_SITEMAPS = 5_000  # of one crawl
MAX_ELEMENTS = 2_000_000  # of one sitemap: 50,000 pages are its limit; what a page is given beside its URL is some 10
MAX_NESTING = 4  # an index of indexes of ...; the protocol has one step
_GZIP = b"\x1f\x8b"


class Sitemaps:
    """The sitemaps of a crawl's hosts, in the folder `work`."""

    def __init__(self, work: Path, params: WebSource, before: Before, report: Report) -> None:
        self._before = before
        self._work = work
        self._fetched = Fetched.open(work / SITEMAPS, digest_json(params.key_values()), report)

    def links(self, client: Client, concurrency: int, origins: Sequence[str]) -> Iterator[list[tuple[str, str]]]:
        """(URL, lastmod or "") of the pages, sitemap by sitemap."""
        fetcher = Fetcher(self._work, self._fetched, client, self._before, concurrency)
        level = sorted({url for origin in origins for url in _starts(client, origin)})
        known: set[str] = set()
        for _ in range(MAX_NESTING):
            level = [url for url in level if url not in known][: MAX_SITEMAPS - len(known)]
            known.update(level)
            below: set[str] = set()
            for response in fetcher.get_all(level, max_bytes=SITEMAP_BYTES):
                if response.outcome != "ok":
                    continue
                pages, maps = read_sitemap(response.body, response.content_type)
                below.update(maps)
                yield pages
            level = sorted(below)

    def log(self) -> Iterator[dict[str, Any]]:
        """Rows of the fetch log."""
        return self._fetched.log()

    def responses(self) -> Iterator[Response]:
        """The sitemaps that came."""
        return self._fetched.responses()

    def counts(self) -> dict[str, int]:
        """How many were asked for, by outcome."""
        return dict(self._fetched.outcomes())

    def close(self) -> None:
        """Let go of the file; what is in it stays."""
        self._fetched.close()

    def discard(self) -> None:
        """Remove the file."""
        self._fetched.discard()


def read_sitemap(body: bytes, content_type: str = "") -> tuple[list[tuple[str, str]], list[str]]:
    """(URL, lastmod or "") of the pages and the URLs of further sitemaps that a sitemap names; never raises.

    A damaged one gives what comes before the damage, one of more than MAX_ELEMENTS elements what is in so many.
    """
    body = _unpacked(body)
    start = body[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start.startswith(b"<"):
        lines = decode(body, content_type).text.splitlines()
        return [(url, "") for line in lines if line.strip() and (url := tidy_url(line))], []
    pages: list[tuple[str, str]] = []
    maps: list[str] = []
    loc = lastmod = ""
    try:
        tags = lxml.etree.iterparse(
            io.BytesIO(body), events=("end",), recover=True, resolve_entities=False, no_network=True, load_dtd=False,
            remove_comments=True, remove_pis=True,
        )  # fmt: skip
        for _, element in islice(tags, MAX_ELEMENTS):
            name = str(element.tag).rpartition("}")[2].lower()
            if name == "loc" and not _is_of_a_picture(element):
                loc = (element.text or "").strip()
            elif name == "lastmod":
                lastmod = iso_date(element.text or "")
            elif name in ("url", "sitemap"):
                url = tidy_url(loc) if loc else None
                if url and name == "url":
                    pages.append((url, lastmod))
                elif url:
                    maps.append(url)
                loc = lastmod = ""
            element.clear()  # every one, whatever its name, so that memory stays flat
            parent = element.getparent()
            while parent is not None and element.getprevious() is not None:
                del parent[0]
    except (lxml.etree.LxmlError, ValueError, AssertionError):
        pass  # no XML to its end: what came before counts
    return pages, maps


def _is_of_a_picture(element: lxml.etree._Element) -> bool:
    """Whether a <loc> is that of an <image:image> or <video:video> of the page."""
    parent = element.getparent()
    return parent is not None and str(parent.tag).rpartition("}")[2].lower() not in ("url", "sitemap")


def _starts(client: Client, origin: str) -> list[str]:
    """The sitemaps that robots.txt names, or the usual place."""
    named = [url for line in client.robots.sitemaps(f"{origin}/") if (url := tidy_url(line, f"{origin}/"))]
    return named or [f"{origin}/sitemap.xml"]


def _unpacked(body: bytes) -> bytes:
    """A gzip file unpacked, as far as that goes, never beyond the cap; anything else as it is."""
    if not body.startswith(_GZIP):
        return body
    try:
        return zlib.decompressobj(31).decompress(body, SITEMAP_BYTES)
    except zlib.error:
        return b""
