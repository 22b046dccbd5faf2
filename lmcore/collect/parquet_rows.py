"""Parquet that anyone may have made, read piece by piece and never beyond a cap.

What a file says of its own size leaves out what its dictionaries are repeated to: 469 bytes may be 500 MB of text. So
what is read is counted, in pieces of few rows: one of them takes no more memory than so many of the largest value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from lmcore.collect.unpack import Member, Unreadable

# A piece of 16 costs some 5 microseconds a row, one of 256 some 3, one of 1 some 70 (texts of 2 kB).
ROWS = 16


@contextmanager
def opened_parquet(member: Member, max_bytes: int) -> Iterator[pq.ParquetFile]:
    """The file. Raises Unreadable for one that says it is larger than that unpacked, and for damage found in it."""
    try:
        with pq.ParquetFile(member.path, memory_map=True) as file:
            facts = file.metadata
            size = sum(facts.row_group(group).total_byte_size for group in range(facts.num_row_groups))
            if size > max_bytes:
                raise Unreadable("too_large", f"{size:,} bytes unpacked, more than {max_bytes:,}")
            yield file
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        # Without the path: reasons are the same wherever the file lies.
        text = (str(error).replace(str(member.path), member.name).splitlines() or ["not Parquet"])[0]
        raise Unreadable("damaged", text[:300]) from error


def batches(file: pq.ParquetFile, max_bytes: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows, a few at a time. Raises Unreadable as soon as they are more than `max_bytes` together."""
    left = max_bytes
    for batch in file.iter_batches(ROWS, columns=None if columns is None else list(columns)):
        left -= batch.nbytes
        if left < 0:
            raise Unreadable("too_large", f"more than {max_bytes:,} bytes unpacked")
        yield batch


def row_count(member: Member) -> int:
    """The rows that the file says it has. Raises Unreadable."""
    with opened_parquet(member, 2**63) as file:
        return int(file.metadata.num_rows)
