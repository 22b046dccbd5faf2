"""The counts that the original Amharic formulas take of a text, exactly as those count.

They are not the project's own signals: words are what stands between white space (the Ethiopic word space does not
separate them), words are compared with case, and the Ethiopic block is U+1200 to U+137F without its supplements.
Names and meanings: AMHARIC in `lmcore.curate.names`. They are taken of every text, whatever its script, since the
formulas give points for length, words and different characters too.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from lmcore.curate.names import AMHARIC

_STOP = "\u1362"  # ።
_ETHIOPIC = re.compile("[\u1200-\u137f]")
_NOT_ETHIOPIC = re.compile(r"[^\u1200-\u137f]+")
_COMPLEX = (
    re.compile("[\u1369-\u137c]"),  # numerals ፩ to ፼
    re.compile("[\u1200-\u123f]{15,}"),  # meant as long words; the range [ሀ-ሿ] ends at U+123F, kept as it was
    re.compile("[\u1362-\u1368]"),  # ። ፣ ፤ ፥ ፦ ፧ ፨
)
_SIMPLE = (
    re.compile(r"^[\u1200-\u123f\s]{1,20}$"),
    re.compile(r"^(ሰላም|እንዴት|ጤና|አመሰግናለሁ)\s*[\u1200-\u123f\s]*$"),  # greetings
)


def ethiopic_counts(texts: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Every signal of AMHARIC for T texts, each (T,)."""
    rows = np.zeros((len(texts), len(AMHARIC)))
    for place, text in enumerate(texts):
        rows[place] = _counts(text)
    return {name: rows[:, column].copy() for column, name in enumerate(AMHARIC)}


def _counts(text: str) -> tuple[int, ...]:
    words, different = _words(text)
    stripped = text.strip()
    ethiopic = not text.isascii() and _ETHIOPIC.search(text) is not None
    stops = text.count(_STOP)
    return (
        len(_NOT_ETHIOPIC.sub("", text)) if ethiopic else 0,
        text.count(" "),
        text.count("\n"),
        stops,
        words,
        different,
        len(stripped),
        _distinct(stripped),
        stops + text.count("!") + text.count("?"),
        sum(pattern.search(stripped) is not None for pattern in _COMPLEX) if ethiopic else 0,
        sum(pattern.search(stripped) is not None for pattern in _SIMPLE) if ethiopic else 0,
    )


def _words(text: str) -> tuple[int, int]:
    """How many words, and how many different ones; of a giant text by hashes, in a memory of 8 bytes a word."""
    if len(text) <= _PIECE:
        words = text.split()
        return len(words), len(set(words))
    found = (match.group().encode("utf-8", "surrogatepass") for match in _WORD.finditer(text))
    parts: list[NDArray[np.uint64]] = []
    while len(part := np.fromiter(map(xxhash.xxh3_64_intdigest, itertools.islice(found, _PIECE)), np.uint64)):
        parts.append(part)
    hashes = np.concatenate([np.zeros(0, np.uint64), *parts])
    return len(hashes), len(np.unique(hashes))


def _distinct(text: str) -> int:
    """How many different characters."""
    if len(text) < _SHORT:
        return len(set(text))
    pieces = (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
    points = (np.frombuffer(piece.encode("utf-32-le", "surrogatepass"), np.uint32) for piece in pieces)
    there = np.zeros(0x110000, bool)
    for some in points:
        counts = np.bincount(some)
        there[: len(counts)] |= counts > 0
    return int(np.count_nonzero(there))


_WORD = re.compile(r"\S+")  # as str.split has it
_SHORT, _PIECE = 1 << 14, 1 << 20  # characters: from when on an array is faster than a set; of one piece
