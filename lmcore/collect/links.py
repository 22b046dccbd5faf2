"""URLs in one spelling, and the links of a page. Nothing here raises, whatever a page contains."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit, urlunsplit

import lxml.html
import urllib3
from w3lib.url import canonicalize_url

MAX_URL = 2048  # longer ones are traps far more often than pages
_PORTS = {"http": 80, "https": 443}
_LINE_BREAKS = re.compile(r"[\t\r\n]+")  # browsers take them out of a link, so they are common in real pages
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


def page_links(tree: lxml.html.HtmlElement, url: str) -> list[str]:
    """Tidy URLs of the page's `<a href>` and `<area href>`, each once, in order of appearance.

    Respects `<base href>` and leaves out rel=nofollow.
    """
    base = url
    for element in tree.iter("base"):
        if element.get("href"):
            base = tidy_url(element.get("href"), url) or url
            break
    found: dict[str, None] = {}
    for href in _hrefs(tree):
        link = tidy_url(href, base)
        if link:
            found[link] = None
    return list(found)


def _hrefs(tree: lxml.html.HtmlElement) -> Iterator[str]:
    for element in tree.iter("a", "area"):
        href = element.get("href")
        if href and "nofollow" not in (element.get("rel") or "").lower().split():
            yield href


def is_local(url: str) -> bool:
    """Whether a URL names a machine of one's own: a loopback or private address, localhost or a served site."""
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
