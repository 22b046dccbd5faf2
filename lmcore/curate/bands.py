"""The band index: 128 bytes a text, one Parquet file beside each file of measured texts, row for row."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lmcore.curate.minhash import BANDS, BINS
from storage.errors import RunError
from storage.parquet import DAMAGE, parquet_facts, read_parquet, write_parquet

INDEX = pa.schema(
    [
        pa.field("words_hash", pa.binary(16), nullable=False),  # xxh3-128 of the words: equal for exact copies
        pa.field("keys", pa.binary(BINS), nullable=False),  # 28 little-endian uint32, one a band
    ]
)
"""One row a text, in the order of its measured file."""


@dataclass(frozen=True)
class Part:
    """One shard: its rows of INDEX, and the file with the same rows' `record_id` and `text`."""

    bands: Path
    measured: Path
    only: NDArray[np.int64] | None = None  # the rows that are meant, sorted; None: all

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of `rows` (sorted) that are meant."""
        return rows if self.only is None else np.intersect1d(rows, self.only)


def write_bands(path: Path, words_hashes: Sequence[str], keys: NDArray[np.uint32]) -> None:
    """Write T rows: `words_hashes` (T) of 32 hex digits, `keys` (T, 28) from `minhash.band_keys`."""
    rows = len(words_hashes)
    digests = pa.py_buffer(bytes.fromhex("".join(words_hashes)))
    packed = pa.py_buffer(np.ascontiguousarray(keys, "<u4").tobytes())
    columns = [
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), rows, [None, digests]),
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(BINS), rows, [None, packed]),
    ]
    write_parquet(path, pa.table(columns, schema=INDEX))


def read_bands(path: Path) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Words hashes (T, 2), compared as bytes, and band keys (T, 28). Raises RunError for a file of another form."""
    table = _read(path, INDEX)
    return _digests(table), _bytes(table["keys"], BINS).view("<u4").reshape(table.num_rows, BANDS)


def read_words_hashes(path: Path) -> NDArray[np.uint64]:
    """Words hashes (T, 2) alone, compared as bytes. Raises RunError for a file of another form."""
    return _digests(_read(path, pa.schema([INDEX.field("words_hash")]), ["words_hash"]))


def require_rows(part: Part) -> None:
    """Raise RunError when the band index of a shard has not a row for each of its texts."""
    rows, texts = parquet_facts(part.bands).num_rows, parquet_facts(part.measured).num_rows
    if rows != texts:
        raise RunError(
            f"{part.bands} has {rows:,} rows and {part.measured} has {texts:,}: they are of the same texts, row by row",
            "run `collect-train verify`; it sets damaged artifacts aside and the next run rebuilds them",
        )


def read_rows(path: Path, column: str, rows: NDArray[np.signedinteger]) -> pa.Array:
    """One string column of some rows (sorted) of a measured file; only the row groups that hold them are read."""
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
            bounds = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
            cuts = np.searchsorted(rows, bounds)
            pieces = [
                file.read_row_group(i, columns=[column])[column].combine_chunks().take(rows[low:high] - bounds[i])
                for i, (low, high) in enumerate(itertools.pairwise(cuts))
                if high > low
            ]
            for piece in pieces:
                piece.validate(full=True)  # text that is not UTF-8
    except (*DAMAGE, KeyError) as error:
        raise RunError(
            f"cannot read the column {column} of {path}: {str(error).splitlines()[0]}",
            "run `collect-train verify`; it sets damaged artifacts aside and the next run rebuilds them",
        ) from error
    return pa.concat_arrays(pieces).cast(pa.large_string()) if pieces else pa.array([], pa.large_string())


def _read(path: Path, wanted: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    table = read_parquet(path, columns)
    if not table.schema.equals(wanted):
        raise RunError(
            f"{path} is no band index of this version",
            "run `collect-train verify`; it sets damaged artifacts aside and the next run rebuilds them",
        )
    return table


def _digests(table: pa.Table) -> NDArray[np.uint64]:
    return _bytes(table["words_hash"], 16).view(">u8").astype(np.uint64).reshape(table.num_rows, 2)


def _bytes(column: pa.ChunkedArray, width: int) -> NDArray[np.uint8]:
    pieces = [
        np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * width, chunk.offset * width)
        for chunk in column.chunks
        if len(chunk)
    ]
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces) if pieces else np.empty(0, np.uint8)
