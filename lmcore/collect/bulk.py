"""Reading a page quickly, for large crawls: selectolax (lexbor) does the work in C, and no tree is walked in Python.

The main content is <main> or the articles of the page, without what pages are framed with (navigation, asides, forms,
lists of links). trafilatura finds it more exactly and costs several times as much: `agreement` in a source's stats.json
says how much the two differ on its pages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from lmcore.collect.layout import one_line
from lmcore.collect.links import LinkBase
from lmcore.collect.page_facts import Facts, facts_of

_NO_TEXT = ["script", "style", "noscript", "template", "iframe", "svg", "math", "object", "canvas", "select"]
_FRAME = ["nav", "footer", "aside", "form", "button", "dialog", "menu"]
_INLINE = re.findall(
    r"\w+",
    "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark q rp rt ruby s samp small span"
    " strike strong sub sup time tt u var wbr",
)
# Parts that are marked by role, class or id as what they are; whole words, so that "navigate-the-sea" is text.
_WORDS = (
    "nav navbar navigation menu sidebar footer breadcrumb breadcrumbs toc pagination share sharing related comments"
)
_MARKED = ", ".join(
    [
        "[role=navigation], [role=banner], [role=contentinfo], [role=complementary], [role=search], [hidden]",
        "[aria-hidden=true], a.headerlink",
        *(f"[class~={word}], [id={word}]" for word in _WORDS.split()),
    ]
)
_END = "\x1e"  # of a line, where white space of the page's source is none
_LISTS = "ul, ol, dl, table"
_LINKED = 0.5  # share of a list's letters that are links, from which on it leads elsewhere
_FEW_LINKS = 3  # a list of fewer is left alone
_MIN_MAIN = 0.2  # share of the body's letters that <main> or the articles must have to stand for the page


@dataclass(frozen=True)
class BulkPage:
    """What was read: `rules` are those of <meta name=robots>, in lower case."""

    title: str = ""
    text: str = ""
    rules: str = ""
    links: list[str] = field(default_factory=list)
    facts: Facts = field(default_factory=Facts)


def bulk_page(html: str, url: str) -> BulkPage | None:
    """Read a decoded page; None when there is nothing in it. Never raises on what it contains."""
    try:
        page = LexborHTMLParser(html)
        body = page.body
    except (SelectolaxError, ValueError):
        return None
    if body is None:
        return None
    rules = "".join("," + _value(meta, "content").lower() for meta in page.css(_ROBOTS))
    base = LinkBase(url, next((_value(tag, "href") for tag in page.css("base[href]")), ""))
    links = base.links((_value(tag, "href"), _value(tag, "rel")) for tag in page.css("a[href], area[href]"))
    facts = facts_of(
        [
            (_value(m, "property") or _value(m, "name") or _value(m, "http-equiv"), _value(m, "content"))
            for m in page.css("meta[content]")
        ],
        canonical=next((_value(link, "href") for link in page.css("link[rel~=canonical][href]")), ""),
        scripts=[tag.text() for tag in page.css("script[type='application/ld+json']")],
        times=[_value(tag, "datetime") for tag in page.css("time[datetime]")[:5]],
        lang=_value(page.root, "lang") if page.root else "",
        base=base,
    )
    title = next((text for tag in page.css("head > title, title, h1") if (text := one_line(tag.text()))), "")
    return BulkPage(title, _main_text(page, body), rules, links, facts)


_ROBOTS = "meta[name=robots i][content], meta[name=collect-train i][content]"


def _main_text(page: LexborHTMLParser, body: LexborNode) -> str:
    page.strip_tags(_NO_TEXT)
    page.strip_tags(_FRAME)
    for tag in body.css(_MARKED):
        tag.decompose()
    for tag in body.css("body > header, body > * > header"):
        tag.decompose()
    _drop_lists_of_links(body)
    for tag in body.css("pre"):
        tag.replace_with(_END + tag.text().strip("\n").replace("\n", _END) + _END)
    page.unwrap_tags(_INLINE)
    body.merge_text_nodes()
    whole = body.text()
    for selector in ("main, [role=main]", "article"):
        found = _outermost(body.css(selector))
        if found and sum(len(tag.text()) for tag in found) >= _MIN_MAIN * len(whole):
            return "\n".join(text for tag in found if (text := _lines(tag)))
    return _lines(body)


def _lines(tag: LexborNode) -> str:
    """One line per block: what follows a tag that was left begins a new one."""
    return "\n".join(line for part in tag.text(separator=_END).split(_END) if (line := " ".join(part.split())))


def _drop_lists_of_links(body: LexborNode) -> None:
    for tag in body.css(_LISTS):
        links = tag.css("a[href]")
        if len(links) >= _FEW_LINKS and sum(len(a.text()) for a in links) > _LINKED * len(tag.text(skip_empty=True)):
            tag.decompose()


def _outermost(tags: list[LexborNode]) -> list[LexborNode]:
    """Those that are in none of the others; in the order of the page, so a node follows what it is in."""
    found: list[LexborNode] = []
    ids: set[int] = set()
    for tag in tags:
        parent = tag.parent
        while parent is not None and parent.mem_id not in ids:
            parent = parent.parent
        if parent is None:
            found.append(tag)
        ids.add(tag.mem_id)
    return found


def _value(tag: LexborNode, name: str) -> str:
    return tag.attributes.get(name) or ""
