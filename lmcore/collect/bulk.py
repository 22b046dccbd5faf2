"""Reading a page quickly, for large crawls: selectolax (lexbor) does the work in C, and no tree is walked in Python.

The main content is <main> or the articles of the page, without what pages are framed with (navigation, asides, forms,
lists of links). trafilatura finds it more exactly and costs several times as much: `agreement` in a source's stats.json
says how much the two differ on its pages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from lmcore.collect.layout import FRAME_ROLES, FRAME_WORDS, INLINE, SENTENCE, join_wide, one_line
from lmcore.collect.links import LinkBase
from lmcore.collect.page_facts import Facts, facts_of


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DROPPED = _words(
    "script style noscript template iframe svg math object canvas select nav footer aside form button dialog menu"
)
_UNWRAPPED = sorted(INLINE)
_SUSPECTS = ", ".join([*sorted(_DROPPED), "header", "[class]", "[id]", "[role]", "[hidden]", "[aria-hidden=true]"])
_END = "\x1e"  # of a line, where white space of the page's source is none
_LISTS = "ul, ol, dl, table"
_TEASER = ", ".join(f"h{level} a[href]" for level in range(1, 7))  # an article whose heading leads to it
_LINKED = 0.5  # share of a list's letters that are links, from which on it leads elsewhere
_FEW_LINKS = 3  # a list of fewer is left alone
_DEEPEST = 20  # lists within lists that are looked at, each by itself: real pages have a handful
_MIN_MAIN = 0.2  # share of the body's letters that <main> or an article must have to stand for the page
_MOST = 0.5  # share of them that several articles must have together; of theirs, that one must have to stand alone


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
        page = LexborHTMLParser(join_wide(html))
        body = page.body
    except (SelectolaxError, ValueError):
        return None
    if body is None:
        return None
    metas = [
        (_value(tag, "property") or _value(tag, "name") or _value(tag, "http-equiv"), _value(tag, "content"))
        for tag in page.css("meta[content]")
    ]
    rules = "".join("," + content.lower() for name, content in metas if name.lower() in ("robots", "collect-train"))
    base = LinkBase(url, next((_value(tag, "href") for tag in page.css("base[href]")), ""))
    links = base.links((_value(tag, "href"), _value(tag, "rel")) for tag in page.css("a[href], area[href]"))
    facts = facts_of(
        metas,
        canonical=next((_value(link, "href") for link in page.css("link[rel~=canonical][href]")), ""),
        scripts=[tag.text() for tag in page.css("script[type='application/ld+json']")],
        times=[_value(tag, "datetime") for tag in page.css("time[datetime]")[:5]],
        lang=_value(page.root, "lang") if page.root else "",
        base=base,
    )
    title = next((text for tag in page.css("head > title, title, h1") if (text := one_line(tag.text()))), "")
    return BulkPage(title, _main_text(page, body), rules, links, facts)


def _main_text(page: LexborHTMLParser, body: LexborNode) -> str:
    # First: highlighted code is full of elements, of which none has to be looked at then.
    for tag in _outermost(body.css("pre")):
        tag.replace_with(_END + tag.text().strip("\n").replace("\n", _END) + _END)
    _drop([tag for tag in body.css(_SUSPECTS) if _is_frame(tag)])
    _drop([tag for tag, depth in _nested(body.css(_LISTS)) if depth < _DEEPEST and _leads_elsewhere(tag)])
    teasers = [tag.css_first(_TEASER) is not None for tag in _outermost(body.css("article"))]  # while links are there
    page.unwrap_tags(_UNWRAPPED)
    body.merge_text_nodes()
    whole = body.text()
    main = _outermost(body.css("main, [role=main]"))
    if main and sum(len(tag.text()) for tag in main) >= _MIN_MAIN * len(whole):
        return "\n".join(text for tag in main if (text := _lines(tag)))
    articles = _outermost(body.css("article"))
    sizes = [len(tag.text()) for tag in articles]
    if sizes and max(sizes) >= _MOST * sum(sizes) and sum(sizes) >= _MIN_MAIN * len(whole):
        return _lines(articles[sizes.index(max(sizes))])
    if sum(sizes) >= _MOST * len(whole):
        return "\n".join(text for tag in articles if (text := _lines(tag)))
    for tag, teaser in zip(articles, teasers, strict=True):
        if teaser:
            tag.decompose()
    return _lines(body)


def _is_frame(tag: LexborNode) -> bool:
    """Whether an element is none of the page's own text."""
    if tag.tag in _DROPPED:
        return True
    marks = tag.attributes
    if tag.tag == "header":
        above = tag.parent
        if above is not None and "body" in (above.tag, above.parent.tag if above.parent else ""):
            return not any(len(one_line(p.text())) >= SENTENCE for p in tag.css("p"))
    if marks.get("id") in FRAME_WORDS:
        return True
    found = _frame_words(marks.get("class") or "")
    if found:
        # In DocBook's pages a sidebar is a box with a title in the text, not a column beside it.
        return "sidebar" not in found or not any(
            "titlepage" in _value(child, "class").split() for child in islice(tag.iter(), 3)
        )
    return marks.get("role") in FRAME_ROLES or "hidden" in marks or marks.get("aria-hidden") == "true"


@lru_cache(maxsize=4096)  # a site has few classes
def _frame_words(classes: str) -> frozenset[str]:
    return FRAME_WORDS.intersection(classes.split())


def _leads_elsewhere(tag: LexborNode) -> bool:
    """Whether a list is one of links."""
    links = tag.css("a[href]")
    return len(links) >= _FEW_LINKS and sum(len(a.text()) for a in links) > _LINKED * len(tag.text(skip_empty=True))


def _drop(tags: list[LexborNode]) -> None:
    """Take elements out of the page. What is in another must not be touched after that is gone."""
    for tag in _outermost(tags):
        tag.decompose()


def _lines(tag: LexborNode) -> str:
    """One line per block: what follows a tag that was left begins a new one."""
    return "\n".join(line for part in tag.text(separator=_END).split(_END) if (line := " ".join(part.split())))


def _outermost(tags: list[LexborNode]) -> list[LexborNode]:
    """Those that are in none of the others; in the order of the page, so a node follows what it is in."""
    return [tag for tag, depth in _nested(tags) if not depth]


def _nested(tags: list[LexborNode]) -> list[tuple[LexborNode, int]]:
    """Each with the number of the others that it is in. What is above a node is walked through once for all of them:
    a page may be nested a hundred thousand deep.
    """
    found: list[tuple[LexborNode, int]] = []
    within: dict[int, int] = {}  # by node: how many of the tags it and what it is in are
    for tag in tags:
        if tag.mem_id in within:  # found twice: by two of the selectors
            continue
        new: list[int] = []
        above = tag.parent
        while above is not None and above.mem_id not in within:
            new.append(above.mem_id)
            above = above.parent
        depth = within[above.mem_id] if above is not None else 0
        within.update(dict.fromkeys(new, depth))
        within[tag.mem_id] = depth + 1
        found.append((tag, depth))
    return found


def _value(tag: LexborNode, name: str) -> str:
    return tag.attributes.get(name) or ""
