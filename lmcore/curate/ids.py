"""Record ids and hashes as 16 bytes each: columns of 32 hex digits that fit into memory by the million."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ids = NDArray[np.bytes_]  # (N,) S16


def ids(column: pa.ChunkedArray | pa.Array | Iterable[str]) -> Ids:
    """The 16 bytes of each of N strings of 32 hex digits. Raises ValueError when one is something else."""
    if isinstance(column, pa.ChunkedArray):
        return _joined([_of_array(chunk) for chunk in column.chunks])
    if isinstance(column, pa.Array):
        return _of_array(column)
    return _of_array(pa.array(list(column), pa.string()))


def _of_array(column: pa.Array) -> Ids:
    # one string of all digits, which Arrow joins, and no Python string for every id
    if len(column) and (column.null_count or not pc.all(pc.equal(pc.binary_length(column), 32)).as_py()):
        raise ValueError("not every id has 32 hex digits")
    ends = pa.array([0, len(column)], pa.int32())
    digits = pc.binary_join(pa.ListArray.from_arrays(ends, column.cast(pa.string())), "")
    data = bytes.fromhex(digits[0].as_py())
    if len(data) != 16 * len(column):  # white space between digits is passed over
        raise ValueError("not every id has 32 hex digits")
    return np.frombuffer(data, "S16")


def heads(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """The first 8 of the 16 bytes of each of N strings of 32 hex digits: enough to say whether one text is another."""
    return np.frombuffer(ids(column).tobytes(), np.uint64)[::2].copy()


def digests(column: pa.ChunkedArray) -> Ids:
    """The values of a column of 16 bytes each, none of them null."""
    return _joined(
        [
            np.frombuffer(chunk.buffers()[1], "S16", len(chunk), 16 * chunk.offset)
            for chunk in column.chunks
            if len(chunk)
        ]
    ).copy()  # the buffer may be a whole file's


def _joined(parts: list[Ids]) -> Ids:
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, "S16"), *parts])


def hexes(found: Ids) -> pa.Array:
    """Ids as strings of 32 hex digits."""
    data = found.astype("S16").tobytes().hex().encode()
    offsets = np.arange(len(found) + 1, dtype=np.int64) * 32
    whole = pa.LargeStringArray.from_buffers(len(found), pa.py_buffer(offsets), pa.py_buffer(data))
    return whole.cast(pa.string())


def places(of: NDArray[np.generic], among: NDArray[np.generic]) -> NDArray[np.int64]:
    """Where each id, or number, stands in the sorted ones `among`; -1 where it does not."""
    if not len(among):
        return np.full(len(of), -1, np.int64)
    found = np.minimum(np.searchsorted(among, of), len(among) - 1)
    return np.where(among[found] == of, found, -1).astype(np.int64)
