"""The words hash, which is equal for exact copies: many texts at once, without a Python string for every word.

Legend: P bytes of a block of texts, T texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

_BLOCK = 1 << 17  # characters: a block's arrays stay in the processor's second-level cache
_BLANK = ord(" ")
# of each byte a space for what str.split takes for white space, and of ASCII letters the lower case
_SPACE = bytes(_BLANK if byte < 128 and chr(byte).isspace() else byte for byte in range(256))
_LOWER_AND_SPACE = bytes(ord(chr(byte).lower()) if byte < 128 else byte for byte in _SPACE)
_WIDE_SPACES = [chr(point).encode() for point in range(128, 0x3001) if chr(point).isspace()]
_LEADS = sorted({space[0] for space in _WIDE_SPACES})
_WIDE_HEADS = np.zeros(1 << 16, bool)
_WIDE_HEADS[[space[0] << 8 | space[1] for space in _WIDE_SPACES]] = True


def words_hashes(texts: Sequence[str]) -> list[str]:
    """For each text xxh3-128 (32 hex digits) of its lower-case words, one space between them, in UTF-8.

    Words are what `str.split` gives: the value is that of `duplicates.words_hash`, at about three times its speed.
    """
    found: list[str] = []
    for block in _blocks(texts):
        parts = [text.encode() if text.isascii() else text.lower().encode() for text in block]
        bounds = np.cumsum([0, *map(len, parts)])
        data, bounds = _packed(b"".join(parts), bounds)
        view = data.data
        blank_end = np.zeros(len(block), bool)
        filled = bounds[1:] > bounds[:-1]
        blank_end[filled] = data[bounds[1:][filled] - 1] == _BLANK
        stops = (bounds[1:] - blank_end).tolist()
        starts = bounds[:-1].tolist()
        found += [xxhash.xxh3_128_hexdigest(view[start:stop]) for start, stop in zip(starts, stops, strict=True)]
    return found


def _blocks(texts: Sequence[str]) -> Iterator[list[str]]:
    block: list[str] = []
    size = 0
    for text in texts:
        block.append(text)
        size += len(text)
        if size >= _BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _packed(raw: bytes, bounds: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes with white space packed to one space (none where a text begins), and the texts' new bounds."""
    data = np.frombuffer(raw.translate(_LOWER_AND_SPACE), np.uint8)
    if not raw.isascii():
        data = _without_wide_spaces(data)
    blank = data == _BLANK
    before = np.empty(len(blank), bool)
    before[1:] = blank[:-1]
    before[bounds[:-1][bounds[:-1] < len(blank)]] = True
    blank &= before
    if not blank.any():
        return data, bounds
    kept = np.flatnonzero(~blank)
    return data.take(kept), np.searchsorted(kept, bounds)


def _without_wide_spaces(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bytes of UTF-8 with every white space beyond ASCII written as spaces, as many as it has bytes."""
    lead = np.zeros(len(data), bool)
    for byte in _LEADS:
        lead |= data == byte
    places = np.flatnonzero(lead)
    if not len(places):
        return data
    padded = np.append(data, np.zeros(2, np.uint8))
    heads = (padded[places].astype(np.uint16) << 8) | padded[places + 1]
    places = places[_WIDE_HEADS.take(heads)]
    second, third = padded[places + 1], padded[places + 2]
    for space in _WIDE_SPACES:
        same = (data[places] == space[0]) & (second == space[1])
        if len(space) == 3:
            same &= third == space[2]
        if same.any():
            data = data.copy() if not data.flags.writeable else data
            for i in range(len(space)):
                data[places[same] + i] = _BLANK
            second, third = np.where(same, 0, second), np.where(same, 0, third)
    return data
