"""Words cut into pieces of at most four characters, as 64-bit codes: a vocabulary for every script.

A piece that begins a word differs from the same characters inside one, so the pieces of a text say where its words
end. Letters: P code points of a batch, W words, N pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.words import Hashes, Integers, mixed, split

PIECE = 4  # characters
_SHIFT = np.uint64(21)  # bits of a code point
_STEP = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Pieces:
    """The word pieces of T texts in order."""

    code: Hashes  # (N,)
    points: NDArray[np.uint32]  # (N, 4) code points plus one, 0 where the piece is shorter
    text: Integers  # (N,) which text
    place: Integers  # (N,) which piece of its text, from 0
    n_bytes: Integers  # (N,) UTF-8 bytes, and one for the white space before a word


def word_pieces(texts: Sequence[str]) -> Pieces:
    """Pieces of `texts` (no lone surrogates), in lower case."""
    found = split(texts)
    lowered = "\n".join([*(text.lower() for text in texts), ""])  # as `split` has it
    points = np.frombuffer(lowered.encode("utf-32-le"), np.uint32)
    number = -(-(found.word_end - found.word_start) // PIECE)  # (W,)
    first = np.cumsum(number) - number
    word = np.repeat(np.arange(len(number)), number)  # (N,)
    start = found.word_start[word] + (np.arange(len(word)) - first[word]) * PIECE
    end = np.minimum(start + PIECE, found.word_end[word])
    begins = start == found.word_start[word]

    points_of = np.zeros((len(word), PIECE), np.uint32)
    code = begins.astype(np.uint64)
    n_bytes = begins.astype(np.int64)
    for offset in range(PIECE):
        at = start + offset
        inside = at < end
        point = np.where(inside, points[np.minimum(at, len(points) - 1)] + 1, 0).astype(np.uint64)
        points_of[:, offset] = point
        # four code points fill 84 bits: multiplying folds them into 64
        code = (code << _SHIFT) ^ (code >> np.uint64(43)) * _STEP ^ point
        n_bytes += utf8_bytes(points_of[:, offset])
    text = found.word_text[word]
    place = np.arange(len(word)) - np.searchsorted(text, text)
    return Pieces(mixed(code), points_of, text, place, n_bytes)


def utf8_bytes(points: NDArray[np.uint32]) -> Integers:
    """Bytes of each code point, given plus one; 0 for 0."""
    sizes = np.stack([points > limit for limit in (0, 0x80, 0x800, 0x10000)])
    total: Integers = sizes.sum(axis=0, dtype=np.int64)
    return total
