"""Translation memories: TMX 1.1 to 1.4."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from lmcore.collect.items import Item
from lmcore.collect.pairs import Pair, ParallelSource, is_language, records
from lmcore.collect.safe_xml import elements, local
from lmcore.collect.unpack import Member, Unreadable

_CODES = frozenset({"bpt", "ept", "ph", "it", "ut"})  # hold markup of the text's own format, not text
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def read_tmx(member: Member, params: ParallelSource) -> Iterator[Item]:
    """The records of a translation memory."""
    for _ in _units(member):
        pass  # a damaged file is to give nothing, not its first half
    yield from records((_pair(row, unit, params) for row, unit in enumerate(_units(member), 1)), params, "tmx")


def _units(member: Member) -> Iterator[Element]:
    try:
        with open(member.path, "rb") as file:
            yield from elements(file, "tu")
    except OSError as error:
        raise Unreadable.of(error) from error


def _pair(row: int, unit: Element, params: ParallelSource) -> Pair:
    texts: dict[str, str] = {}
    for variant in unit:
        code = variant.get(_LANG) or variant.get("lang") or ""
        segment = next((child for child in variant if local(child) == "seg"), None)
        for lang in (params.source_lang, params.target_lang):
            if segment is not None and is_language(code, lang):
                texts.setdefault(lang, _text(segment))
    if len(texts) < 2:
        return Pair(row, problem="not in both languages")
    return Pair(row, texts[params.source_lang], texts[params.target_lang])


def _text(segment: Element) -> str:
    """What a segment says, without the codes in it."""
    parts: list[str] = []
    waiting: list[Element | str] = [segment]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            parts.append(found)
            continue
        if found is not segment:
            waiting.append(found.tail or "")
        if local(found) not in _CODES:
            waiting += [*reversed(found), found.text or ""]
    return "".join(parts)
