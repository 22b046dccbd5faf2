"""From the bytes of a feed to its entries: RSS and Atom by feedparser, JSON Feed (jsonfeed.org, 1 and 1.1).

feedparser gets a stream, never a string: it would fetch a URL and open a file of that name. It gets UTF-8, because its
own guess falls back to windows-1252; and no feed with entities of its own, which it would unfold.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import re
import time
import warnings
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat
from xml.sax import SAXException

from lmcore.collect.charset import clean, decode
from lmcore.collect.extract import parse_html, visible_text
from lmcore.collect.layout import tidy_text
from lmcore.collect.links import tidy_url
from lmcore.collect.unpack import Unreadable

_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._:-]+)["']""")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # no characters of XML 1.0
_EDGE = re.compile(r"<(/?)(?:\w+:)?(?:item|entry)\b", re.IGNORECASE)
_LANG = re.compile(r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$")
_CUT = ("no element found", "unclosed token", "unclosed CDATA section")
# What feedparser has been seen to raise on broken feeds.
_GIVES_UP = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    SAXException,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Entry:
    """One entry. `version` changes when its feed says that the entry has changed."""

    id: str
    url: str  # of the article; "" where it links to none
    title: str
    text: str  # that the feed itself has of it
    version: str
    date: str = ""  # ISO 8601, UTC; when it was published
    categories: tuple[str, ...] = ()
    rights: str = ""
    lang: str = "und"


@dataclass(frozen=True)
class Feed:
    """The entries of a feed, each id once; `repeated` is how many were left out for it."""

    entries: tuple[Entry, ...]
    repeated: int = 0
    next_url: str = ""
    problem: str = ""  # what is wrong with a feed that could be read all the same
    cut: bool = False  # it breaks off; an entry that is not whole is left out


def read_feed(data: bytes, url: str, content_type: str = "", lang: str = "und") -> Feed:
    """Read a feed; `url` is what its links are relative to. Raises Unreadable for what is no feed, or a bomb."""
    text = _CONTROL.sub("", _decoded(data, content_type, lang))
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        return _json_feed(text, url)
    return _xml_feed(text, url)


def _decoded(data: bytes, content_type: str, lang: str) -> str:
    """By byte order mark, header, the XML declaration, and at last what the bytes say."""
    found = decode(data, content_type, lang=lang)
    declared = _DECLARED.match(data[:1024])
    if declared and found.source not in ("bom", "header"):
        found = decode(data, f"text/xml; charset={declared[1].decode()}", lang=lang)
    return clean(found.text)


def _xml_feed(text: str, url: str) -> Feed:
    import feedparser

    data = text.encode()
    if _unfolds(data):
        raise Unreadable("damaged", "XML with entities of its own, which are not read")
    headers = {"content-type": "application/xml; charset=utf-8", "content-location": url}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what feedparser itself is made of
            found = feedparser.parse(io.BytesIO(data), response_headers=headers)
            entries = [_xml_entry(entry, found.feed, url) for entry in found.entries]
    except _GIVES_UP as error:
        raise Unreadable("damaged", "feedparser gives up on it") from error
    problem, cut = "", False
    if found.get("bozo"):
        problem = " ".join(str(found.get("bozo_exception")).split())[:200]
        cut = any(part in problem for part in _CUT)
    edges = _EDGE.findall(text) if cut else []
    if entries and edges and edges[-1] == "":
        entries = entries[:-1]
    if not entries and not found.get("version"):
        cut = cut and bool(_EDGE.search(text))
        raise Unreadable("truncated" if cut else "no_feed", problem or "neither RSS nor Atom nor JSON Feed")
    following = next((link.get("href", "") for link in found.feed.get("links", []) if link.get("rel") == "next"), "")
    next_url = tidy_url(following, url) or "" if following else ""
    return _feed(entries, next_url, f"not well-formed: {problem}" if problem else "", cut)


def _unfolds(data: bytes) -> bool:
    """Whether an XML document declares entities before its root element; asked of the parser that would unfold them."""
    if b"<!ENTITY" not in data:
        return False
    declared = rooted = False

    def entity(*_: object) -> None:
        nonlocal declared
        declared = True

    def root(*_: object) -> None:
        nonlocal rooted
        rooted = True
        raise _RootError

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = entity
    parser.StartElementHandler = root
    try:
        parser.Parse(data, True)
    except _RootError:
        pass
    except expat.ExpatError:
        return declared or not rooted  # what is in such a prologue cannot be told
    return declared


class _RootError(Exception):
    """The prologue is over."""


def _xml_entry(entry: Any, feed: Any, base: str) -> Entry:
    texts = [part for part in entry.get("content") or [] if part.get("value")]
    detail = texts[0] if texts else entry.get("summary_detail") or {}
    text = _text(detail.get("value"), detail.get("type") == "text/plain")
    title_detail = entry.get("title_detail") or {}
    title = " ".join(_text(entry.get("title"), title_detail.get("type") == "text/plain").split())
    updated, published = (dict.get(entry, name) or "" for name in ("updated", "published"))
    lang = detail.get("language") or feed.get("language") or ""
    return _entry(
        given_id=entry.get("id"),
        link=entry.get("link"),
        base=base,
        title=title,
        text=text,
        version=updated or published,
        date=_date(dict.get(entry, "published_parsed") or dict.get(entry, "updated_parsed")),
        categories=[tag.get("label") or tag.get("term") for tag in entry.get("tags") or []],
        rights=entry.get("rights") or feed.get("rights"),
        lang=lang,
    )


def _json_feed(text: str, url: str) -> Feed:
    try:
        value = json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise Unreadable("damaged", "not JSON") from error
    if not str(value.get("version")).startswith(("https://jsonfeed.org/", "http://jsonfeed.org/")):
        raise Unreadable("no_feed", "neither RSS nor Atom nor JSON Feed")
    items = value.get("items")
    entries = [
        _json_entry(item, value, url) for item in (items if isinstance(items, list) else []) if isinstance(item, dict)
    ]
    following = _string(value.get("next_url"))
    return _feed(entries, tidy_url(following, url) or "" if following else "", "", cut=False)


def _json_entry(item: dict[str, Any], feed: dict[str, Any], base: str) -> Entry:
    html, plain = _string(item.get("content_html")), _string(item.get("content_text")) or _string(item.get("summary"))
    tags, given = item.get("tags"), item.get("id")
    published = _string(item.get("date_published"))
    return _entry(
        given_id=str(given) if isinstance(given, (str, int, float)) else "",
        link=_string(item.get("url")),
        base=base,
        title=" ".join(_string(item.get("title")).split()),
        text=_text(html, False) if html else tidy_text(plain),
        version=_string(item.get("date_modified")) or published,
        date=_iso(published),
        categories=tags if isinstance(tags, list) else [],
        rights="",
        lang=_string(item.get("language")) or _string(feed.get("language")),
    )


def _entry(
    *, given_id: Any, link: Any, base: str, title: str, text: str, version: str, date: str, categories: list[Any],
    rights: Any, lang: str,
) -> Entry:  # fmt: skip
    """An entry of whatever a feed says; what it leaves out comes from the rest."""
    link = _string(link).strip()
    url = tidy_url(link, base) or "" if link else ""
    digest = hashlib.sha256(f"{title}\0{text}".encode()).hexdigest()[:16]
    names = dict.fromkeys(" ".join(clean(name).split()) for name in categories if isinstance(name, str))
    return Entry(
        id=clean(_string(given_id)).strip() or url or digest,
        url="" if url == base else url,
        title=clean(title)[:500],
        text=text,
        version=clean(version).strip() or digest,
        date=date,
        categories=tuple(name for name in names if name),
        rights=" ".join(_text(_string(rights), False).split())[:500],
        lang=lang if _LANG.match(lang) else "und",
    )


def _feed(entries: list[Entry], next_url: str, problem: str, cut: bool) -> Feed:
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(entry.id, entry)
    return Feed(tuple(first.values()), len(entries) - len(first), next_url, problem, cut)


def _text(value: Any, plain: bool) -> str:
    """The text of a value that is HTML, or plain."""
    if not isinstance(value, str) or not value.strip():
        return ""
    if plain or not ("<" in value or "&" in value):
        return tidy_text(clean(value))
    tree = parse_html(value)
    return "" if tree is None else tidy_text(visible_text(tree))


def _date(parsed: Any) -> str:
    """ISO 8601 of feedparser's date; "" when there is none."""
    if not isinstance(parsed, time.struct_time):
        return ""
    try:
        return datetime.datetime(*parsed[:6], tzinfo=datetime.UTC).isoformat()
    except ValueError:
        return ""


def _iso(text: str) -> str:
    try:
        moment = datetime.datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC).isoformat()
    except (ValueError, OverflowError):
        return ""


def _string(value: Any) -> str:
    return clean(value) if isinstance(value, str) else ""
