"""Wikitext to plain text, by mwparserfromhell: templates, tables and references go, the text of links stays.

Nothing but `Unparsable` is raised, whatever the text; but some texts take the parser minutes or gigabytes, so texts
of others are given to `wikitext_workers`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

MAX_CHARS = 4 * 1024 * 1024  # MediaWiki's own limit for a page is 2 MiB ($wgMaxArticleSize)

_FILES = frozenset({"file", "image", "media"})
_CATEGORIES = frozenset({"category"})
_DROPPED = frozenset({  # tags whose content is no running text
    "ref", "references", "table", "gallery", "math", "chem", "timeline", "score", "syntaxhighlight", "source",
    "imagemap", "templatestyles", "templatedata", "style", "script", "hiero", "graph", "graphviz", "mapframe",
    "maplink", "indexpages", "inputbox", "section", "includeonly", "categorytree", "dynamicpagelist", "ce",
    "charinsert", "phonos",
})  # fmt: skip
_BREAKS = frozenset({"br", "hr", "p", "div", "blockquote", "li", "dt", "dd", "center", "poem", "tr", "ul", "ol", "dl"})
_SHOWN = {  # templates that stand in the middle of sentences: which of their parameters is shown
    "lang": "2", "nihongo": "1", "nihongo2": "1", "transl": "2", "transliteration": "2", "nowrap": "1", "nobr": "1",
    "small": "1", "abbr": "1", "langwithname": "3", "my": "1",
}  # fmt: skip
_DISAMBIGUATION = re.compile(  # names of templates; a wiki's API says it better, a dump does not
    r"([\w -]+[ -])?disambig(uation)?([ -]cleanup)?|dab|disamb|hndis|geodis|egyért(elműsítő lap)?|aimai|曖昧さ回避|መንታ|"
    r"begriffsklärung|homonymie|desambiguación",
    re.IGNORECASE,
)
_QUOTES = re.compile("'{2,}")
_SWITCH = re.compile(r"__[^\W\d_]+__")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]+)*")
_BLANKS = re.compile(r"[^\S\n]+")
_HOLLOW = re.compile(r" ?\([\s,;:،፣、–-]*\)| ?（[\s,;、]*）")  # brackets whose content was a template
_LOOSE = re.compile(r" +(?=[,.;:!?)](?:\s|$))")
_HEADING = re.compile(r"(={2,6}) ?(.*?) ?\1")


class Unparsable(Exception):
    """A text that the parser gives up on; the message says why."""


@dataclass(frozen=True)
class Names:
    """Names of a wiki's own that links begin with, in small letters; the English ones hold everywhere."""

    files: frozenset[str] = _FILES
    categories: frozenset[str] = _CATEGORIES

    @classmethod
    def of(cls, namespaces: Iterable[tuple[int, str]]) -> Names:
        """From (number of the namespace, one of its names)."""
        by_number: dict[int, set[str]] = {-2: set(), 6: set(), 14: set()}
        for number, name in namespaces:
            by_number.get(number, set()).add(_prefix(name))
        return cls(_FILES | by_number[6] | by_number[-2] - {""}, _CATEGORIES | by_number[14] - {""})


@dataclass(frozen=True)
class Plain:
    """What a page says: its text, the names of its categories, and whether it only points to pages of like names."""

    text: str
    categories: tuple[str, ...] = ()
    disambiguation: bool = False


def plain(wikitext: str, names: Names) -> Plain:
    """The text of a page. Raises Unparsable."""
    import mwparserfromhell
    from mwparserfromhell.parser import ParserError

    if len(wikitext) > MAX_CHARS:
        raise Unparsable(f"wikitext of {len(wikitext):,} characters, more than {MAX_CHARS:,}")
    reading = _Reading(names)
    try:
        # Apostrophes are left to a pattern: the parser takes exponential time over unbalanced ones.
        reading.nodes(mwparserfromhell.parse(wikitext, skip_style_tags=True).nodes)
    except RecursionError:
        raise Unparsable("wikitext nested too deep") from None
    except ParserError as error:
        raise Unparsable("wikitext that mwparserfromhell cannot read: " + " ".join(str(error).split())[:100]) from error
    return Plain(tidy("".join(reading.parts)), tuple(dict.fromkeys(reading.categories)), reading.disambiguation)


def tidy(text: str) -> str:
    """Lines without stray blanks and hollow brackets, one empty line at most, headings just above what they head."""
    lines = []
    for line in text.replace("\u00a0", " ").splitlines():
        bare = _LOOSE.sub("", _HOLLOW.sub("", _BLANKS.sub(" ", line))).strip()
        lines.append("" if bare in ("•", "·", "-", "–", "*") else bare)
    kept: list[str] = []  # from the end: a heading stays when a text, or a deeper heading that stays, came before
    below = 0  # level of the heading that stays just below, 7 for a text, 0 for nothing
    for line in reversed(lines):
        found = _HEADING.fullmatch(line)
        if found:
            level = len(found[1])
            if not found[2] or below <= level:
                continue
            below = level
            if not kept[-1]:
                kept.pop()
            line = f"{found[1]} {found[2]} {found[1]}"
        elif line:
            below = 7
        if line or (kept and kept[-1]):
            kept.append(line)
    return "\n".join(reversed(kept)).strip()


def intro(text: str) -> str:
    """What stands before the first heading."""
    lines = text.split("\n")
    stop = next((number for number, line in enumerate(lines) if _HEADING.fullmatch(line)), len(lines))
    return "\n".join(lines[:stop]).strip()


class _Reading:
    """Walks through the nodes of a page; `parts` is the text so far."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self.parts: list[str] = []
        self.categories: list[str] = []
        self.disambiguation = False

    def nodes(self, nodes: Iterable[Any]) -> None:
        from mwparserfromhell import nodes as kinds

        for node in nodes:
            if isinstance(node, kinds.Text):
                value = str(node.value)
                self.disambiguation |= "__DISAMBIG__" in value
                self.parts.append(_SWITCH.sub("", _QUOTES.sub(_quotes, value)))
            elif isinstance(node, kinds.Wikilink):
                self._link(node)
            elif isinstance(node, kinds.Template):
                self._template(node)
            elif isinstance(node, kinds.Tag):
                self._tag(node)
            elif isinstance(node, kinds.Heading):
                self._heading(node)
            elif isinstance(node, kinds.ExternalLink):
                if node.title is not None:
                    self.nodes(node.title.nodes)
                elif not node.brackets:
                    self.parts.append(str(node.url))
            elif isinstance(node, kinds.HTMLEntity):
                self.parts.append(_entity(node))
            elif isinstance(node, kinds.Argument) and node.default is not None:
                self.nodes(node.default.nodes)

    def _heading(self, node: Any) -> None:
        before, self.parts = self.parts, []
        self.nodes(node.title.nodes)
        title = " ".join("".join(self.parts).split()).strip("= ")
        self.parts = before
        marks = "=" * min(max(node.level, 2), 6)
        self.parts.append(f"\n\n{marks} {title} {marks}\n")

    def _link(self, node: Any) -> None:
        title = str(node.title).strip()
        prefix, colon, rest = title.partition(":")
        prefix = _prefix(prefix)
        if colon and prefix in self._names.files:
            return
        if colon and prefix in self._names.categories:
            if name := " ".join(rest.replace("_", " ").split()):
                self.categories.append(name)
            return
        if node.text is not None and str(node.text).strip():
            self.nodes(node.text.nodes)
        elif not (colon and _LANGUAGE.fullmatch(prefix)):  # [[hu:Alma]] only names the page in another language
            self.parts.append(title.removeprefix(":"))

    def _template(self, node: Any) -> None:
        name = " ".join(str(node.name).replace("_", " ").split())
        self.disambiguation |= bool(_DISAMBIGUATION.fullmatch(name))
        shown = _SHOWN.get(name.lower())
        if shown and node.has(shown):
            self.nodes(node.get(shown).value.nodes)

    def _tag(self, node: Any) -> None:
        name = str(node.tag).strip().lower()
        if name in _DROPPED:
            return
        if name in _BREAKS and not node.wiki_markup:
            self.parts.append("\n")
        if node.contents is not None:
            if name in ("nowiki", "pre"):
                self.parts.append("".join(_plainly(node.contents.nodes)))
            else:
                self.nodes(node.contents.nodes)
        if name in _BREAKS and not node.wiki_markup and name != "br":
            self.parts.append("\n")


def _plainly(nodes: Iterable[Any]) -> Iterator[str]:
    from mwparserfromhell.nodes import HTMLEntity

    for node in nodes:
        yield _entity(node) if isinstance(node, HTMLEntity) else str(node)


def _entity(node: Any) -> str:
    try:
        return str(node.normalize())
    except (ValueError, OverflowError):  # &#1114112;
        return ""


def _quotes(found: re.Match[str]) -> str:
    """Marks of bold and italic text; of four apostrophes one is the text's, of more than five all above five."""
    length = len(found[0])
    return "'" if length == 4 else "'" * max(0, length - 5)


def _prefix(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).lower()
