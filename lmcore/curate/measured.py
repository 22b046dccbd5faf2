"""What is known of a text by itself: the row that `measure` leaves for every collected text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from lmcore.curate.normalise import normalise, text_id
from lmcore.curate.params import MeasureParams
from lmcore.curate.signals import SIGNALS, signals
from lmcore.documents import DOCUMENT, TURN

# Measured fastest on text of Latin script: the arrays of one batch stay in the processor's cache.
_BATCH_CHARS = 1_000_000
_MAX_ROWS = 5_000

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
"""One row a record: what later stages need of it, and every signal as a column."""


def words_hash(normalised: str) -> str:
    """xxh3-128 (32 hex digits) of the lower-case words of a normalised text, one space between them."""
    return xxhash.xxh3_128_hexdigest(" ".join(normalised.lower().split()).encode())


def measure(documents: pa.Table, params: MeasureParams) -> pa.Table:
    """MEASURED rows of DOCUMENT rows, in the same order; each depends on its own document alone."""
    texts = [normalise(text) for text in documents["text"].to_pylist()]
    parts = [signals(batch) for batch in _batches(texts)]
    columns = {name: documents[name] for name in _TAKEN}
    columns["turns"] = _normalised_turns(documents["turns"])
    columns["text"] = pa.array(texts, pa.string())
    columns["text_id"] = pa.array([text_id(text) for text in texts], pa.string())
    columns["words_hash"] = pa.array([words_hash(text) for text in texts], pa.string())
    columns["raw_bytes"] = pa.array(text_bytes(documents))
    columns["n_bytes"] = pc.binary_length(columns["text"]).cast(pa.int64())
    for name in SIGNALS:
        columns[name] = pa.array(np.concatenate([part[name] for part in parts]) if parts else np.zeros(0))
    return pa.table(columns, schema=MEASURED)


def bounds(sizes: NDArray[np.int64], limit: int) -> Iterator[tuple[int, int]]:
    """Cut N rows of `sizes` bytes into (start, rows) of at most `limit` bytes (one row at least) and 5,000 rows."""
    start = 0
    total = 0
    for row, size in enumerate(sizes.tolist()):
        if row > start and (total + size > limit or row - start == _MAX_ROWS):
            yield start, row - start
            start, total = row, 0
        total += size
    if len(sizes) > start:
        yield start, len(sizes) - start


def text_bytes(documents: pa.Table) -> NDArray[np.int64]:
    """UTF-8 bytes of every text."""
    lengths: NDArray[np.int64] = pc.binary_length(documents["text"]).cast(pa.int64()).to_numpy()
    return lengths


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start, rows in bounds(np.fromiter(map(len, texts), np.int64, len(texts)), _BATCH_CHARS):
        yield texts[start : start + rows]


def _normalised_turns(turns: pa.ChunkedArray) -> pa.ChunkedArray:
    if turns.null_count == len(turns):
        return turns
    rows = [
        None if row is None else [{"role": turn["role"], "text": normalise(turn["text"])} for turn in row]
        for row in turns.to_pylist()
    ]
    return pa.chunked_array([pa.array(rows, pa.list_(TURN))])
