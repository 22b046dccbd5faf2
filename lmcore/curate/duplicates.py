"""Exact duplicates over all sources: one word sequence, one text kept.

Two texts are duplicates when their normalised words are equal without regard to case and white space. Which copy
stays is a total order, so the order of the input cannot matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from lmcore.curate.words import run_starts

RULE = "exact_duplicate"


def words_hash(normalised: str) -> str:
    """xxh3-128 (32 hex digits) of the lower-case words of a normalised text, one space between them."""
    return xxhash.xxh3_128_hexdigest(" ".join(normalised.lower().split()).encode())


@dataclass(frozen=True)
class Clusters:
    """For each of N texts the copy that stays and how many there are."""

    best: NDArray[np.int64]  # (N,) index of the copy kept; its own index for a text that stays
    size: NDArray[np.int64]  # (N,) copies in its cluster, itself included


def exact_clusters(
    hashes: Sequence[str] | pa.ChunkedArray,
    *,
    synthetic: NDArray[np.bool_],
    quality: NDArray[np.float64],
    n_chars: NDArray[np.float64],
    urls: Sequence[str] | pa.ChunkedArray,
    record_ids: Sequence[str] | pa.ChunkedArray,
) -> Clusters:
    """Group N texts by their words; in each group the best stays.

    Best: written by people before synthetic, then highest quality, most characters, lowest url, lowest record id.
    """
    table = pa.table(
        {
            "hash": hashes,
            "synthetic": synthetic,
            "quality": quality,
            "n_chars": n_chars,
            "url": urls,
            "record_id": record_ids,
        }
    )
    order = pc.sort_indices(
        table,
        sort_keys=[
            ("hash", "ascending"),
            ("synthetic", "ascending"),
            ("quality", "descending"),
            ("n_chars", "descending"),
            ("url", "ascending"),
            ("record_id", "ascending"),
        ],
    ).to_numpy()
    ranked = table["hash"].to_numpy()[order]
    first = np.flatnonzero(run_starts(ranked))
    sizes = np.diff(np.append(first, len(ranked)))
    best = np.empty(len(ranked), np.int64)
    size = np.empty(len(ranked), np.int64)
    best[order] = np.repeat(order[first], sizes)
    size[order] = np.repeat(sizes, sizes)
    return Clusters(best, size)
