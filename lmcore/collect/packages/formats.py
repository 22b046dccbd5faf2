"""Containers of text that only packages have: Chromium's .pak, R's .rdb, gettext's .mo as pairs."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from lmcore.collect.unpack import Unreadable

_MOST = 64_000_000  # bytes that one R object may unpack to
_CHARSXP, _STRSXP = 9, 16  # types of R objects: one string, a vector of them


def pak_strings(path: Path) -> dict[int, str]:
    """Texts of a Chromium resource file of version 5, by number. Raises Unreadable.

    Header of 12 bytes (version, encoding, counts of resources and aliases), then 6 bytes for each resource (number,
    place), 4 for each alias (number, which resource), then the texts.
    """
    data = path.read_bytes()
    try:
        version, encoding, count, aliases = struct.unpack_from("<IIHH", data)
        entries = [struct.unpack_from("<HI", data, 12 + 6 * place) for place in range(count + 1)]
        same = [struct.unpack_from("<HH", data, 12 + 6 * (count + 1) + 4 * place) for place in range(aliases)]
    except struct.error as error:
        raise Unreadable("damaged", f"not a .pak: {error}") from error
    if version != 5 or encoding != 1:
        raise Unreadable("damaged", f"a .pak of version {version}, encoding {encoding}; 5 and 1 are read")
    found: dict[int, str] = {}
    for (number, start), (_, end) in itertools.pairwise(entries):
        found[number] = data[start:end].decode("utf-8", "replace")
    for number, place in same:
        if place >= count:
            raise Unreadable("damaged", "an alias of no resource")
        found[number] = found[entries[place][0]]
    return found


def rdb_texts(path: Path) -> list[list[str]]:
    """The vectors of strings of an R data base, in its order. Raises Unreadable.

    Each object is a length of 4 bytes and a zlib stream of R's serialisation (XDR, version 3).
    """
    data, place = path.read_bytes(), 0
    found = []
    while place < len(data):
        stream = zlib.decompressobj()
        try:
            (length,) = struct.unpack_from(">I", data, place)
            plain = stream.decompress(data[place + 4 :], min(length, _MOST))
        except (struct.error, zlib.error) as error:
            raise Unreadable("damaged", f"not R's data at byte {place}: {error}") from error
        if len(plain) != length:
            raise Unreadable("damaged", f"an R object of {length:,} bytes at byte {place}")
        stream.decompress(stream.unconsumed_tail, 16)  # its checksum
        place = len(data) - len(stream.unused_data)
        found.append(list(_strings(plain)))
    return found


def _strings(plain: bytes) -> Iterator[str]:
    try:
        kind, version, _, _, size = struct.unpack_from(">2sIIII", plain)
        place = 18 + size  # after the name of the charset
        flags, count = struct.unpack_from(">II", plain, place)
        if kind != b"X\n" or version != 3 or flags & 0xFF != _STRSXP:
            return
        place += 8
        for _ in range(count):
            flags, length = struct.unpack_from(">Ii", plain, place)
            if flags & 0xFF != _CHARSXP:
                raise Unreadable("damaged", "no string where R has one")
            place += 8
            yield plain[place : place + max(length, 0)].decode("utf-8", "replace")
            place += max(length, 0)
    except struct.error as error:
        raise Unreadable("damaged", f"an R object breaks off: {error}") from error


def catalogue(path: Path) -> Iterator[tuple[str, str]]:
    """(text, translation) of a compiled catalogue of gettext, with every plural form. Raises Unreadable."""
    import polib

    try:
        entries = polib.mofile(str(path))
    except (OSError, ValueError, struct.error, IndexError, UnicodeDecodeError) as error:
        raise Unreadable("damaged", f"not a catalogue: {error}") from error
    for entry in entries:
        yield entry.msgid, entry.msgstr
        for translation in (entry.msgstr_plural or {}).values():
            yield entry.msgid_plural, translation
