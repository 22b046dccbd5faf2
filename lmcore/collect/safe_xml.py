"""XML from anyone: no entities, nothing from outside, and only what is wrong in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol
from xml.etree.ElementTree import Element

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from lmcore.collect.unpack import Unreadable


class Readable(Protocol):
    """What a document is read from."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


MAX_DEPTH = 256  # libxml2's limit too; Python's own walks through a tree are recursive


def parse_xml(data: bytes) -> Element:
    """The root of a document, at most MAX_DEPTH deep, so that it may be walked through. Raises Unreadable."""
    try:
        root: Element = defusedxml.ElementTree.fromstring(data)
    except _GIVES_UP as error:
        raise _unreadable(error) from error
    waiting = [(root, 1)]
    while waiting:
        element, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise Unreadable("damaged", f"XML nested more than {MAX_DEPTH} deep")
        waiting += [(child, depth + 1) for child in element]
    return root


def elements(file: Readable, *names: str) -> Iterator[Element]:
    """Every element of these names (without namespaces), whole, of a document of any length. Raises Unreadable."""
    path: list[Element] = []
    inside = 0
    try:
        for event, element in defusedxml.ElementTree.iterparse(file, events=("start", "end")):
            wanted = local(element) in names
            if event == "start":
                path.append(element)
                inside += wanted
                continue
            path.pop()
            inside -= wanted
            if wanted and not inside:
                yield element
            if not inside and path:
                path[-1].remove(element)  # so that memory stays flat
    except _GIVES_UP as error:
        raise _unreadable(error) from error


def local(element: Element) -> str:
    """The name of an element without its namespace, in small letters."""
    return str(element.tag).rpartition("}")[2].lower()


# ValueError and LookupError: charsets that expat does not know, and what defusedxml forbids.
_GIVES_UP = (defusedxml.ElementTree.ParseError, ValueError, LookupError)


def _unreadable(error: Exception) -> Unreadable:
    if isinstance(error, DefusedXmlException):
        return Unreadable("damaged", "XML with entities of its own, which are not read")
    text = " ".join(str(error).split())[:200]
    cut = text.startswith(("no element found", "unclosed token"))
    return Unreadable("truncated" if cut else "damaged", f"not XML: {text}")
