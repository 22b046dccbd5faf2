"""URLs in one spelling, and the links of a page. Nothing here raises, whatever a page contains."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urljoin, urlsplit, urlunsplit

import lxml.html
import urllib3
from w3lib.url import canonicalize_url

MAX_URL = 2048  # longer ones are traps far more often than pages
_PORTS = {"http": 80, "https": 443}
_LINE_BREAKS = re.compile(r"[\t\r\n]+")  # browsers take them out of a link, so they are common in real pages
# Addresses that are already as they should be, which most are: nothing to escape, no dot segments, no empty ones. The
# long way round costs 30 times as much.
_PLAIN = re.compile(r"(?!.*//)(?!.*/\.)[A-Za-z0-9_~/-][A-Za-z0-9_~./-]*(?:\?[A-Za-z0-9_~.=&-]+)?")
# Ports from 60000 are left to the long way, which knows what a port can be.
_PLAIN_URL = re.compile(
    r"(?:http://(?!.*:80/)|https://(?!.*:443/))[a-z0-9][a-z0-9.-]*(?::(?:[1-9]\d{0,3}|[1-5]\d{4}))?/([A-Za-z0-9_~./-]*)"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def tidy_url(url: str, base: str | None = None) -> str | None:
    """An absolute http(s) URL without fragment, as it may be sent; None when `url` cannot be one.

    Host in lower case, default port and dot segments removed, odd characters percent-encoded. The order of
    the query is kept, because some servers care. URLs with a user name or password are refused.
    """
    try:
        url = _LINE_BREAKS.sub("", url.strip())
        joined = urljoin(base, url) if base else url
        if len(joined) > MAX_URL or _CONTROL.search(joined):
            return None
        parsed = urllib3.util.parse_url(joined)
        if parsed.scheme not in _PORTS or not parsed.host or parsed.auth is not None:
            return None
        netloc = parsed.host if parsed.port in (None, _PORTS[parsed.scheme]) else f"{parsed.host}:{parsed.port}"
        tidy = urlunsplit((parsed.scheme, netloc, parsed.path or "/", parsed.query or "", ""))
        tidy.encode("ascii")
        # urlsplit has its own opinion on brackets and ports; what it refuses, requests would refuse later.
        return tidy if urlsplit(tidy).hostname and len(tidy) <= MAX_URL else None
    except (ValueError, UnicodeError, urllib3.exceptions.LocationParseError):
        return None


def canonical_url(url: str) -> str | None:
    """The name under which a page is known: two spellings of one page give the same name. None as `tidy_url`."""
    plain = _PLAIN_URL.fullmatch(url)
    if plain and len(url) <= MAX_URL and "//" not in plain[1] and "/." not in f"/{plain[1]}":
        return url
    tidy = tidy_url(url)
    if tidy is None:
        return None
    try:
        return tidy_url(canonicalize_url(tidy, keep_blank_values=True, keep_fragments=False))
    except (ValueError, UnicodeError):
        return None


def site_of(url: str) -> str:
    """`host:port` of a tidy URL: what politeness, robots.txt and the private-address rule go by."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"


class LinkBase:
    """What the links of one page are relative to: its URL, or where its `<base href>` points."""

    def __init__(self, url: str, base: str = "") -> None:
        self.page = url
        self._base = (tidy_url(base, url) if base else None) or url
        parts = urlsplit(self._base)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._folder = self._origin + parts.path[: parts.path.rfind("/") + 1]
        self._plain = tidy_url(self._base) == self._base

    def link(self, href: str) -> str | None:
        """The tidy URL of a link; None when it is none to follow."""
        path = href.partition("#")[0]
        if self._plain and _PLAIN.fullmatch(path):
            link = (self._origin if path[0] == "/" else self._folder) + path
            return link if len(link) <= MAX_URL else None
        return tidy_url(href, self._base)

    def links(self, tags: Iterable[tuple[str, str]]) -> list[str]:
        """Tidy URLs of (href, rel), each once, in order of appearance; rel=nofollow is left out."""
        found: dict[str, None] = {}
        for href in dict.fromkeys(href for href, rel in tags if href and "nofollow" not in rel.lower().split()):
            link = self.link(href)
            if link:
                found[link] = None
        return list(found)


def page_links(tree: lxml.html.HtmlElement, url: str) -> list[str]:
    """Tidy URLs of the page's `<a href>` and `<area href>`, each once, in order of appearance.

    Respects `<base href>` and leaves out rel=nofollow.
    """
    return link_base(tree, url).links((tag.get("href") or "", tag.get("rel") or "") for tag in tree.iter("a", "area"))


def link_base(tree: lxml.html.HtmlElement, url: str) -> LinkBase:
    """What the links of the page at `url` are relative to."""
    return LinkBase(url, next((tag.get("href") for tag in tree.iter("base") if tag.get("href")), ""))


def is_local(url: str) -> bool:
    """Whether a URL names a machine of one's own: a loopback or private address, localhost or a served site."""
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
