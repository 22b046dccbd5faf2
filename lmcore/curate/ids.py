"""Record ids and hashes as 16 bytes each: columns of 32 hex digits that fit into memory by the million."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ids = NDArray[np.bytes_]  # (N,) S16


def ids(column: pa.ChunkedArray | pa.Array | Iterable[str]) -> Ids:
    """The 16 bytes of each of N strings of 32 hex digits. Raises ValueError when one is something else."""
    texts = column.to_pylist() if isinstance(column, (pa.ChunkedArray, pa.Array)) else list(column)
    data = bytes.fromhex("".join(texts))
    if len(data) != 16 * len(texts) or any(len(text) != 32 for text in texts):
        raise ValueError("not every id has 32 hex digits")
    return np.frombuffer(data, "S16")


def hexes(found: Ids) -> pa.Array:
    """Ids as strings of 32 hex digits."""
    data = found.astype("S16").tobytes().hex().encode()
    offsets = np.arange(len(found) + 1, dtype=np.int64) * 32
    whole = pa.LargeStringArray.from_buffers(len(found), pa.py_buffer(offsets), pa.py_buffer(data))
    return whole.cast(pa.string())


def places(of: Ids, among: Ids) -> NDArray[np.int64]:
    """Where each id stands in the sorted ids `among`; -1 where it does not."""
    if not len(among):
        return np.full(len(of), -1, np.int64)
    found = np.minimum(np.searchsorted(among, of), len(among) - 1)
    return np.where(among[found] == of, found, -1).astype(np.int64)
