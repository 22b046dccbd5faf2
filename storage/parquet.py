"""Parquet with pinned settings: equal tables give equal bytes, and a damaged file says its name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.atomic import disk_errors, fault, fsync_path
from storage.errors import RunError

ROWS_PER_GROUP = 10_000
_SETTINGS: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": False,
    "write_statistics": True,
    "version": "2.6",
    "data_page_version": "1.0",
}
PIECE_ROWS = 1024  # Arrow looks after every so many whether a page is full
DAMAGE = (OSError, ValueError, pa.ArrowException)  # ValueError: names that are no UTF-8


def write_parquet(path: Path, table: pa.Table, rows_per_group: int = ROWS_PER_GROUP) -> None:
    """Write `table` with fixed row groups, zstd level 3 and no volatile metadata."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fault("parquet.write")
        pq.write_table(table.combine_chunks(), path, row_group_size=rows_per_group, **_SETTINGS)


def replace_parquet(path: Path, table: pa.Table, rows_per_group: int = ROWS_PER_GROUP) -> None:
    """Like `write_parquet`, and the file appears complete or not at all: a resumed run can trust whatever is there."""
    part = path.with_name(f".{path.name}.part")
    write_parquet(part, table, rows_per_group)
    with disk_errors(path):
        fsync_path(part)
        os.replace(part, path)


def write_groups(path: Path, schema: pa.Schema, groups: Iterable[pa.Table]) -> None:
    """The same bytes as `write_parquet` of all `groups` in one, holding one of them at a time.

    All but the last have a multiple of ROWS_PER_GROUP rows; one that has less becomes a row group by itself. A group
    may consist of chunks, of which all but its last have a multiple of PIECE_ROWS rows: so pages end where they would.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fault("parquet.write")
        with pq.ParquetWriter(path, schema, **_SETTINGS) as file:
            for group in groups:
                file.write_table(group, row_group_size=ROWS_PER_GROUP)
                del group  # before the next one is made


def stream_parquet(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Like `write_parquet` of all `tables` in one, without holding more than one of them and a row group.

    The same rows give the same bytes however they are cut into tables.
    """
    write_groups(path, schema, regrouped(schema, tables))


def regrouped(schema: pa.Schema, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of `tables`, cut into tables as `write_groups` wants them."""
    held, told = schema.empty_table(), 0
    for table in tables:
        held = pa.concat_tables([held, table.cast(schema)])
        whole = held.num_rows - held.num_rows % ROWS_PER_GROUP
        if whole:
            yield held.slice(0, whole).combine_chunks()
            held, told = held.slice(whole).combine_chunks(), told + whole
    if held.num_rows or not told:
        yield held.combine_chunks()


def replace_groups(path: Path, schema: pa.Schema, groups: Iterable[pa.Table]) -> None:
    """Like `write_groups`, and the file appears complete or not at all."""
    part = path.with_name(f".{path.name}.part")
    write_groups(part, schema, groups)
    with disk_errors(path):
        fsync_path(part)
        os.replace(part, path)


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a whole file. Raises RunError naming the file when it is missing, truncated, not Parquet, lacks a column or
    holds text that is not UTF-8.
    """
    try:
        table = pq.read_table(path, columns=columns, memory_map=True)
        table.validate(full=True)  # some 4 GB/s: bytes that are no UTF-8 would be met much later, far from the file
        return table
    except DAMAGE as error:
        raise _unreadable(path, error) from error


def batches(path: Path, columns: list[str] | None = None, rows: int = 1000) -> Iterator[pa.RecordBatch]:
    """Stream a file without holding it in memory. Raises RunError like `read_parquet`."""
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            if missing := set(columns or ()) - set(file.schema_arrow.names):
                raise pa.ArrowInvalid(f"there is no column {min(missing)}")
            for batch in file.iter_batches(batch_size=rows, columns=columns):
                batch.validate(full=True)
                yield batch
    except DAMAGE as error:
        raise _unreadable(path, error) from error


def read_rows(path: Path, rows: NDArray[np.integer[Any]], columns: list[str], most: int) -> Iterator[pa.Table]:
    """Some rows of a file, which ascend, in tables: as many row groups in one as have `most` bytes, one at least.

    Groups without such a row are passed over. Raises RunError like `read_parquet`.
    """
    held: list[pa.Table] = []
    size = first = 0
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            if missing := set(columns) - set(file.schema_arrow.names):
                raise pa.ArrowInvalid(f"there is no column {min(missing)}")
            for group in range(file.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                low, high = np.searchsorted(rows, (first, last))
                if low < high:
                    table = file.read_row_group(group, columns=columns)
                    table.validate(full=True)
                    if high - low < table.num_rows:
                        table = table.take(pa.array(rows[low:high] - first))
                    if held and size + table.nbytes > most:
                        yield pa.concat_tables(held)
                        held, size = [], 0
                    held.append(table)
                    size += table.nbytes
                    del table
                first = last
            if held:
                yield pa.concat_tables(held)
    except DAMAGE as error:
        raise _unreadable(path, error) from error


def take_rows(path: Path, rows: NDArray[np.integer[Any]], columns: list[str]) -> pa.Table:
    """Some rows of a file, in the order of `rows`, none twice; holds no others but those of one row group.

    Raises RunError like `read_parquet`.
    """
    order = np.argsort(rows)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    held = pa.concat_tables(read_rows(path, rows[order], columns, 0)).combine_chunks()
    return held.take(pa.array(place))


def parquet_facts(path: Path) -> pq.FileMetaData:
    """What a file says of itself: rows, row groups, metadata. Raises RunError like `read_parquet`."""
    try:
        return pq.read_metadata(path, memory_map=True)
    except DAMAGE as error:
        raise _unreadable(path, error) from error


def read_between(path: Path, column: str, low: int, last: int, columns: list[str]) -> pa.Table:
    """The row groups whose values of `column` may lie from `low` to `last`; all of them where the file does not say.

    Raises RunError like `read_parquet`.
    """
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            names = file.schema_arrow.names
            if missing := {column, *columns} - set(names):
                raise pa.ArrowInvalid(f"there is no column {min(missing)}")
            wanted = []
            for group in range(file.num_row_groups):
                found = file.metadata.row_group(group).column(names.index(column)).statistics
                if found is None or not found.has_min_max or (found.min <= last and found.max >= low):
                    wanted.append(group)
            table = file.read_row_groups(wanted, columns=columns)
            table.validate(full=True)
            return table
    except DAMAGE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> RunError:
    return RunError(
        f"cannot read the Parquet file {path}: {_reason(error)}",
        "run `collect-train verify`; it sets damaged artifacts aside and the next run rebuilds them",
    )


def _reason(error: Exception) -> str:
    """Its first line, with a missing column in plain words."""
    line = str(error).splitlines()[0]
    missing = re.match(r"No match for FieldRef\.Name\((.*?)\)", line)
    return f"there is no column {missing[1]}" if missing else line
