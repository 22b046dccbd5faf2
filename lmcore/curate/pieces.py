"""Texts in batches of bounded size: the arrays of one batch fit in memory however long a text is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

PIECE_CHARS = 1_000_000  # a batch's arrays then take some 50 MB


def pieces(texts: Sequence[str], limit: int = PIECE_CHARS) -> Iterator[tuple[NDArray[np.int64], list[str]]]:
    """Batches of at most `limit` characters: which text each piece is of, and the piece.

    A text is whole in one batch unless it is longer than `limit`; that one is cut behind a newline, else behind a
    blank, else anywhere. Where it is cut depends on the text alone, and its pieces joined are the text.
    """
    owners: list[int] = []
    batch: list[str] = []
    total = 0
    for owner, text in enumerate(texts):
        for piece in _cut(text, limit):
            if batch and total + len(piece) > limit:
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
