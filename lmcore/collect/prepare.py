"""A page's tree made ready for trafilatura: what is known to be frame taken out, what it would misread put plainly.

    marks = prepare(tree)                # changes the tree
    text = marks.restored(trafilatura.extract(tree, fast=True, ...))

What is mended here was found on the marked pages (docs/sources/extraction.md) and holds for any page:

- Navigation, banners, hidden parts and permalinks go (`layout.FRAME_WORDS`, ARIA roles, aria-hidden), unless most of
  the page is in them.
- White space outside <pre> is one space; trafilatura keeps line ends of the source in the middle of sentences.
- <pre> is one text, its line ends and indents put so that they outlive lists, cells and trimming.
- A <div> with nothing but inline content holds paragraphs: trafilatura reads text in <p> and drops it in <div>.
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

from lmcore.collect.layout import DISCARDED, FRAME_ROLES, FRAME_WORDS, HEADINGS, INLINE, SENTENCE, one_line

_WHITE = re.compile(r"[ \t\r\n\f]{2,}|[\t\r\n\f]")  # what HTML calls white space: no-break spaces stay
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_MOST = 0.5  # of the page's letters: what holds more is no frame, whatever it is called
_LINKED = 0.7  # share of a list's letters that are links, from which on it leads elsewhere
_NO_TITLE = 2  # letters that are no heading and no text: a sign between two boxes
_TITLES = ("h2", "h3", "h4", "h5", "h6", "strong", "b")
_FEW_LINKS = 3  # a list of fewer is left alone
_RUNNING = frozenset({"p", "pre", "dt", *HEADINGS})  # text in these is one run: what is in it belongs to it
_FRAMES = frozenset({"article", "div", "main", "section"})
_INSIDE = INLINE | {"br", "img", "wbr"}  # what a paragraph can hold
_WRAPPERS = frozenset({"aside", "div", "section", "span"})
_UNWRAPPED = "unwrapped"  # tag of what etree.strip_tags takes away
_LETTER = re.compile(r"[\W_]+")
_EMBEDDED = frozenset({"embed", "embedded"})
_OTHERS = ("iframe", "object", "embed", "blockquote", "video", "audio", "figure")  # what pages of others are shown in
_BOXES = frozenset({"article", "body", "div", "main", "section"})  # what text may stand in without a paragraph
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
    for part in [part for part in top.iter("ul", "ol", "dl", "table") if _leads_elsewhere(part)]:
        _drop_list(part)
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
        pre.clear(keep_tail=True)
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
    if tag == "header":
        return _on_top(element)
    if tag == "figure":
        return not _keeps(element)
    marks = dict(element.items())
    if not marks:
        return False
    if tag == "a":
        return _is_permalink(element)
    words = marks.get("class", "").split()
    if "id" in marks:
        words.append(marks["id"])
    if words and not FRAME_WORDS.isdisjoint(words):
        if "sidebar" not in words or not _is_docbook_box(element):
            return True
        element.attrib.pop("class", None)  # or trafilatura would drop it
    return (
        marks.get("role") in FRAME_ROLES
        or "hidden" in marks
        or marks.get("aria-hidden") == "true"
        or ("style" in marks and bool(_HIDDEN_STYLE.search(marks["style"])))
    )


def _on_top(header: HtmlElement) -> bool:
    """Whether a <header> is the page's, not that of an article or section in it."""
    parent = header.getparent()
    above = None if parent is None else parent.getparent()
    if "body" not in (getattr(parent, "tag", ""), getattr(above, "tag", "")):
        return False
    return not any(len(text) >= SENTENCE for text in (one_line(p.text_content()) for p in header.iter("p")))


def _keeps(figure: HtmlElement) -> bool:
    """Whether a figure holds text: a table, code, or a caption, of which then nothing else is left."""
    if next(figure.iter("pre", "table"), None) is None:
        caption = next(figure.iter("figcaption"), None)
        if caption is None:
            return False
        caption.tail = figure.text = None
        figure[:] = [caption]
        caption.tag = "div"
    figure.tag = "div"
    return True


def _is_permalink(link: HtmlElement) -> bool:
    """Whether a link is only there to be copied: the sign after a heading that leads to the heading."""
    if not link.get("href", "").startswith("#"):
        return False
    text = "".join(link.itertext()).strip()
    return len(text) == 1 and not text.isalnum()


def _is_docbook_box(element: HtmlElement) -> bool:
    """Whether a "sidebar" is a box with a title in DocBook's text, not a column beside it."""
    return any("titlepage" in (child.get("class") or "").split() for child in element[:3])


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


def _drop_list(part: HtmlElement) -> None:
    """Take a list of links away, and the boxes around it that hold but its heading ("Read more", "Related")."""
    box = part.getparent()
    if box is not None:  # else it was itself a part of what was dropped
        part.drop_tree()
    while box is not None and box.tag in _WRAPPERS and box.getparent() is not None:
        rest = one_line(box.text_content())
        titles = [title for title in box.iter(*_TITLES) if next(title.iterancestors(*_TITLES), None) is None]
        heading = sum(len(one_line(title.text_content())) for title in titles)
        if len(rest) > min(heading, SENTENCE) + _NO_TITLE:
            break
        parent = box.getparent()
        box.drop_tree()
        box = parent


def _leads_elsewhere(part: HtmlElement) -> bool:
    """Whether a list or table is one of links."""
    links = [link for link in part.iter("a") if link.get("href")]
    if len(links) < _FEW_LINKS:
        return False
    linked = sum(len(link.text_content()) for link in links)
    return linked > _LINKED * len("".join(part.text_content().split(" ")))


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
            if tag == "p" and element.attrib:
                _rename(element)
        elif tag == "span":
            if not element.attrib:
                element.tag = _UNWRAPPED
        elif tag == "a":
            if element.get("href", "#").startswith("#"):
                element.tag = _UNWRAPPED  # an anchor or footnote, not one of the links that menus are known by
        elif tag == "main":
            framed = True
        elif tag in _FRAMES and element.attrib:
            _rename(element)
            framed = framed or any((element.get(name) or "").startswith("main") for name in ("class", "id", "role"))
    return framed


def _rename(element: HtmlElement) -> None:
    """Take names away that trafilatura would misread: an id made of the heading's words ("share-your-work", "tags"),
    and "embedded" where nothing of another page is in it."""
    name = element.get("id")
    if name:
        first = next((child for child in element[:3] if child.tag in HEADINGS), None)
        if first is not None and _LETTER.sub("", first.text_content()).casefold() in _LETTER.sub("", name).casefold():
            element.attrib.pop("id")
    if not _EMBEDDED.isdisjoint((element.get("class") or "").split()) and next(element.iter(*_OTHERS), None) is None:
        element.attrib.pop("class")


def _plain(elements: list[HtmlElement]) -> None:
    """Paragraphs of <div>s that have text and no block, and wrappers of one heading or <pre>; the innermost first."""
    holders: set[HtmlElement] = set()  # elements with a block in them
    bare: set[HtmlElement] = set()  # headings and <pre>, and what holds one and nothing else
    for element in reversed(elements):
        tag = element.tag
        if tag == "pre" or tag in HEADINGS:
            bare.add(element)
        elif tag in _WRAPPERS and element in holders and _wraps(element, bare):
            bare.add(element)
            for name in ("class", "id"):
                element.attrib.pop(name, None)
        if tag in _BOXES:
            _paragraphs(element, holders)
        if element in holders or not (tag in _INSIDE or tag == _UNWRAPPED):
            parent = element.getparent()
            if parent is not None:
                holders.add(parent)


def _wraps(element: HtmlElement, bare: set[HtmlElement]) -> bool:
    """Whether an element holds one heading or one <pre> and nothing else."""
    found = 0
    for child in element:
        found += child in bare
        if (child.tail or "").strip() or (child not in bare and (len(child) or (child.text or "").strip())):
            return False
    return found == 1 and not (element.text or "").strip()


def _paragraphs(box: HtmlElement, holders: set[HtmlElement]) -> None:
    """Put the text that stands in an element without a paragraph into some, parted by blocks and by two <br>."""
    children = list(box)
    blocks = [child in holders or not (child.tag in _INSIDE or child.tag == _UNWRAPPED) for child in children]
    if not _has_loose(box, children, blocks):
        return
    if box.tag == "div" and not box.attrib and not any(blocks) and not any(map(_ends, children)):
        box.tag = "p"
        return
    blocked = {child for child, block in zip(children, blocks, strict=True) if block}
    new: list[HtmlElement] = []
    paragraph = box.makeelement("p")
    paragraph.text, box.text = box.text, None
    for child, block in zip(children, blocks, strict=True):
        if not block and not _ends(child):
            paragraph.append(child)
            continue
        new.append(paragraph)
        paragraph = box.makeelement("p")
        paragraph.text, child.tail = child.tail, None
        if block:
            new.append(child)
        else:
            box.remove(child)
    new.append(paragraph)
    box.extend(part for part in new if part.tag != "p" or part in blocked or _says(part))


def _has_loose(box: HtmlElement, children: list[HtmlElement], blocks: list[bool]) -> bool:
    texts = [box.text, *(child.tail for child in children)]
    if any(text and not text.isspace() for text in texts):
        return True
    return any(not block and _says(child) for child, block in zip(children, blocks, strict=True))


def _says(element: HtmlElement) -> bool:
    """Whether there is any text in an element."""
    return bool(element.text_content().strip())


def _ends(child: HtmlElement) -> bool:
    """Whether a <br> ends a paragraph: another follows, with nothing between."""
    if child.tag != "br" or (child.tail or "").strip():
        return False
    following = child.getnext()
    return following is not None and following.tag == "br"


def _only_one_article(top: HtmlElement) -> None:
    """Where no article is half of all of them, they are parts of the page, or teasers: none stands for it."""
    articles = [article for article in top.iter("article") if next(article.iterancestors("article"), None) is None]
    if len(articles) < 2:
        return
    sizes = [len(article.text_content()) for article in articles]
    if max(sizes) >= _MOST * sum(sizes):
        return
    beside = sum(sizes) < _MOST * len(top.text_content())
    for article in articles:
        if beside and any(link.get("href") for title in article.iter(*HEADINGS) for link in title.iter("a")):
            article.drop_tree()  # a teaser: its heading leads to the article
        else:
            article.tag = "div"


def _put_in_frame(body: HtmlElement) -> None:
    """All of the body in what trafilatura takes for the main part where it knows of no other."""
    frame = body.makeelement("div", {"id": "main"})
    frame.text, body.text = body.text, None
    frame.extend(list(body))
    body.append(frame)
