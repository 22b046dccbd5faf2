"""What is known of a text by itself: the row that `measure` leaves for every collected text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lmcore.curate.exact import words_hashes
from lmcore.curate.language import languages, resolve, same_language
from lmcore.curate.names import AMHARIC, LANGUAGE, SAFETY, SHAPE
from lmcore.curate.normalise import text_id
from lmcore.curate.params import MeasureParams
from lmcore.curate.privacy import blank_all, mask
from lmcore.curate.signals import SIGNALS, signals
from lmcore.curate.signals_ethiopic import ethiopic_counts
from lmcore.curate.spelling import clean_all, normalise_all, spell_all
from lmcore.curate.stop_words import stop_words
from lmcore.curate.toxicity import has_list as offensive_words
from lmcore.curate.toxicity import toxicity
from lmcore.documents import DOCUMENT, TURN

_MAX_ROWS = 5_000

_TAKEN = ("record_id", "source", "url", "title", "kind", "license", "synthetic", "page_of_origin")

MEASURED_SIGNALS: dict[str, str] = {**SIGNALS, **SHAPE, **LANGUAGE, **SAFETY, **AMHARIC}
"""Name and meaning of every signal of a text by itself, in stored order."""

MEASURED = pa.schema(
    [
        *(DOCUMENT.field(name) for name in _TAKEN),  # title masked as the text is, url masked in any case
        DOCUMENT.field("lang"),  # as declared; where that is unknown, as found
        DOCUMENT.field("turns"),
        pa.field("text", pa.string(), nullable=False),  # normalised and masked
        pa.field("text_id", pa.string(), nullable=False),
        pa.field("words_hash", pa.string(), nullable=False),
        pa.field("raw_bytes", pa.int64(), nullable=False),  # UTF-8 bytes of the raw text
        pa.field("n_bytes", pa.int64(), nullable=False),  # and of `text`
        pa.field("lang_found", pa.string(), nullable=False),  # und where there was nothing to go by
        pa.field("lang_top", pa.map_(pa.string(), pa.float64()), nullable=False),  # up to three, best first
        *(pa.field(name, pa.float64(), nullable=False) for name in MEASURED_SIGNALS),
    ]
)
"""One row a record: what later stages need of it, and every signal as a column; NaN where it means nothing."""


def measure(documents: pa.Table, params: MeasureParams) -> pa.Table:
    """MEASURED rows of DOCUMENT rows, in the same order; each depends on its own document alone."""
    declared = documents["lang"].to_pylist()
    plain = clean_all(documents["text"].to_pylist(), params.normalise)
    found = languages(plain, params.language)
    langs = resolve(declared, found, params.language)
    masked = mask(spell_all(plain, langs, params.normalise), params.privacy)
    texts = masked.texts
    columns: dict[str, Any] = {name: documents[name] for name in _TAKEN}
    columns["url"] = pa.array(blank_all(documents["url"].to_pylist()), pa.string())
    columns["title"] = pa.array(mask(documents["title"].to_pylist(), params.privacy).texts, pa.string())
    columns["lang"] = pa.array(langs, pa.string())
    columns["turns"] = _turns(documents["turns"], langs, params)
    columns["text"] = pa.array(texts, pa.string())
    columns["text_id"] = pa.array([text_id(text) for text in texts], pa.string())
    columns["words_hash"] = pa.array(words_hashes(texts), pa.string())
    columns["raw_bytes"] = pa.array(text_bytes(documents))
    columns["n_bytes"] = pc.binary_length(columns["text"]).cast(pa.int64())
    columns["lang_found"] = pa.array(found.lang, pa.string())
    columns["lang_top"] = pa.array([list(top) for top in found.top], MEASURED.field("lang_top").type)
    of_text = signals(texts, langs, documents["kind"].to_pylist())
    listed = [bool(stop_words(lang)) for lang in langs]
    columns |= of_text | _known({name: of_text[name] for name in ("stop_words", "stop_word_share")}, listed)
    columns |= {name: count.astype(np.float64) for name, count in masked.counts.items()}
    columns |= _known(toxicity(texts, langs), [bool(offensive_words(lang)) for lang in langs])
    columns |= ethiopic_counts(texts)
    columns["lang_score"] = np.array([_score_of(lang, top) for lang, top in zip(langs, found.top, strict=True)])
    columns["expected_share"] = found.expected_share if params.language.expected else np.full(len(texts), np.nan)
    turns = pc.list_value_length(documents["turns"]).cast(pa.float64())
    columns["n_turns"] = pc.fill_null(turns, float("nan"))
    for name in MEASURED_SIGNALS:
        columns[name] = np.round(np.asarray(columns[name], np.float64), 6)
    return pa.table({name: columns[name] for name in MEASURED.names}, schema=MEASURED)


def bounds(sizes: NDArray[np.integer[Any]], limit: int, most_rows: int = _MAX_ROWS) -> Iterator[tuple[int, int]]:
    """Cut N rows of `sizes` bytes into (start, rows) of at most `limit` bytes (one row at least) and so many rows."""
    start = 0
    total = 0
    for row, size in enumerate(sizes.tolist()):
        if row > start and (total + size > limit or row - start == most_rows):
            yield start, row - start
            start, total = row, 0
        total += size
    if len(sizes) > start:
        yield start, len(sizes) - start


def text_bytes(documents: pa.Table) -> NDArray[np.int64]:
    """UTF-8 bytes of every text."""
    lengths: NDArray[np.int64] = pc.binary_length(documents["text"]).cast(pa.int64()).to_numpy()
    return lengths


def _known(columns: dict[str, NDArray[np.float64]], known: list[bool]) -> dict[str, NDArray[np.float64]]:
    """The columns with NaN where nothing is known: a language without a list."""
    return {name: np.where(known, column, np.nan) for name, column in columns.items()}


def _score_of(lang: str, top: Sequence[tuple[str, float]]) -> float:
    """How sure it is that a text is in its own language."""
    return max((score for found, score in top if same_language(found, lang)), default=0.0)


def _turns(turns: pa.ChunkedArray, langs: Sequence[str], params: MeasureParams) -> pa.ChunkedArray:
    """Turns, spelled and masked as their texts are."""
    if turns.null_count == len(turns):
        return turns
    rows = turns.to_pylist()
    said = [turn["text"] for row in rows if row is not None for turn in row]
    of = [lang for row, lang in zip(rows, langs, strict=True) if row is not None for _ in row]
    clean = iter(mask(normalise_all(said, of, params.normalise), params.privacy).texts)
    made = [None if row is None else [{"role": turn["role"], "text": next(clean)} for turn in row] for row in rows]
    return pa.chunked_array([pa.array(made, pa.list_(TURN))])
