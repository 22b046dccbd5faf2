"""From the bytes of a page to its title, main text, links, and what it says about robots and language."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from configparser import ConfigParser
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count, islice

import lxml.etree
import lxml.html
import trafilatura
import trafilatura.meta
from trafilatura.settings import use_config

from lmcore.collect.bulk import bulk_page
from lmcore.collect.charset import clean, decode
from lmcore.collect.layout import BLOCKS, WHITE, full_lines, join_wide, tidy_text
from lmcore.collect.links import link_base, page_links
from lmcore.collect.page_facts import facts_of, iso_date
from lmcore.collect.prepare import prepare
from lmcore.collect.presets import Preset, PresetPage, preset_page
from lmcore.collect.pydoc_page import is_pydoc, pydoc_text, pydoc_title

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
PLAIN_TYPES = frozenset({"text/plain", "text/markdown", "text/x-rst"})
# trafilatura's passes are quadratic in places: 15,000 elements take it 1.3 s, 53,000 take 13 s (measured, 2.3.1).
MAX_ELEMENTS = 20_000
MIN_EXTRACTED = 50  # characters; trafilatura's 250 are many in Japanese, and `prepare` shows it where the text is
CACHE_PAGES = 200  # trafilatura's caches grow with every page; emptied after this many
_HIDDEN = ("script", "style", "noscript", "template", "head", "nav", "header", "footer", "aside", "form", "button")
_SEPARATORS = re.compile(r"[\s,:]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # libxml2 reads them, but lxml writes none
_NO_INDEX, _NO_FOLLOW = frozenset({"noindex", "none"}), frozenset({"nofollow", "none"})
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
# lxml.html has a class for forms and labels, too, and asks Python for each element which: a tenth of all the time.
_CLASSES = lxml.etree.ElementDefaultClassLookup(
    element=lxml.html.HtmlElement, comment=lxml.html.HtmlComment, entity=lxml.html.HtmlEntity
)
_COUNT = lxml.etree.XPath("count(//*)")
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
    date: str = ""  # of publication, YYYY-MM-DD, as the page declares it
    canonical: str = ""  # canonical URL of the address the page gives for itself
    charset: str = ""
    charset_source: str = ""  # see `charset.decode`
    extractor: str = ""  # trafilatura, bulk, preset:NAME, pydoc, plain text, visible text (the fallback), none
    index: bool = True  # False: the page asks not to be stored (robots noindex)


def read_page(
    body: bytes,
    url: str,
    content_type: str | None,
    robots_tag: str = "",
    *,
    min_chars: int = 1,
    preset: Preset | None = None,
    extractor: str = "trafilatura",
) -> Page:
    """Read a page; never raises on what it contains.

    The main text is the preset's, or trafilatura's (fast mode) without one or where its selectors find nothing; with
    the extractor "bulk", bulk.py's. Where trafilatura finds fewer than `min_chars` characters, or the page is too large
    for it, the fallback is all visible text. `Page.extractor` says what happened.
    """
    decoded = decode(body, content_type, html=media_type(content_type) not in PLAIN_TYPES)
    text = clean(decoded.text)
    known = Page(charset=decoded.charset, charset_source=decoded.source, index=not _words(robots_tag) & _NO_INDEX)
    if media_type(content_type) in PLAIN_TYPES:
        return replace(known, text=tidy_text(text), extractor="plain text")
    chosen = preset_page(preset, text) if preset else PresetPage()
    if extractor == "bulk":
        page = _bulk(text, url, robots_tag)
    else:
        page = _tree(text, url, robots_tag, None if chosen.text else min_chars)
    if page is None:
        return replace(known, extractor="none")
    if preset:
        page = _by_preset(page, preset, chosen)
    return replace(page, charset=decoded.charset, charset_source=decoded.source)


def second_text(page: Page, body: bytes, url: str, content_type: str | None) -> str | None:
    """The text of a page by another extractor than the one that read it (trafilatura, or bulk where it was
    trafilatura), to see whether the two agree; None for plain text."""
    if page.extractor in ("plain text", "none"):
        return None
    text = clean(decode(body, content_type, html=True).text)
    if page.extractor.startswith("trafilatura"):
        found = bulk_page(text, url)
        return found.text if found else ""
    tree = parse_html(text)
    small = tree is not None and _size(tree) <= MAX_ELEMENTS
    return _trafilatura(tree, url) if small else ""


def _bulk(text: str, url: str, robots_tag: str) -> Page | None:
    found = bulk_page(text, url)
    if found is None:
        return None
    words = _words(robots_tag + found.rules)
    return Page(
        title=clean(found.title),
        text=tidy_text(found.text),
        links=[] if words & _NO_FOLLOW else found.links,
        lang=found.facts.lang or None,
        date=found.facts.date,
        canonical=found.facts.canonical,
        extractor="bulk",
        index=not words & _NO_INDEX,
    )


def _tree(text: str, url: str, robots_tag: str, min_chars: int | None) -> Page | None:
    """The page by lxml and trafilatura; without `min_chars` its main text is not wanted."""
    tree = parse_html(text)
    if tree is None:
        return None
    rules = robots_tag
    metas: list[tuple[str, str]] = []
    for tag in tree.iter("meta"):
        name, content = tag.get("name") or "", tag.get("content") or ""
        if name.lower() in ("robots", "collect-train"):
            rules += "," + content
        metas.append((tag.get("property") or name or tag.get("http-equiv") or "", content))
    words = _words(rules)
    base = link_base(tree, url)
    facts = facts_of(
        metas,
        canonical=next((t.get("href") or "" for t in tree.iter("link") if "canonical" in _rel(t)), ""),
        scripts=[t.text or "" for t in tree.iter("script") if (t.get("type") or "").lower() == "application/ld+json"],
        times=[t.get("datetime") or "" for t in islice(tree.iter("time"), 5)],
        lang=tree.get("lang") or "",
        base=base,
    )
    links = [] if words & _NO_FOLLOW else page_links(tree, url)
    if min_chars is None:
        title, main, extractor = _title(tree), "", ""
    else:
        title, main, extractor = _main_text(tree, text, url, min_chars)  # last: it changes the tree
    return Page(
        title=title,
        text=main,
        links=links,
        lang=facts.lang or None,
        date=facts.date,
        canonical=facts.canonical,
        extractor=extractor,
        index=not words & _NO_INDEX,
    )


def _by_preset(page: Page, preset: Preset, found: PresetPage) -> Page:
    """The page with what the preset's selectors found; where they found no text, `extractor` says whose text it is."""
    lang = page.lang or preset.lang or None
    if not found.text:
        return replace(page, lang=lang, extractor=f"{page.extractor} after preset:{preset.name}")
    return replace(
        page,
        title=found.title or page.title,
        text=tidy_text(found.text),
        date=iso_date(found.date) or page.date,
        lang=lang,
        extractor=f"preset:{preset.name}",
    )


def _words(rules: str) -> set[str]:
    return set(_SEPARATORS.split(rules.lower()))


def _rel(tag: lxml.html.HtmlElement) -> list[str]:
    return (tag.get("rel") or "").lower().split()


def parse_html(text: str) -> lxml.html.HtmlElement | None:
    """The tree of an HTML page; None when there is nothing in it."""
    text = _CONTROL.sub("", join_wide(text).replace("\f", " "))
    try:
        # Bytes with a fixed charset: a string with an XML declaration is refused, and <meta> is already dealt with.
        parser = lxml.html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
        parser.set_element_class_lookup(_CLASSES)
        tree = lxml.html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (lxml.etree.LxmlError, ValueError, AssertionError):
        return None
    return tree


def html_text(text: str, min_chars: int = 1) -> tuple[str, str, str]:
    """(title, main text, extractor) of an HTML document already decoded; ("", "", "none") when it is empty."""
    tree = parse_html(text)
    return ("", "", "none") if tree is None else _main_text(tree, text, "", min_chars)


def media_type(content_type: str | None) -> str:
    """`text/html` of `Text/HTML; charset=x`; "" when nothing was declared."""
    return (content_type or "").partition(";")[0].strip().lower()


def _main_text(tree: lxml.html.HtmlElement, text: str, url: str, min_chars: int) -> tuple[str, str, str]:
    if is_pydoc(tree):
        return pydoc_title(tree), tidy_text(pydoc_text(tree)), "pydoc"
    title = _title(tree)
    if _size(tree) <= MAX_ELEMENTS:
        main = _trafilatura(tree, url)
        if len(main) >= min_chars:
            return title, main, "trafilatura"
        whole = parse_html(text)  # again: what was taken out of the tree is visible, too
        tree = tree if whole is None else whole
    return title, visible_text(tree), "visible text"


def _size(tree: lxml.html.HtmlElement) -> float:
    """The number of elements."""
    found = _COUNT(tree)
    return found if isinstance(found, float) else 0.0


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
        marks = prepare(tree)
        found = trafilatura.extract(
            tree,
            url=url or None,
            fast=True,
            include_comments=False,
            include_tables=True,
            output_format="txt",
            config=_settings(),
        )
    except _GIVES_UP:
        return ""
    return tidy_text(clean(marks.restored(found))) if found else ""


@cache
def _settings() -> ConfigParser:
    """trafilatura's own, but that pages with little text are not searched for more in what it had left out."""
    settings = use_config()
    settings.set("DEFAULT", "MIN_EXTRACTED_SIZE", str(MIN_EXTRACTED))
    return settings


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
