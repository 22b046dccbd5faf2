"""A dump of a wiki (export format 0.10 and 0.11) as a stream of pages, in bounded memory, from any place that is clean.

A multistream dump is many bz2 streams one after the other, each of whole pages, so reading may begin at any of them. A
dump that breaks off gives the pages that are whole, and then raises Unreadable.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree.ElementTree import Element

from lmcore.collect.safe_xml import elements, local
from lmcore.collect.unpack import Unreadable
from lmcore.collect.wikipedia import Wiki, language, license_of
from lmcore.collect.wikitext import Names

PIECE = 64 * 1024
MAX_PAGE = 64 * 1024 * 1024  # bytes of XML from one page to the next; a history of revisions is more
_ROOT = b"<mediawiki>"
_END = b"</page>"
# Given between streams: expat puts off what ends in few bytes, and a page is to be counted to the stream it lies in.
_PAUSE = b"\n" * 4096


@dataclass
class Place:
    """Where to go on: in the packed stream that begins at byte `offset`, after so many pages of it."""

    offset: int = 0
    skip: int = 0
    number: int = 0  # of pages before, in the whole dump
    head: dict[str, Any] = field(default_factory=dict)  # what the dump says of its wiki


@dataclass(frozen=True)
class RawPage:
    """A page as it lies in a dump."""

    number: int  # from 1, in its dump
    page: int
    title: str
    namespace: int
    redirect: bool
    revision: str
    timestamp: str
    model: str
    text: str


class Dump:
    """One dump. `place` is, after each page, where a later reading goes on behind it."""

    def __init__(self, path: Path, packed: str, place: Place | None = None) -> None:
        self._path = path
        self._packed = packed
        self.place = Place(**asdict(place)) if place else Place()

    def pages(self) -> Iterator[RawPage]:
        """The pages from the place on. Raises Unreadable after what is whole, when it is damaged or breaks off."""
        skip, head = self.place.skip, self.place.head
        self.place.skip = 0
        try:
            with open(self._path, "rb") as file:
                source = _Source(file, self._packed, self.place.offset)
                for element in elements(source, "page", "siteinfo"):
                    if local(element) == "siteinfo":
                        self.place.head = head or _head(element, source.language)
                        continue
                    if not self.place.head:
                        raise Unreadable("damaged", "no dump of a MediaWiki: it does not say of which wiki it is")
                    source.since = 0
                    if source.clean != self.place.offset:
                        self.place.offset, self.place.skip = source.clean, 0
                    self.place.skip += 1
                    if skip:
                        skip -= 1
                        continue
                    self.place.number += 1
                    yield _page(element, self.place.number)
                if not self.place.head:
                    raise Unreadable("damaged", "no dump of a MediaWiki: it does not say of which wiki it is")
        except OSError as error:
            raise Unreadable.of(error) from error

    def wiki(self) -> Wiki:
        """The wiki it is of; known from the first page on."""
        head = self.place.head
        names = Names.of((number, name) for number, name in head.get("names", []))
        known = {name: head[name] for name in ("lang", "license", "prefix") if name in head}
        return Wiki(names=names, **known)


class _Source:
    """The plain XML of a dump from a packed stream on; what one `read` gives lies within one stream.

    `clean` is where the newest stream begins that follows a whole page.
    """

    def __init__(self, file: BinaryIO, packed: str, offset: int) -> None:
        self._file = file
        kinds: dict[str, Callable[[], Any]] = {"bz2": bz2.BZ2Decompressor, "gz": _Gzip, "": _Plain}
        self._new = kinds[packed]
        self._stream: Any = self._new()
        self._rest = b""
        self._given = b""  # the last bytes that were given
        self._begin = self.clean = offset
        self._fresh = True  # nothing of this stream was given yet
        self._broken: Unreadable | None = None
        self._next = _ROOT if offset else b""
        self._at_page = False  # `_next` is the first of a stream that follows a page
        self._top = b""
        self.since = 0  # bytes since the last page
        file.seek(offset)

    @property
    def language(self) -> str:
        """What the root says, in the encodings that have ASCII in them, UTF-16 among them."""
        _, _, found = self._top.replace(b"\0", b"").partition(b'xml:lang="')
        return language(found.partition(b'"')[0].decode("ascii", "replace"))

    def read(self, size: int = -1) -> bytes:
        """The next bytes, few of them; nothing at the end."""
        if self._next:
            given, self._next = self._next, b""
            if self._at_page:
                self.clean, self._at_page = self._begin, False
            return given
        size = PIECE if size < 0 else min(size, PIECE)
        while True:
            if self._broken:
                raise self._broken
            try:
                piece = self._piece(size)
            except (OSError, zlib.error, EOFError) as error:
                # bz2 calls bytes that are not its own an OSError without number; what came before is given first.
                if isinstance(error, OSError) and error.errno:
                    raise
                self._broken = _damage(error)
                continue
            if piece is None:
                return b""
            if piece:
                break
        self._at_page = self._fresh and self._given.rstrip().endswith(_END)
        self._fresh = False
        self._given = (self._given + piece)[-64:]
        if len(self._top) < 4096:
            self._top += piece[: 4096 - len(self._top)]
        self.since += len(piece)
        if self.since > MAX_PAGE:
            raise Unreadable("too_large", f"a page of more than {MAX_PAGE:,} bytes: is it a history of revisions?")
        if self._at_page:
            self._next = piece
            return _PAUSE
        return piece

    def _piece(self, size: int) -> bytes | None:
        """What one step of unpacking gives, which may be nothing; None at the end of the dump."""
        if self._stream.eof:
            self._rest = self._stream.unused_data or self._file.read(PIECE)
            if not self._rest.strip(b"\0"):
                return None
            self._begin = self._file.tell() - len(self._rest)
            self._stream, self._fresh = self._new(), True
            data, self._rest = self._rest, b""
        else:
            data = self._file.read(PIECE) if self._stream.needs_input else b""
            if self._stream.needs_input and not data:
                if isinstance(self._stream, _Plain):
                    return None
                raise EOFError
        given: bytes = self._stream.decompress(data, size)
        return given


class _Plain:
    """What is not packed, with the methods of a decompressor."""

    eof = False
    unused_data = b""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def needs_input(self) -> bool:
        """Whether all that came was given."""
        return not self._rest

    def decompress(self, data: bytes, size: int) -> bytes:
        """At most `size` of the bytes that came."""
        whole = self._rest + data
        self._rest = whole[size:]
        return whole[:size]


class _Gzip:
    """zlib's decompressor for gzip, with the methods of those of bz2 and lzma."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        """What came behind the end."""
        return self._stream.unused_data

    @property
    def needs_input(self) -> bool:
        """Whether all that came was used."""
        return not self._stream.unconsumed_tail

    def decompress(self, data: bytes, size: int) -> bytes:
        """At most `size` bytes."""
        return self._stream.decompress(self._stream.unconsumed_tail + data, size)


def _damage(error: Exception) -> Unreadable:
    if isinstance(error, EOFError):
        return Unreadable("truncated", "the packed dump breaks off; the pages before that are kept")
    return Unreadable("damaged", f"not what its suffix says: {' '.join(str(error).split())[:200]}")


def _head(element: Element, lang: str) -> dict[str, Any]:
    """What a dump says of its wiki, as JSON."""
    base = next((child.text or "" for child in element if local(child) == "base"), "").strip()
    prefix, slash, _ = base.rpartition("/")
    host = base.partition("://")[2].partition("/")[0]
    names = []
    for spaces in element:
        for space in spaces if local(spaces) == "namespaces" else ():
            number = _integer(space.get("key"))
            if number is not None and space.text:
                names.append([number, space.text])
    return {"prefix": prefix + slash, "license": license_of("", host), "lang": lang, "names": names}


def _page(element: Element, number: int) -> RawPage:
    parts = {local(child): child for child in element}
    # Of several revisions, as in histories, the last is the page.
    revisions = [child for child in element if local(child) == "revision"]
    inside = {local(child): child for child in revisions[-1]} if revisions else {}

    def text(found: dict[str, Element], name: str) -> str:
        return (found[name].text or "") if name in found else ""

    space = _integer(text(parts, "ns"))
    return RawPage(
        number=number,
        page=_integer(text(parts, "id")) or 0,
        title=text(parts, "title").strip(),
        namespace=0 if space is None else space,
        redirect="redirect" in parts,
        revision=text(inside, "id").strip(),
        timestamp=text(inside, "timestamp").strip(),
        model=text(inside, "model").strip() or "wikitext",
        text=text(inside, "text"),
    )


def _integer(text: str | None) -> int | None:
    try:
        return int((text or "").strip())
    except ValueError:
        return None
