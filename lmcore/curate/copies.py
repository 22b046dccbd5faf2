"""One text of each group of copies: which rows of the measured files stand for the others.

Legend: T texts of all files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.bands import read_words_hashes
from lmcore.curate.measure import bands_file
from storage.parquet import parquet_facts

_SLICE = 2_000_000  # texts sorted together: some 50 bytes each


def one_of_copies(files: Sequence[Path]) -> NDArray[np.bool_]:
    """Of the texts of measured files, which one of those with the same words is taken: (T,), in the files' order.

    The one in the earliest file; of several there, the last. Raises RunError for an unreadable file.
    """
    sizes = [parquet_facts(file).num_rows for file in files]
    taken = np.zeros(sum(sizes), bool)
    slices = max(1, -(-len(taken) // _SLICE))
    for number in range(slices):
        digests: list[NDArray[np.uint64]] = [np.zeros((0, 2), np.uint64)]
        places: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        end = 0
        for file, size in zip(files, sizes, strict=True):
            found = read_words_hashes(bands_file(file))
            end += size
            rows = np.flatnonzero(found[:, 0] % np.uint64(slices) == number)[::-1]  # the last of a file comes first
            digests.append(found[rows])
            places.append(rows + (end - size))
        digest, place = np.concatenate(digests), np.concatenate(places)
        order = np.lexsort((digest[:, 1], digest[:, 0]))  # stable: copies stay in the order that they came in
        digest = digest[order]
        first = np.ones(len(order), bool)
        np.any(digest[1:] != digest[:-1], axis=1, out=first[1:])
        taken[place[order[first]]] = True
    return taken
