"""Catalogues of gettext: .po as translators write it, .mo as programs read it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import polib

from lmcore.collect.items import Item, read_bytes
from lmcore.collect.pairs import Pair, ParallelSource, digest, is_language, records
from lmcore.collect.unpack import Member, Unreadable

# polib takes anything between the first and the last character of a line for its string.
_LINE = re.compile(r'\s*(?:#(?!~).*|#~\|.*|#~\s*|(?:#~\s*)?(?:msg\w+(?:\[\d+\])?\s*)?"(?:[^"\\]|\\.)*"\s*)?')
_MAGIC = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}
_GIVES_UP = (OSError, ValueError, LookupError, AttributeError, TypeError, NameError, struct.error)


def read_po(member: Member, params: ParallelSource) -> Iterator[Item]:
    """The records of a catalogue as text."""
    charset = polib.detect_encoding(str(member.path))
    try:
        text = read_bytes(member.path).decode(charset)
    except (UnicodeError, LookupError) as error:
        raise Unreadable("damaged", f"not in {charset}, the charset that it declares") from error
    lines = re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff").rstrip())
    for number, line in enumerate(lines, 1):
        if not _LINE.fullmatch(line):
            raise Unreadable("truncated" if number == len(lines) else "damaged", f"not gettext: line {number}")
    try:
        catalogue = polib.pofile(str(member.path), encoding=charset)
    except _GIVES_UP as error:
        line_number = re.search(r"\(line (\d+)\)", str(error))
        raise Unreadable("damaged", f"not gettext: line {line_number[1]}" if line_number else "not gettext") from error
    yield from _catalogue(catalogue, params, "po")


def read_mo(member: Member, params: ParallelSource) -> Iterator[Item]:
    """The records of a catalogue as programs read it."""
    _check_tables(read_bytes(member.path))
    try:
        catalogue = polib.mofile(str(member.path))
    except _GIVES_UP as error:
        raise Unreadable("damaged", "not a catalogue of gettext") from error
    yield from _catalogue(catalogue, params, "mo")


def _check_tables(data: bytes) -> None:
    """Raise Unreadable unless all strings lie in the file, together not longer than it: else a bomb is easily made."""
    order = _MAGIC.get(data[:4])
    if order is None or len(data) < 20:
        raise Unreadable("damaged", "not a catalogue of gettext")
    count, *tables = struct.unpack(f"{order}III", data[8:20])
    total = 0
    for table in tables:
        if table + 8 * count > len(data):
            raise Unreadable("truncated", "breaks off in the tables of its strings")
        numbers = struct.unpack(f"{order}{2 * count}I", data[table : table + 8 * count])
        if any(start + length > len(data) for length, start in zip(numbers[::2], numbers[1::2], strict=True)):
            raise Unreadable("truncated", "breaks off before its last string")
        total += sum(numbers[::2])
    if total > len(data):
        raise Unreadable("damaged", "strings that lie over each other")


def _catalogue(catalogue: polib.POFile | polib.MOFile, params: ParallelSource, extractor: str) -> Iterator[Item]:
    declared = " ".join(catalogue.metadata.get("Language", "").split())[:40]  # of a damaged file it may be any text
    if declared and not is_language(declared, params.target_lang):
        raise Unreadable("other_language", f"in {declared}, not in {params.target_lang}")
    yield from records(_pairs(catalogue), params, extractor)


def _pairs(catalogue: polib.POFile | polib.MOFile) -> Iterator[Pair]:
    seen: set[str] = set()
    for entry in catalogue:
        context = (entry.msgctxt or "", entry.msgid)
        if entry.msgid_plural:
            forms = [text for _, text in sorted(entry.msgstr_plural.items())]
            found = [(digest(*context, entry.msgid_plural), entry.msgid_plural, forms[-1] if forms else "")]
            if len(forms) > 1:  # with one form for all numbers it is that of the plural
                found.insert(0, (digest(*context), entry.msgid, forms[0]))
        else:
            found = [(digest(*context), entry.msgid, entry.msgstr)]
        for part, source, target in found:
            if entry.obsolete or getattr(entry, "fuzzy", False):  # which .mo files do not say
                yield Pair(part, problem="obsolete" if entry.obsolete else "fuzzy")
            elif part in seen:
                yield Pair(part, problem="a second entry of this text")
            else:
                seen.add(part)
                yield Pair(part, source, target)
