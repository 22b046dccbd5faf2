"""EPUB 2 and 3: the documents of the spine, in order, without those that are no text of the book.

The libraries for it are under the AGPL or long left alone; what is needed is a zip archive, three small XML files and
XHTML. Nothing is unpacked to a path, only what the spine names is read, and no more than allowed.
"""

from __future__ import annotations

import html
import lzma
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lmcore.collect.book import FRONT, Book, Chapter
from lmcore.collect.charset import clean, decode
from lmcore.collect.extract import parse_html, visible_text
from lmcore.collect.safe_xml import local, parse_xml
from lmcore.collect.unpack import MAX_MEMBERS, PIECE, Member, Unreadable, plain_name

_TYPES = {"application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document"}
# epub:type (EPUB 3 Structural Semantics Vocabulary) and guide types (EPUB 2) of what is no text of the book
_FRONT_TYPES = frozenset({
    "cover", "cover-page", "cover-image", "titlepage", "title-page", "halftitlepage", "toc", "landmarks", "page-list",
    "copyright-page", "copyright", "colophon", "imprint", "imprimatur", "loi", "lot", "lof", "loa", "lov",
})  # fmt: skip
_FRONT_NAMES = re.compile(
    r"(?:cover|cover-?page|title|title-?page|half-?title(?:page)?|copyright|toc|nav|colophon)\d{0,3}"
)
_COPYRIGHT = re.compile(
    r"©|copyright|\(c\)|all rights reserved|\bISBN\b|無断|著作権|minden jog fenntartva", re.IGNORECASE
)
COPYRIGHT_CHARS = 1_500  # a page of fewer, with two such words, is about the copyright
_HIDDEN = frozenset({"script", "style", "template", "head", "nav", "svg", "rp", "rtc", "hidden"})
_EPUB_TYPE = "{http://www.idpf.org/2007/ops}type"
_LANG = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8})*")
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]*);")
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6", "title")
_GIVES_UP = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError, OSError, RuntimeError,
    LookupError,
)  # fmt: skip


def read_epub(member: Member, max_bytes: int, *, keep_ruby: bool) -> Book:
    """The book in a file; of words with a reading beside them the reading too, with `keep_ruby`. Raises Unreadable."""
    with _Container(member.path, max_bytes) as container:
        package = _Package(container)
        return Book(
            package.named("title") or plain_name(member.name).rpartition(".")[0],
            list(_chapters(container, package, keep_ruby)),
            author="; ".join(package.all_named("creator")),
            lang=package.lang,
            meta=package.meta,
        )


class _Container:
    """The files of an EPUB by name, at most `max_bytes` of them together."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._left = self._cap = max_bytes
        try:
            self._zip = zipfile.ZipFile(path)
        except _GIVES_UP as error:
            raise Unreadable("damaged", "not a zip archive, or it breaks off") from error
        self._files = {entry.filename: entry for entry in self._zip.infolist()}
        if len(self._files) > MAX_MEMBERS:
            raise Unreadable("too_large", f"more than {MAX_MEMBERS:,} members")
        self.encrypted = self._encrypted()

    def __enter__(self) -> _Container:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str) -> bytes:
        """A file of the container. Raises Unreadable."""
        if name not in self._files:
            raise Unreadable("damaged", f"no {name} in it")
        entry = self._files[name]
        if entry.flag_bits & 1 or name in getattr(self, "encrypted", ()):
            raise Unreadable("encrypted", "the book is encrypted")
        pieces = []
        try:
            with self._zip.open(entry) as source:
                while piece := source.read(PIECE):
                    self._left -= len(piece)
                    if self._left < 0:
                        raise Unreadable("too_large", f"more than {self._cap:,} bytes unpacked")
                    pieces.append(piece)
        except _GIVES_UP as error:
            raise Unreadable("damaged", f"{name} in it cannot be unpacked") from error
        return b"".join(pieces)

    def _encrypted(self) -> frozenset[str]:
        """The files that are encrypted; often it is only the fonts."""
        if "META-INF/encryption.xml" not in self._files:
            return frozenset()
        root = parse_xml(self.read("META-INF/encryption.xml"))
        uris = (element.get("URI") for element in root.iter() if local(element) == "cipherreference")
        return frozenset(unquote(uri) for uri in uris if uri)


class _Package:
    """The package document: what the book is called, its files, their order."""

    def __init__(self, container: _Container) -> None:
        roots = [e for e in parse_xml(container.read("META-INF/container.xml")).iter() if local(e) == "rootfile"]
        path = roots[0].get("full-path") if roots else None
        if not path:
            raise Unreadable("damaged", "META-INF/container.xml names no package")
        self._folder = posixpath.dirname(path)
        self._root = parse_xml(container.read(path))
        self._container = container
        manifest = [element for element in self._root.iter() if local(element) == "item" and element.get("href")]
        self.files = {e.get("id") or "": self._place(e.get("href") or "") for e in manifest}
        self._types = {e.get("id") or "": (e.get("media-type") or "").lower() for e in manifest}
        self._nav = next((self._place(e.get("href") or "") for e in manifest if "nav" in _words(e, "properties")), "")
        self.titles, self.kinds = self._table_of_contents()
        if self._nav:
            self.kinds.setdefault(self._nav, set()).add("toc")

    @property
    def spine(self) -> list[tuple[str, str]]:
        """(id, path) of the documents that are read one after the other, each once."""
        found: dict[str, str] = {}
        for reference in self._root.iter():
            name = reference.get("idref") or ""
            if local(reference) != "itemref" or reference.get("linear") == "no" or name not in self.files:
                continue
            if self._types[name] in _TYPES:
                found.setdefault(self.files[name], name)
        return [(name, path) for path, name in found.items()]

    def all_named(self, name: str) -> list[str]:
        """Texts of the Dublin Core elements of that name."""
        found = (" ".join("".join(e.itertext()).split()) for e in self._metadata() if local(e) == name)
        return [text[:500] for text in found if text]

    def named(self, name: str) -> str:
        """The first of them, or ""."""
        return next(iter(self.all_named(name)), "")

    @property
    def lang(self) -> str:
        """The language that the book declares."""
        lang = self.named("language").replace("_", "-")
        return lang if _LANG.fullmatch(lang) else "und"

    @property
    def meta(self) -> dict[str, Any]:
        """What else the book says of itself."""
        said = {"identifier": self.named("identifier"), "rights": self.named("rights")}
        return {"extractor": "epub", **{name: clean(text) for name, text in said.items() if text}}

    def _metadata(self) -> list[Any]:
        return [child for element in self._root if local(element) == "metadata" for child in element.iter()]

    def _place(self, href: str, folder: str | None = None) -> str:
        """Where a reference of this document (or of one in `folder`) leads, within the container."""
        try:
            path = unquote(urlsplit(href).path)
        except ValueError:
            return ""
        return posixpath.normpath(posixpath.join(self._folder if folder is None else folder, path))

    def _table_of_contents(self) -> tuple[dict[str, str], dict[str, set[str]]]:
        """What documents are called in the table of contents; and what they are (cover, toc, ...)."""
        titles: dict[str, str] = {}
        kinds: dict[str, set[str]] = {}
        for reference in self._root.iter():
            if local(reference) == "reference":
                kinds.setdefault(self._place(reference.get("href") or ""), set()).add(
                    (reference.get("type") or "").lower()
                )
        ncx = next((self.files[name] for name, kind in self._types.items() if kind == "application/x-dtbncx+xml"), "")
        for path, read in ((self._nav, self._from_nav), (ncx, self._from_ncx)):
            if path in self._container:
                try:
                    read(path, titles, kinds)
                except Unreadable as error:
                    if error.outcome == "too_large":
                        raise
        return titles, kinds

    def _from_ncx(self, path: str, titles: dict[str, str], _kinds: dict[str, set[str]]) -> None:
        for point in parse_xml(self._container.read(path)).iter():
            if local(point) != "navpoint":
                continue
            label = next((child for child in point if local(child) == "navlabel"), None)
            content = next((child for child in point if local(child) == "content"), None)
            if label is not None and content is not None:
                place = self._place(content.get("src") or "", posixpath.dirname(path))
                titles.setdefault(place, " ".join("".join(label.itertext()).split()))

    def _from_nav(self, path: str, titles: dict[str, str], kinds: dict[str, set[str]]) -> None:
        tree = _tree(self._container.read(path))
        for nav in [] if tree is None else tree.iter("nav"):
            for link in nav.iter("a"):
                place = self._place(link.get("href") or "", posixpath.dirname(path))
                if "landmarks" in _words(nav, _EPUB_TYPE, "epub:type"):
                    kinds.setdefault(place, set()).update(_words(link, _EPUB_TYPE, "epub:type"))
                elif "toc" in _words(nav, _EPUB_TYPE, "epub:type"):
                    titles.setdefault(place, " ".join("".join(link.itertext()).split()))


def _chapters(container: _Container, package: _Package, keep_ruby: bool) -> Iterator[Chapter]:
    for name, path in package.spine:
        if path not in container:
            yield Chapter(path, problem="a document that is not in the file")
            continue
        tree = _tree(container.read(path))
        if tree is None:
            yield Chapter(path, problem="an empty document")
            continue
        kinds = package.kinds.get(path, set()) | _kinds(tree)
        _prepare(tree, keep_ruby)
        title = package.titles.get(path) or _heading(tree)
        text = visible_text(tree, _HIDDEN)
        stem = posixpath.splitext(posixpath.basename(path))[0].lower().replace("_", "-")
        named = _FRONT_NAMES.fullmatch(stem) or _FRONT_NAMES.fullmatch(name.lower().replace("_", "-"))
        about = len(text) < COPYRIGHT_CHARS and len(set(map(str.lower, _COPYRIGHT.findall(text)))) > 1
        if kinds & _FRONT_TYPES or named or about:
            yield Chapter(path, problem=FRONT)
        else:
            yield Chapter(path, title[:500], text)


def _tree(data: bytes) -> Any:
    """The tree of an XHTML document, names without namespaces; None when there is nothing in it."""
    text = clean(decode(data, html=True).text)
    body = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)
    try:
        # XML first: to a parser of HTML <title/> never ends
        tree = parse_xml(_ENTITY.sub(_character, body).encode())
    except Unreadable:
        return parse_html(text)
    for element in tree.iter():
        element.tag = local(element)
    return tree


def _character(entity: re.Match[str]) -> str:
    """A named character of HTML as XML knows it."""
    if entity[1] in ("amp", "lt", "gt", "quot", "apos"):
        return entity[0]
    text = html.unescape(entity[0])
    return html.escape(entity[0] if text == entity[0] else text)


def _words(element: Any, *names: str) -> set[str]:
    return {word for name in names for word in (element.get(name) or "").lower().split()}


def _kinds(tree: Any) -> set[str]:
    """epub:type of the body, or of the one section that is all of it."""
    for body in tree.iter("body"):
        sections = [child for child in body if child.tag in ("section", "div", "article", "nav")]
        alone = sections if len(body) == 1 else []
        return {word for element in (body, *alone) for word in _words(element, _EPUB_TYPE, "epub:type")}
    return set()


def _heading(tree: Any) -> str:
    for name in _HEADINGS:
        for element in tree.iter(name):
            title = " ".join(visible_text(element, _HIDDEN).split())
            if title:
                return title
    return ""


def _prepare(tree: Any, keep_ruby: bool) -> None:
    """Hide numbers of pages and notes, and readings beside words or put them in brackets."""
    for element in list(tree.iter()):
        if not isinstance(element.tag, str):
            continue
        if element.tag == "rt":
            reading = "".join(element.itertext()).strip()
            element.tag = "span" if keep_ruby and reading else "hidden"
            for child in list(element):
                element.remove(child)
            element.text = f"（{reading}）"
        elif _words(element, _EPUB_TYPE, "epub:type") & {"pagebreak", "noteref"}:
            element.tag = "hidden"
