"""First half of curation: normalise and measure every text once, shard by shard, each kept as soon as it is known.

A shard is a slice of one collected artifact. What is measured of a text depends on that text alone, so where the
slices are cut changes nothing but how much work a kill can lose.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lmcore.curate.duplicates import words_hash
from lmcore.curate.normalise import normalise, text_id
from lmcore.curate.signals import SIGNALS, signals
from lmcore.documents import DOCUMENT, TURN, validate
from lmcore.progress import Report
from storage.atomic import disk_errors, fault, fsync_path
from storage.digest import digest_json
from storage.parquet import write_parquet

# Measured fastest on text of Latin script: the arrays of one batch stay in the processor's cache.
_BATCH_CHARS = 1_000_000
_MAX_SHARD_ROWS = 5_000

_TAKEN = ("record_id", "source", "url", "title", "kind", "lang", "license", "synthetic", "page_of_origin")

MEASURED = pa.schema(
    [
        *(DOCUMENT.field(name) for name in _TAKEN),
        DOCUMENT.field("turns"),
        pa.field("text", pa.string(), nullable=False),  # normalised
        pa.field("text_id", pa.string(), nullable=False),
        pa.field("words_hash", pa.string(), nullable=False),
        pa.field("raw_bytes", pa.int64(), nullable=False),  # UTF-8 bytes of the raw text
        pa.field("n_bytes", pa.int64(), nullable=False),  # and of the normalised one
        *(pa.field(name, pa.float64(), nullable=False) for name in SIGNALS),
    ]
)
"""One row a record: what later steps need of it, and every signal as a column."""


def measure_all(
    work: Path,
    collected: Sequence[Path],
    load: Callable[[Path], pa.Table],
    *,
    shard_bytes: int,
    report: Report,
) -> list[Path]:
    """Write one MEASURED file a shard under `work/measured` and give their paths; finished ones are not done again.

    `load` gives a collected folder's DOCUMENT rows. Raises RunError naming the folder whose rows are not valid.
    """
    files = []
    for number, folder in enumerate(collected):
        documents = validate(load(folder), DOCUMENT, str(folder))
        for start, rows in shard_bounds(_text_bytes(documents), shard_bytes):
            shard = documents.slice(start, rows)
            # named by what is in it: neither another order of folders nor another shard size can mix shards up
            file = work / "measured" / f"{digest_json(shard['record_id'].to_pylist())[:32]}.parquet"
            if not file.exists():
                _write_whole(file, measure(shard))
                fault("curate.shard")
            files.append(file)
            done = (start + rows) / documents.num_rows
            note = (
                f"measured {start + rows:,} of {documents.num_rows:,} records, source {number + 1} of {len(collected)}"
            )
            report(number + done, len(collected), note)
    return files


def measure(documents: pa.Table) -> pa.Table:
    """MEASURED rows of DOCUMENT rows, in the same order."""
    texts = [normalise(text) for text in documents["text"].to_pylist()]
    langs, kinds = documents["lang"].to_pylist(), documents["kind"].to_pylist()
    parts = [signals(texts[cut], langs[cut], kinds[cut]) for cut in _batches(texts)]
    columns = {name: documents[name] for name in _TAKEN}
    columns["turns"] = _normalised_turns(documents["turns"])
    columns["text"] = pa.array(texts, pa.string())
    columns["text_id"] = pa.array([text_id(text) for text in texts], pa.string())
    columns["words_hash"] = pa.array([words_hash(text) for text in texts], pa.string())
    columns["raw_bytes"] = pa.array(_text_bytes(documents))
    columns["n_bytes"] = pc.binary_length(columns["text"]).cast(pa.int64())
    for name in SIGNALS:
        columns[name] = pa.array(np.concatenate([part[name] for part in parts]) if parts else np.zeros(0))
    return pa.table(columns, schema=MEASURED)


def shard_bounds(sizes: NDArray[np.int64], limit: int) -> Iterator[tuple[int, int]]:
    """Cut N rows of `sizes` bytes into (start, rows) of at most `limit` bytes (one row at least) and 5,000 rows."""
    start = 0
    total = 0
    for row, size in enumerate(sizes.tolist()):
        if row > start and (total + size > limit or row - start == _MAX_SHARD_ROWS):
            yield start, row - start
            start, total = row, 0
        total += size
    if len(sizes) > start:
        yield start, len(sizes) - start


def _batches(texts: Sequence[str]) -> Iterator[slice]:
    for start, rows in shard_bounds(np.fromiter(map(len, texts), np.int64, len(texts)), _BATCH_CHARS):
        yield slice(start, start + rows)


def _text_bytes(documents: pa.Table) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = pc.binary_length(documents["text"]).cast(pa.int64()).to_numpy()
    return lengths


def _normalised_turns(turns: pa.ChunkedArray) -> pa.ChunkedArray:
    if turns.null_count == len(turns):
        return turns
    rows = [
        None if row is None else [{"role": turn["role"], "text": normalise(turn["text"])} for turn in row]
        for row in turns.to_pylist()
    ]
    return pa.chunked_array([pa.array(rows, pa.list_(TURN))])


def _write_whole(file: Path, table: pa.Table) -> None:
    """The file appears complete or not at all: a resumed run trusts whatever is there."""
    part = file.with_suffix(".part")
    write_parquet(part, table)
    with disk_errors(file):
        fsync_path(part)
        os.replace(part, file)
