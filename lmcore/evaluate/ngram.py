"""An n-gram model over bytes: what counting alone reaches on the same training text.

Interpolated modified Kneser-Ney (Chen and Goodman 1999, "An empirical study of smoothing techniques for language
modeling", eq. 26 and 27) with the uniform distribution over 256 bytes below the unigrams. A gram of up to eight bytes
is one uint64, so nothing is hashed and nothing collides; a level is two sorted arrays and a lookup is a binary search.
Every document is read with `order - 1` zero bytes before it, which are context and never a prediction.

Letters: N bytes scored, G distinct grams of a level, C distinct contexts of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_ORDER = 8  # bytes in a uint64
ALPHABET = 256
# KenLM's fallback where a level has too few rare grams for the estimate (lm/builder, "discount_fallback").
_FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)

Codes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Level:
    """Grams of one length: p(byte | context) = direct[gram] + backoff[context] * p(byte | shorter context)."""

    grams: Codes  # (G,) sorted
    direct: Floats  # (G,)
    contexts: Codes  # (C,) sorted
    backoff: Floats  # (C,)


class NGram:
    """A byte n-gram model whose probabilities over the 256 bytes sum to 1 in every context."""

    def __init__(self, documents: Sequence[bytes], order: int) -> None:
        """Count `documents`. `order` (1 to 8) is the gram's length in bytes, the predicted byte included."""
        assert 1 <= order <= MAX_ORDER
        self.order = order
        stream, real = _stream(documents, order)
        grams, counts = _unique(_codes(stream, real, order))
        levels = [_level(grams, counts)]
        for length in range(order - 1, 0, -1):
            # Kneser-Ney: a shorter gram counts once for every different byte seen before it.
            grams, counts = _unique(grams & np.uint64((1 << 8 * length) - 1))
            levels.append(_level(grams, counts))
        self._levels = levels[::-1]

    def bits(self, documents: Sequence[bytes]) -> Floats:
        """Bits each byte of the documents costs, in order: (N,). Nothing is learned from what is scored."""
        stream, real = _stream(documents, self.order)
        probability = np.full(int(real.sum()), 1 / ALPHABET)
        for length, level in enumerate(self._levels, start=1):
            codes = _codes(stream, real, length)
            probability *= _look_up(level.contexts, level.backoff, codes >> np.uint64(8), missing=1.0)
            probability += _look_up(level.grams, level.direct, codes, missing=0.0)
        bits: Floats = -np.log2(probability)
        return bits

    def probabilities(self, context: bytes) -> Floats:
        """Probability of each of the 256 bytes after `context`, itself the beginning of a document: (256,)."""
        bits = self.bits([context + bytes([byte]) for byte in range(ALPHABET)])
        return np.exp2(-bits.reshape(ALPHABET, len(context) + 1)[:, -1])


def _stream(documents: Sequence[bytes], order: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """All documents, each behind its padding, and a mask of the bytes that are not padding."""
    padding = bytes(order - 1)
    stream = np.frombuffer(b"".join(padding + document for document in documents), dtype=np.uint8)
    real = np.ones(len(stream), dtype=np.bool_)
    if documents:
        ends = np.cumsum([order - 1 + len(document) for document in documents])
        starts = ends - [order - 1 + len(document) for document in documents]
        for offset in range(order - 1):
            real[starts + offset] = False
    return stream, real


def _codes(stream: npt.NDArray[np.uint8], real: npt.NDArray[np.bool_], length: int) -> Codes:
    """The gram of `length` bytes that ends at each real byte, as a big-endian number: (N,)."""
    ends = np.flatnonzero(real)
    codes = np.zeros(len(ends), dtype=np.uint64)
    for back in range(length - 1, -1, -1):
        codes <<= np.uint64(8)
        codes |= stream[ends - back]
    return codes


def _unique(codes: Codes) -> tuple[Codes, npt.NDArray[np.int64]]:
    """Sorted distinct codes and how often each occurs; sorts in place where it can."""
    codes.sort()
    starts = _run_starts(codes)
    return codes[starts], np.diff(starts, append=len(codes))


def _run_starts(ordered: Codes) -> npt.NDArray[np.int64]:
    """Index of the first of each run of equal values."""
    if not len(ordered):
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))


def _level(grams: Codes, counts: npt.NDArray[np.int64]) -> _Level:
    """Discount the counts of one gram length and share what is left with the shorter contexts."""
    if not len(grams):
        return _Level(grams, np.zeros(0), grams, np.zeros(0))
    discounts = np.array((0.0, *_discounts(counts)))[np.minimum(counts, 3)]  # (G,)
    prefixes = grams >> np.uint64(8)
    starts = _run_starts(prefixes)
    totals = np.add.reduceat(counts, starts).astype(np.float64)  # (C,)
    sizes = np.diff(starts, append=len(grams))
    direct = (counts - discounts) / np.repeat(totals, sizes)
    return _Level(grams, direct, prefixes[starts], np.add.reduceat(discounts, starts) / totals)


def _discounts(counts: npt.NDArray[np.int64]) -> tuple[float, float, float]:
    """The three discounts of modified Kneser-Ney from how many grams were seen once to four times."""
    n1, n2, n3, n4 = (int((counts == seen).sum()) for seen in (1, 2, 3, 4))
    if not min(n1, n2, n3):
        return _FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    estimate = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    usable = all(0 < discount < limit for discount, limit in zip(estimate, (1, 2, 3), strict=True))
    return estimate if usable else _FALLBACK_DISCOUNTS


def _look_up(keys: Codes, values: Floats, wanted: Codes, missing: float) -> Any:
    """values[key == wanted], or `missing` where there is no such key."""
    if not len(keys):
        return np.full(len(wanted), missing)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], missing)
