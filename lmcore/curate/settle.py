"""Choosing among large crowds of texts that are alike, of which not every pair was looked at.

Comparing all pairs of a hundred thousand texts of one template is out of the question, so `candidates` looks at some.
A text that stays may then be like another one that stays. Those that stay of a crowd are few, so they are compared
again, until no two of them are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.bands import Part
from lmcore.curate.candidates import LIMIT
from lmcore.curate.choose import Chosen, Pairs, choose
from lmcore.curate.ids import Ids
from lmcore.curate.measure import bands_file
from lmcore.curate.pairs import find_pairs

Integers = NDArray[np.int64]


def settle(
    words: Ids,
    rank: Integers,
    pairs: Pairs,
    files: Sequence[Path],
    file: NDArray[np.int32],
    row: NDArray[np.int32],
    *,
    min_jaccard: float,
    memory_mib: int,
) -> Chosen:
    """Like `choose`, for N texts that lie in rows `row` (N,) of the measured files `file` (N,), whatever the crowd."""
    while True:
        chosen = choose(words, rank, pairs)
        stays = chosen.best == np.arange(len(words))
        left = np.bincount(chosen.cluster[stays], minlength=len(words))
        crowd = np.flatnonzero(stays & (chosen.size > LIMIT) & (left[chosen.cluster] > 1))
        if not len(crowd):
            return chosen
        parts = [
            Part(bands_file(files[number]), files[number], np.sort(row[crowd[file[crowd] == number]]).astype(np.int64))
            for number in np.unique(file[crowd]).tolist()
        ]
        more = Pairs.of(find_pairs(parts, memory_mb=memory_mib, min_jaccard=min_jaccard))
        if not len(more.jaccard):
            return chosen
        pairs = pairs + more
