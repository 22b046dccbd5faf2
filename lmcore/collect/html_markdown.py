"""Short HTML that was written as Markdown, back into it: paragraphs, lists, quotes, and code as it is."""

from __future__ import annotations

import re

import lxml.etree
import lxml.html

_BLOCKS = frozenset({"p", "div", "section", "article", "table", "dl", "dt", "dd", "details", "summary", "figure", "tr"})
_DROPPED = frozenset({"script", "style", "head", "iframe", "object", "noscript", "template", "svg", "math"})
_MARKS = {"b": "**", "strong": "**", "i": "*", "em": "*", "s": "~~", "strike": "~~", "del": "~~"}
_SPACE = re.compile(r"[ \t\r\n\f]+")
# What XML cannot hold, and the characters that stand for code ("\ue000NUMBER\ue001") and indents until the end.
_NEVER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ue000-\ue002\ufffe\uffff]")
_INDENT = "\ue002"
_TAG = re.compile(r"<(script|style)\b.*?(?:</\1|\Z)|<[^<>]{0,1000}>", re.IGNORECASE | re.DOTALL)
_HELD = re.compile("([\ue002> ]*)\ue000(\\d+)\ue001")


def markdown(html: str) -> str:
    """The text of a fragment; never raises, whatever the fragment is."""
    text = _NEVER.sub("", html)
    if not text.strip():
        return ""
    writer = _Writer()
    try:
        said = _tidy(writer.blocks(lxml.html.document_fromstring(f"<div>{text}</div>")))
    except (lxml.etree.LxmlError, ValueError, RecursionError):
        said = ""
    if not said:  # elements hundreds deep, which lxml leaves out
        said = _SPACE.sub(" ", _TAG.sub(" ", text)).strip()
    return writer.with_code(said).replace(_INDENT, " ")


class _Writer:
    """Writes elements; blocks of code are put aside meanwhile, so that nothing tidies them."""

    def __init__(self) -> None:
        self._code: list[str] = []

    def blocks(self, element: lxml.html.HtmlElement) -> str:
        """What is in an element, with line ends around its blocks."""
        parts = [_inline(element.text)]
        for child in element:
            parts += [self._child(child), _inline(child.tail)]
        return "".join(parts)

    def with_code(self, text: str) -> str:
        """The text with its code, each line indented as the place is."""

        def back(found: re.Match[str]) -> str:
            indent = found[1]
            lines = self._code[int(found[2])].split("\n")
            return "\n".join(indent + line if line else indent.rstrip(f" {_INDENT}") for line in lines)

        return _HELD.sub(back, text)

    def _child(self, element: lxml.html.HtmlElement) -> str:
        tag = element.tag if isinstance(element.tag, str) else ""
        if not tag or tag in _DROPPED:
            return ""
        if tag == "pre":
            return self._fenced(str(element.text_content()))
        if tag == "code":
            return _quoted_code(_SPACE.sub(" ", str(element.text_content())))
        if tag in ("br", "hr"):
            return "\n" if tag == "br" else "\n\n---\n\n"
        if tag == "img":
            return _inline(element.get("alt"))
        if tag in ("ul", "ol"):
            return f"\n\n{self._listed(element)}\n\n"
        return _within(tag, self.blocks(element))

    def _listed(self, element: lxml.html.HtmlElement) -> str:
        lines = []
        for number, item in enumerate((child for child in element if child.tag == "li"), 1):
            mark = f"{number}. " if element.tag == "ol" else "- "
            lines.append(mark + re.sub(r"\n(?!\n)", "\n" + _INDENT * len(mark), _tidy(self.blocks(item))))
        return "\n".join(lines)

    def _fenced(self, code: str) -> str:
        code = code.strip("\n").rstrip()
        if not code:
            return ""
        fence = "`" * (1 + max((len(run) for run in re.findall("`{3,}", code)), default=2))
        self._code.append(f"{fence}\n{code}\n{fence}")
        return f"\n\n\ue000{len(self._code) - 1}\ue001\n\n"


def _within(tag: str, inside: str) -> str:
    """What is in an element of this name, as Markdown marks it."""
    words = inside.strip()
    if re.fullmatch("h[1-6]", tag):
        return f"\n\n{'#' * int(tag[1])} {' '.join(words.split())}\n\n" if words else ""
    if tag == "blockquote":
        return "\n\n" + "\n".join(f"> {line}".rstrip() for line in _tidy(inside).split("\n")) + "\n\n" if words else ""
    if tag in _MARKS and words and "\n" not in words:
        return inside.replace(words, f"{_MARKS[tag]}{words}{_MARKS[tag]}", 1)
    if tag in ("td", "th"):
        return f" {words} |"
    return f"\n\n{inside}\n\n" if tag in _BLOCKS else inside


def _quoted_code(code: str) -> str:
    if not code.strip():
        return code
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", code)), default=0))
    return f"{ticks} {code} {ticks}" if len(ticks) > 1 else f"`{code}`"


def _inline(text: str | None) -> str:
    return _SPACE.sub(" ", text) if text else ""


def _tidy(text: str) -> str:
    """Lines without blanks around them, and no more than one empty one in a row."""
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]*\n[ \t]*", "\n", text)).strip()
