"""A page's tree made ready for trafilatura: what is known to be frame taken out, what it would misread put plainly.

    marks = prepare(tree)                # changes the tree
    text = marks.restored(trafilatura.extract(tree, fast=True, ...))

What is mended here was found on the marked pages (docs/sources/extraction.md) and holds for any page:

- Navigation, banners, hidden parts and permalinks go (`layout.FRAME_WORDS`, ARIA roles, aria-hidden), unless most of
  the page is in them.
- White space outside <pre> is one space; trafilatura keeps line ends of the source in the middle of sentences.
- <pre> is one text, its line ends and indents put so that they outlive lists, cells and trimming.
- A <div> with nothing but inline content is a paragraph: trafilatura reads text in <p> and drops it in <div>.
- Wrappers around a heading or code alone lose their class, and <span>s in running text go: their names ("embedded",
  "guibutton", "keybar") say how something looks, and trafilatura drops elements by parts of such names.
- A page with no frame that trafilatura knows gets one around all of it: without, it takes loose paragraphs and no
  headings, lists and terms. Many <article>s that are parts of the page's text are not each the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lxml import etree
from lxml.html import HtmlElement

from lmcore.collect.layout import DISCARDED, FRAME_ROLES, FRAME_WORDS, HEADINGS, INLINE

_WHITE = re.compile(r"[ \t\r\n\f]{2,}|[\t\r\n\f]")  # what HTML calls white space: no-break spaces stay
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_MOST = 0.5  # of the page's letters: what holds more is no frame, whatever it is called
_RUNNING = frozenset({"p", "pre", "dt", *HEADINGS})  # text in these is one run: what is in it belongs to it
_FRAMES = frozenset({"article", "div", "main", "section"})
_INSIDE = INLINE | {"br", "img", "wbr"}  # what a paragraph can hold
_WRAPPERS = frozenset({"div", "section", "span"})
_UNWRAPPED = "unwrapped"  # tag of what etree.strip_tags takes away
# Letters to stand for white space: trafilatura leaves them alone; taken are three that are not on the page (Linear A).
_LETTERS = [chr(code) for code in range(0x10600, 0x10640)]


@dataclass(frozen=True)
class Marks:
    """Letters that stand for the white space of <pre>."""

    edge: str  # where a <pre> begins or ends
    line: str  # a line end
    gap: str  # a space

    def restored(self, text: str) -> str:
        """The text with its white space back."""
        if self.edge not in text and self.line not in text:
            return text
        text = re.sub(rf"\s*{self.edge}\s*", "\n", text)
        return text.replace(self.line, "\n").replace(self.gap, " ")


def prepare(tree: HtmlElement) -> Marks:
    """Make the tree of a page ready, in place; gives what restores the white space of the text taken from it."""
    body = tree.find("body")
    top = tree if body is None else body
    marks = _preformatted(top)
    _drop(top, _frames(top))
    elements = list(top.iter(etree.Element))
    framed = _smooth(elements)
    _plain(elements)
    etree.strip_tags(top, _UNWRAPPED)
    _only_one_article(top)
    if body is not None and not framed:
        _put_in_frame(body)
    return marks


def _preformatted(top: HtmlElement) -> Marks:
    """Make each <pre> one text without white space."""
    found = [pre for pre in top.iter("pre") if next(pre.iterancestors("pre"), None) is None]
    texts = []
    for pre in found:
        for br in pre.iter("br"):
            br.text = "\n"
        texts.append("".join(pre.itertext()).expandtabs().strip("\n"))
    used = set().union(*map(set, texts)) if texts else set()
    edge, line, gap = [letter for letter in _LETTERS if letter not in used][:3] if texts else _LETTERS[:3]
    for pre, text in zip(found, texts, strict=True):
        tail = pre.tail
        pre.clear()
        pre.tail = tail
        if text.strip():
            pre.set("lang", "code")  # what trafilatura takes for a sign of code, which it copies as it is
            pre.text = edge + text.replace("\n", line).replace(" ", gap) + edge
    return Marks(edge, line, gap)


def _frames(top: HtmlElement) -> list[HtmlElement]:
    """What is none of the page's own text."""
    return [element for element in top.iter(etree.Element) if _is_frame(element)]


def _is_frame(element: HtmlElement) -> bool:
    tag = element.tag
    if tag in DISCARDED:
        return tag != "script" or "DiscussionForumPosting" not in (element.text or "")  # trafilatura looks for that
    marks = dict(element.items())
    if not marks:
        return False
    words = marks.get("class", "").split()
    if "id" in marks:
        words.append(marks["id"])
    if words and not FRAME_WORDS.isdisjoint(words):
        return "sidebar" not in words or not _is_docbook_box(element)
    return (
        marks.get("role") in FRAME_ROLES
        or "hidden" in marks
        or marks.get("aria-hidden") == "true"
        or ("style" in marks and bool(_HIDDEN_STYLE.search(marks["style"])))
    )


def _is_docbook_box(element: HtmlElement) -> bool:
    """Whether a "sidebar" is a box with a title in DocBook's text, not a column beside it."""
    first = next(element.iterchildren(), None)
    return first is not None and "titlepage" in (first.get("class") or "").split()


def _drop(top: HtmlElement, frames: list[HtmlElement]) -> None:
    most: float | None = None
    for element in frames:
        parent = element.getparent()
        if parent is None:
            continue
        if element.tag not in DISCARDED and len(element):
            if most is None:
                most = _MOST * sum(map(len, top.itertext()))
            if sum(map(len, element.itertext())) > most:
                continue
        element.drop_tree()


def _smooth(elements: Iterable[HtmlElement]) -> bool:
    """White space and <span>s of the page; whether there is a main part that trafilatura will see."""
    framed = False
    for element in elements:
        tag = element.tag
        if (text := element.text) and tag != "pre":
            element.text = _WHITE.sub(" ", text)
        if tail := element.tail:
            element.tail = _WHITE.sub(" ", tail)
        if tag in _RUNNING:
            for span in element.iter("span"):
                span.tag = _UNWRAPPED
        elif tag == "span":
            if not element.attrib:
                element.tag = _UNWRAPPED
        elif tag == "main":
            framed = True
        elif tag in _FRAMES and not framed:
            framed = any((element.get(name) or "").startswith("main") for name in ("class", "id", "role"))
    return framed


def _plain(elements: list[HtmlElement]) -> None:
    """<div>s that are paragraphs, and wrappers of one heading or one <pre>; the innermost first."""
    holders = set()  # elements with a block in them
    for element in reversed(elements):
        tag = element.tag
        inline = tag in _INSIDE or tag == _UNWRAPPED
        if tag == "div" and element not in holders and (element.text or len(element)):
            if any(text.strip() for text in element.itertext()):
                element.tag = "p"
        elif tag in _WRAPPERS and len(element) == 1 and _wraps(element):
            for name in ("class", "id"):
                element.attrib.pop(name, None)
        if element in holders or not inline:
            parent = element.getparent()
            if parent is not None:
                holders.add(parent)


def _wraps(element: HtmlElement) -> bool:
    """Whether an element holds one heading or one <pre> and nothing else."""
    only = element[0]
    return (only.tag == "pre" or only.tag in HEADINGS) and not ((element.text or "") + (only.tail or "")).strip()


def _only_one_article(top: HtmlElement) -> None:
    """Where no article is half of all of them, they are parts of a page, or teasers: none stands for the page."""
    articles = [article for article in top.iter("article") if next(article.iterancestors("article"), None) is None]
    if len(articles) > 1:
        sizes = [sum(map(len, article.itertext())) for article in articles]
        if max(sizes) < _MOST * sum(sizes):
            for article in articles:
                article.tag = "div"


def _put_in_frame(body: HtmlElement) -> None:
    """All of the body in what trafilatura takes for the main part where it knows of no other."""
    frame = body.makeelement("div", {"id": "main"})
    frame.text, body.text = body.text, None
    frame.extend(list(body))
    body.append(frame)
