"""Columns of few different words (kinds, languages) as small numbers, so that nothing is done once a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Labels: TypeAlias = "Sequence[str] | pa.Array | pa.ChunkedArray"
"""N words: a list, or an Arrow array of strings, dictionary-encoded or not."""


@dataclass(frozen=True)
class Coded:
    """N labels as indices into the different ones."""

    codes: NDArray[np.int64]  # (N,)
    values: tuple[str, ...]  # different ones, sorted

    def __len__(self) -> int:
        return len(self.codes)


def coded(labels: Labels) -> Coded:
    """The labels as codes; values that do not occur are left out. Raises ValueError for a null."""
    if isinstance(labels, pa.ChunkedArray):
        labels = labels.unify_dictionaries().combine_chunks()
    elif not isinstance(labels, pa.Array):
        labels = pa.array(list(labels), pa.string())
    if not isinstance(labels, pa.DictionaryArray):
        labels = labels.dictionary_encode()
    if labels.null_count or labels.dictionary.null_count:
        raise ValueError("a kind or language is missing")
    found, codes = np.unique(labels.indices.to_numpy(zero_copy_only=False), return_inverse=True)
    words = labels.dictionary.take(pa.array(found, pa.int64())).to_pylist()
    values = tuple(sorted(set(words)))
    place = np.array([values.index(word) for word in words], np.int64)
    return Coded(place[codes] if len(found) else np.zeros(0, np.int64), values)
