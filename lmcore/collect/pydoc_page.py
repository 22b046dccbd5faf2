"""The text of a page made by pydoc: what this module documents, and nothing that pydoc repeats on every page.

A general extractor sees layout tables here and loses most of the text. pydoc's pages have one fixed shape:
documentation stands in `<span class="code">` or, for help topics, in `<pre>`. Left out are the page's frame
(Python version, operating system, file paths), link lists, the Data section (values of this machine,
os.environ among them), everything inherited, and special methods with a one-line text, which say the
same on every page.
"""

from __future__ import annotations

import html
import re

import lxml.html

_TITLE = re.compile(r"^\s*Pydoc: ")
_SKIP_SECTIONS = frozenset({"Modules", "Package Contents", "Data", "Author", "Credits", "Built-in Modules"})
_SPECIAL = re.compile(r"^(?:[A-Za-z_]\w* = )?__\w+__\b")
_BARE_SIGNATURE = re.compile(r"^[A-Za-z_][\w.]*\(.*\)( -> .*)?$")


def is_pydoc(tree: lxml.html.HtmlElement) -> bool:
    """Whether pydoc made this page."""
    named = _TITLE.match(tree.findtext(".//head/title") or "")
    return bool(named) and tree.find(".//link[@href='pydoc_data/_pydoc.css']") is not None


def pydoc_title(tree: lxml.html.HtmlElement) -> str:
    """What the page is about: "module heapq", "KEYWORD yield", "Error - dbm.gnu.html"."""
    return " ".join(_TITLE.sub("", tree.findtext(".//head/title") or "").split())


def pydoc_text(tree: lxml.html.HtmlElement) -> str:
    """The documentation on the page; "" for lists of links and error pages."""
    if pydoc_title(tree).startswith("Error"):
        return ""
    blocks: list[str] = []
    section, heading, inherited = "", "", False
    for element in tree.iter("td", "hr", "span", "pre"):
        kind = element.get("class") or ""
        if element.tag == "td" and "section-title" in kind:
            strong = element.find(".//strong[@class='bigsection']")
            section = _flat(strong) if strong is not None else ""
            heading = "" if strong is not None else _flat(element)
            inherited = False
        elif element.tag == "hr":
            # "Methods inherited from", "Data descriptors defined here:" stand as bare text after a rule.
            inherited = "inherited from" in (element.tail or "")
        elif inherited or section in _SKIP_SECTIONS:
            continue
        elif element.tag == "pre":
            blocks.append(_lines(element.text_content()))
        elif element.tag == "span" and kind == "code":
            block = _block(element)
            if block and heading:
                blocks.append(heading)
                heading = ""
            blocks.append(block)
    return "\n\n".join(block for block in blocks if block)


def _block(span: lxml.html.HtmlElement) -> str:
    """One documented thing: its signature line, where it has one, and its text."""
    text = _code(span)
    parent = span.getparent()
    if not text or parent is None or parent.tag != "dd":
        # A class's text begins with its constructor's signature, which pydoc escapes twice; without
        # documentation there is nothing else.
        first, _, rest = text.partition("\n")
        if _BARE_SIGNATURE.match(first):
            return f"{html.unescape(first)}\n{rest}" if rest else ""
        return text
    term = parent.getprevious()
    signature = _flat(term) if term is not None and term.tag == "dt" else ""
    if _SPECIAL.match(signature) and ("\n" not in text or text.startswith("Represent a PEP 585 generic type")):
        return ""
    return f"{signature}\n{text}" if signature else text


def _code(span: lxml.html.HtmlElement) -> str:
    """The text of a code span: every space is &nbsp; and every line end is <br>, so source newlines are noise."""
    parts = [span.text or ""]
    for child in span.iterdescendants():
        if child.tag == "br":
            parts.append("\n")
        elif isinstance(child.tag, str):
            parts.append(child.text or "")
        parts.append((child.tail or "").replace("\n", "") if child.tag == "br" else child.tail or "")
    return _lines("".join(parts))


def _lines(text: str) -> str:
    lines = [line.replace("\xa0", " ").rstrip() for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def _flat(element: lxml.html.HtmlElement) -> str:
    """The text of an element on one line, without pydoc's grey remarks on where a method comes from."""
    parts = [text for text in element.xpath(".//text()[not(ancestor::span[@class='grey'])]") if isinstance(text, str)]
    return " ".join("".join(parts).replace("\xa0", " ").split())
