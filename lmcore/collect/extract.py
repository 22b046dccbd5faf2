"""From the bytes of a page to its title, main text, links, and what it says about robots and language."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import count, islice

import lxml.etree
import lxml.html
import trafilatura
import trafilatura.meta

from lmcore.collect.charset import clean, decode
from lmcore.collect.layout import BLOCKS, WHITE, full_lines, tidy_text
from lmcore.collect.links import page_links
from lmcore.collect.presets import Preset, preset_page
from lmcore.collect.pydoc_page import is_pydoc, pydoc_text, pydoc_title

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
PLAIN_TYPES = frozenset({"text/plain", "text/markdown", "text/x-rst"})
# trafilatura's passes are quadratic in places: 15,000 elements take it 1.3 s, 53,000 take 13 s (measured, 2.3.1).
MAX_ELEMENTS = 20_000
CACHE_PAGES = 200  # trafilatura's caches grow with every page; emptied after this many
_HIDDEN = ("script", "style", "noscript", "template", "head", "nav", "header", "footer", "aside", "form", "button")
_LANG = re.compile(r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$")
# What trafilatura and lxml have been seen to raise on broken trees.
_GIVES_UP = (
    lxml.etree.LxmlError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_pages_read = count(1)

for _name in ("trafilatura", "htmldate"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # their errors are remarks on pages; outcomes say it here


@dataclass(frozen=True)
class Page:
    """What a page is worth: `text` is "" when nothing readable is on it."""

    title: str = ""
    text: str = ""
    links: list[str] = field(default_factory=list)
    lang: str | None = None  # as the page declares it
    charset: str = ""
    charset_source: str = ""  # see `charset.decode`
    extractor: str = (
        ""  # trafilatura, pydoc, visible text (the fallback), plain text, preset:NAME; "X after preset:NAME"
    )
    index: bool = True  # False: the page asks not to be stored (robots noindex)


def read_page(
    body: bytes,
    url: str,
    content_type: str | None,
    robots_tag: str = "",
    *,
    min_chars: int = 1,
    preset: Preset | None = None,
) -> Page:
    """Read a page; never raises on what it contains.

    The main text is the preset's, or trafilatura's (fast mode) without one or where its selectors find nothing. Where
    trafilatura finds fewer than `min_chars` characters, or the page is too large for it, the fallback is all visible
    text. `extractor` says what happened.
    """
    decoded = decode(body, content_type, html=media_type(content_type) not in PLAIN_TYPES)
    text = clean(decoded.text)
    rules = robots_tag.lower()
    if media_type(content_type) in PLAIN_TYPES:
        return Page(
            text=tidy_text(text),
            charset=decoded.charset,
            charset_source=decoded.source,
            extractor="plain text",
            index=not set(re.split(r"[\s,:]+", rules)) & {"noindex", "none"},
        )
    tree = parse_html(text)
    if tree is None:
        return Page(charset=decoded.charset, charset_source=decoded.source, extractor="none")
    for element in tree.iter("meta"):
        if (element.get("name") or "").lower() in ("robots", "collect-train"):
            rules += "," + (element.get("content") or "").lower()
    words = set(re.split(r"[\s,:]+", rules))
    links = [] if words & {"nofollow", "none"} else page_links(tree, url)
    lang = (tree.get("lang") or "").strip()
    found = preset_page(preset, text) if preset else None
    if preset and found and found.text:
        title, main, extractor = found.title or _title(tree), tidy_text(found.text), f"preset:{preset.name}"
    else:
        title, main, extractor = _main_text(tree, url, min_chars)  # last: it may change the tree
        extractor += f" after preset:{preset.name}" if preset else ""
    lang = lang if _LANG.match(lang) else preset.lang if preset else ""
    return Page(
        title=title,
        text=main,
        links=links,
        lang=lang or None,
        charset=decoded.charset,
        charset_source=decoded.source,
        extractor=extractor,
        index=not words & {"noindex", "none"},
    )


def parse_html(text: str) -> lxml.html.HtmlElement | None:
    """The tree of an HTML page; None when there is nothing in it."""
    try:
        # Bytes with a fixed charset: a string with an XML declaration is refused, and <meta> is already dealt with.
        parser = lxml.html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
        tree = lxml.html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (lxml.etree.LxmlError, ValueError, AssertionError):
        return None
    return tree


def html_text(text: str, min_chars: int = 1) -> tuple[str, str, str]:
    """(title, main text, extractor) of an HTML document already decoded; ("", "", "none") when it is empty."""
    tree = parse_html(text)
    return ("", "", "none") if tree is None else _main_text(tree, "", min_chars)


def media_type(content_type: str | None) -> str:
    """`text/html` of `Text/HTML; charset=x`; "" when nothing was declared."""
    return (content_type or "").partition(";")[0].strip().lower()


def _main_text(tree: lxml.html.HtmlElement, url: str, min_chars: int) -> tuple[str, str, str]:
    if is_pydoc(tree):
        return pydoc_title(tree), tidy_text(pydoc_text(tree)), "pydoc"
    title = _title(tree)
    if sum(1 for _ in islice(tree.iter(), MAX_ELEMENTS + 1)) <= MAX_ELEMENTS:
        main = _trafilatura(tree, url)
        if len(main) >= min_chars:
            return title, main, "trafilatura"
    return title, visible_text(tree), "visible text"


def _title(tree: lxml.html.HtmlElement) -> str:
    for path in (".//head/title", ".//title", ".//h1"):
        for element in tree.findall(path):
            title = " ".join(element.text_content().split())
            if title:
                return title[:500]
    return ""


def _trafilatura(tree: lxml.html.HtmlElement, url: str) -> str:
    """The main text by trafilatura; "" when it finds none or gives up (the caller's fallback is recorded)."""
    if next(_pages_read) % CACHE_PAGES == 0:
        trafilatura.meta.reset_caches()
    try:
        found = trafilatura.extract(
            tree, url=url or None, fast=True, include_comments=False, include_tables=True, output_format="txt"
        )
    except _GIVES_UP:
        return ""
    return tidy_text(clean(found)) if found else ""


def visible_text(tree: lxml.html.HtmlElement, hidden: Collection[str] = _HIDDEN) -> str:
    """All text but that of `hidden` elements (scripts, navigation and forms, as a rule), one line per block."""
    parts: list[str] = []
    stack: list[tuple[lxml.html.HtmlElement, bool]] = [(tree, False)]
    while stack:
        element, leaving = stack.pop()
        edge = "\n" if element.tag in BLOCKS else ""
        if leaving:
            parts += (edge, WHITE.sub(" ", element.tail or ""))
            continue
        stack.append((element, True))
        if not isinstance(element.tag, str) or element.tag in hidden:
            continue
        parts += (edge, WHITE.sub(" ", element.text or ""))
        stack.extend((child, False) for child in reversed(element))
    return clean(full_lines(parts))
