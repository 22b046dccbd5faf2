"""Texts in batches of bounded size: the arrays of one batch fit in memory however long a text is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

PIECE_CHARS = 1_000_000  # a longer text is cut; its pieces' arrays take 70 MB, or 170 where characters are words
BATCH_CHARS = 250_000  # shorter ones come together up to so many characters: a quarter of that memory


def pieces(texts: Sequence[str], limit: int = PIECE_CHARS) -> Iterator[tuple[NDArray[np.int64], list[str]]]:
    """Batches of BATCH_CHARS, or of one piece of up to `limit` characters: which text each piece is of, and the piece.

    A text is whole in one batch unless it is longer than `limit`; that one is cut behind a newline, else behind a
    blank, else anywhere. Where it is cut depends on the text alone, and its pieces joined are the text.
    """
    most = min(limit, BATCH_CHARS)
    owners: list[int] = []
    batch: list[str] = []
    total = 0
    for owner, text in enumerate(texts):
        for piece in _cut(text, limit):
            if batch and total + len(piece) > most:
                yield np.array(owners, np.int64), batch
                owners, batch, total = [], [], 0
            owners.append(owner)
            batch.append(piece)
            total += len(piece)
    if batch:
        yield np.array(owners, np.int64), batch


def shares(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """part / whole rounded to six digits, 0 where the whole is 0."""
    found = np.zeros(len(part))
    np.divide(part, whole, out=found, where=whole > 0)
    return found.round(6)


def _cut(text: str, limit: int) -> Iterator[str]:
    start = 0
    while len(text) - start > limit:
        end = text.rfind("\n", start, start + limit) + 1 or text.rfind(" ", start, start + limit) + 1 or start + limit
        yield text[start:end]
        start = end
    yield text[start:] if start else text
