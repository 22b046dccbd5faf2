"""One number a text that near copies of it mostly share: the least hash of its runs of five words.

Two texts whose sets of runs have Jaccard similarity J share it with probability J (Broder 1997, "On the resemblance
and containment of documents"). Counting different numbers in place of texts keeps a text that was mirrored a hundred
times from looking like a hundred texts, without knowing its copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lmcore.curate.pieces import pieces
from lmcore.curate.words import Hashes, Integers, Split, gram_hashes, mixed, split

_RUN = 5
_NONE = np.uint64(2**64 - 1)


def sketches(texts: Sequence[str]) -> Hashes:
    """The number of each of T normalised texts: (T,). It depends on the text alone."""
    sketch = Sketcher(len(texts))
    for owners, batch in pieces(texts):
        sketch.add(owners, split(batch))
    return sketch.values()


class Sketcher:
    """Sketches of texts whose pieces come one batch at a time, already split."""

    def __init__(self, count: int) -> None:
        self._least = np.full(count, _NONE)  # (T,)
        self._words = np.zeros(count, np.uint64)  # (T,) sum of all word hashes, for texts too short for a run

    def add(self, owners: Integers, found: Split) -> None:
        """Count pieces in; `owners` says of which text each is."""
        first, hashes = gram_hashes(found, _RUN)
        np.minimum.at(self._least, owners[found.word_text[first]], hashes)
        np.add.at(self._words, owners[found.word_text], found.word_hash)

    def values(self) -> Hashes:
        """The sketches: (T,)."""
        return mixed(np.where(self._least == _NONE, self._words, self._least))
