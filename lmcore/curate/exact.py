"""The words hash, which is equal for exact copies: many texts at once, without a Python string for every word.

Legend: P bytes of a block of texts, T texts.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

_BLOCK = 1 << 17  # characters: a block's arrays stay in the processor's second-level cache
_GIANT = 1 << 22  # a longer text is hashed piece by piece
_BLANK = ord(" ")
# of each byte a space for what str.split takes for white space, and of ASCII letters the lower case
_SPACE = bytes(_BLANK if byte < 128 and chr(byte).isspace() else byte for byte in range(256))
_LOWER_AND_SPACE = bytes(ord(chr(byte).lower()) if byte < 128 else byte for byte in _SPACE)
_WIDE_SPACES = [chr(point).encode() for point in range(128, 0x3001) if chr(point).isspace()]
_FIRST_LEAD = 0xC2  # bytes from here on begin a character beyond ASCII


def words_hash(text: str) -> str:
    """The words hash of one text."""
    return words_hashes([text])[0]


def words_hashes(texts: Sequence[str]) -> list[str]:
    """For each text xxh3-128 (32 hex digits) of its lower-case words, one space between them, in UTF-8.

    Words are what `str.split` gives. Equal hashes are what makes two texts exact copies.
    """
    found: list[str] = []
    for block in _blocks(texts):
        if len(block) == 1 and len(block[0]) > _GIANT:
            found.append(_giant(block[0]))
            continue
        data, bounds = _packed(*_lowered(block))
        view = data.data
        blank_end = np.zeros(len(block), bool)
        filled = bounds[1:] > bounds[:-1]
        blank_end[filled] = data[bounds[1:][filled] - 1] == _BLANK
        stops = (bounds[1:] - blank_end).tolist()
        starts = bounds[:-1].tolist()
        found += [xxhash.xxh3_128_hexdigest(view[start:stop]) for start, stop in zip(starts, stops, strict=True)]
    return found


def _giant(text: str) -> str:
    """The hash of one long text, piece by piece, cut at white space."""
    digest, between, word, size = xxhash.xxh3_128(), b"", "", _GIANT
    start = 0
    while start < len(text):
        piece = word + text[start : start + size]
        start += size
        word = ""
        if start < len(text) and not piece[-1].isspace():
            *before, word = piece.rsplit(None, 1)
            piece = before[0] if before else ""
            size *= 1 if before else 2  # a giant word: so that it is not copied again and again
        if packed := " ".join(piece.lower().split()).encode():
            digest.update(between + packed)
            between = b" "
    return digest.hexdigest()


def _blocks(texts: Sequence[str]) -> Iterator[list[str]]:
    block: list[str] = []
    size = 0
    for text in texts:
        if len(text) > _GIANT and block:
            yield block
            block, size = [], 0
        block.append(text)
        size += len(text)
        if size >= _BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _lowered(block: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """UTF-8 of the texts in lower case, all white space as spaces, and the texts' bounds (T+1,).

    Lower-casing bytes of ASCII is a table lookup; only texts with capitals beyond ASCII need Python's.
    """
    parts = [text.encode() for text in block]
    bounds = np.cumsum([0, *map(len, parts)])
    raw = bytearray().join(parts).translate(_LOWER_AND_SPACE)
    data = np.frombuffer(raw, np.uint8)
    if raw.isascii():
        return data, bounds
    places, heads = _heads(data)
    capitals = places[_capital_heads().take(heads)]
    for number in np.unique(np.searchsorted(bounds, capitals, side="right") - 1).tolist():
        lower = block[number].lower()
        part = lower.encode().translate(_LOWER_AND_SPACE)
        if len(part) != len(parts[number]):  # a few letters are longer or shorter in lower case: all over again
            return _lowered([*block[:number], lower, *block[number + 1 :]])
        raw[bounds[number] : bounds[number + 1]] = part
    _blank_wide_spaces(data, places, heads)
    return data, bounds


def _heads(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """Where characters beyond ASCII begin, and their first two bytes."""
    places = np.flatnonzero(data >= _FIRST_LEAD)
    heads = data.take(places).astype(np.uint16)
    heads <<= 8
    heads |= data.take(places + 1)  # UTF-8: such a byte is never the last
    return places, heads


def _blank_wide_spaces(data: NDArray[np.uint8], places: NDArray[np.int64], heads: NDArray[np.uint16]) -> None:
    """Write every white space beyond ASCII as spaces, as many as it has bytes, in place."""
    maybe = _space_heads().take(heads)
    places, heads = places[maybe], heads[maybe]
    two_bytes = heads < 0xE000
    thirds = data.take(places + 2, mode="clip")
    spaces = two_bytes | _wide_spaces().take(((heads & np.uint16(0x3FF)).astype(np.int64) << 8) | thirds)
    at, short = places[spaces], two_bytes[spaces]
    data[at] = data[at + 1] = _BLANK
    data[at[~short] + 2] = _BLANK


def _packed(data: NDArray[np.uint8], bounds: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes with white space packed to one space (none where a text begins), and the texts' new bounds."""
    blank = data == _BLANK
    before = np.empty(len(blank), bool)
    before[1:] = blank[:-1]
    before[bounds[:-1][bounds[:-1] < len(blank)]] = True
    blank &= before
    if not blank.any():
        return data, bounds
    kept = np.flatnonzero(~blank)
    return data.take(kept), np.searchsorted(kept, bounds)


@functools.cache
def _capital_heads() -> NDArray[np.bool_]:
    """Of each two bytes whether a character that begins with them has a lower case of its own."""
    table = np.zeros(1 << 16, bool)
    characters = "".join(map(chr, [*range(0x80, 0xD800), *range(0xE000, 0x20000)]))
    for character in (*filter(str.isupper, characters), *filter(str.istitle, characters)):
        first, second, *_ = character.encode()
        table[first << 8 | second] = True
    return table


@functools.cache
def _space_heads() -> NDArray[np.bool_]:
    """Of each two bytes whether a white space begins with them."""
    table = np.zeros(1 << 16, bool)
    table[[space[0] << 8 | space[1] for space in _WIDE_SPACES]] = True
    return table


@functools.cache
def _wide_spaces() -> NDArray[np.bool_]:
    """Of each three bytes, by the last ten bits of two and the third, whether they are one of the spaces of three."""
    table = np.zeros(1 << 18, bool)
    table[[(space[0] << 8 | space[1]) % 1024 << 8 | space[2] for space in _WIDE_SPACES if len(space) == 3]] = True
    return table
