"""All records of a corpus as columns: a few dozen bytes each, judged by the rules as they are read.

Signals are looked at file by file and not held; texts are not read at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lmcore.curate.beside import Beside
from lmcore.curate.facts import FACTS, facts
from lmcore.curate.ids import Ids, heads, ids, places
from lmcore.curate.judge import Judge
from lmcore.curate.split import page_hashes
from lmcore.documents import MADE
from lmcore.freed import give_back
from storage.errors import RunError
from storage.parquet import read_parquet

Codes = NDArray[np.int16] | NDArray[np.int32]
Floats = NDArray[np.float64]

_CODED = ("source", "kind", "lang", "license")
_NEEDED = ("record_id", *_CODED, *FACTS, "words_hash", "text_id", "raw_bytes", "n_bytes")

_TYPES: dict[str, Any] = {  # of columns without rows, where it is not int64
    **dict.fromkeys(("ids", "words"), "S16"),
    **dict.fromkeys(("page", "facts", "text_id"), np.uint64),
    **dict.fromkeys(("file", "row", "n_bytes", "n_chars", "n_sentences"), np.int32),
    **dict.fromkeys((*_CODED, "rule"), np.int16),
    **dict.fromkeys(("synthetic", "made"), bool),
    **dict.fromkeys(("quality", "complexity", "value", "threshold"), np.float64),
    "unique_word_ratio": np.float32,
}


@dataclass(frozen=True)
class Part:
    """A measure artifact and which of its records are wanted: the ids as an edition names them, sorted."""

    folder: Path
    wanted: Ids

    @classmethod
    def of(cls, folder: Path, *records: pa.ChunkedArray | Sequence[str]) -> Part:
        """A part of which these record ids are wanted."""
        return cls(folder, np.unique(np.concatenate([np.zeros(0, "S16"), *map(ids, records)])))


@dataclass(frozen=True)
class Records:
    """N records, sorted by record id."""

    ids: Ids  # (N,)
    file: NDArray[np.int32]  # (N,) which of the measured files
    row: NDArray[np.int32]  # (N,) and which of its rows
    source: Codes  # (N,) index into names["source"]
    kind: Codes
    lang: Codes
    license: Codes
    synthetic: NDArray[np.bool_]
    made: NDArray[np.bool_]  # of no page: made of nothing that was collected
    page: NDArray[np.uint64]  # (N,) see `page_hashes`
    facts: NDArray[np.uint64]  # (N,) see `facts`
    words: Ids  # (N,) hash of the words
    text_id: NDArray[np.uint64]  # (N,) see `heads`
    n_bytes: NDArray[np.int32]  # (N,) Arrow has no longer strings
    n_chars: NDArray[np.int32]
    unique_word_ratio: NDArray[np.float32]
    n_sentences: NDArray[np.int32]  # as measured, before anything was cut
    quality: Floats
    complexity: Floats
    rule: NDArray[np.int16]  # (N,) index into the rules, KEPT where none failed
    value: Floats  # (N,) what the rule measured; NaN where none failed
    threshold: Floats
    names: dict[str, list[str]]  # what the codes mean, sorted
    raw_bytes: int  # of all of them, as they were collected

    def __len__(self) -> int:
        return len(self.ids)


def read_records(files: Sequence[tuple[Path, Ids]], beside: Beside, judge: Judge) -> Records:
    """The wanted records of measured files, each file with the sorted ids that are wanted of it.

    Raises RunError when a record comes twice, or when a file lacks a column.
    """
    columns = sorted({*_NEEDED, "n_chars", "unique_word_ratio", "n_sentences", *judge.measured})
    parts: list[dict[str, NDArray[np.generic]]] = []
    codes: dict[str, dict[str, int]] = {name: {} for name in _CODED}
    raw_bytes = 0
    for number, (path, wanted) in enumerate(files):
        table = read_parquet(path, columns)
        keys = ids(table["record_id"])
        rows = np.flatnonzero(places(keys, wanted) >= 0)  # not isin, which sorts all that is wanted for every file
        if len(rows) < len(keys):
            table, keys = table.take(rows), keys[rows]
        signals = {name: table[name].to_numpy() for name in judge.measured} | beside.of(keys)
        judged = judge(signals, table["kind"], table["lang"], table["license"])
        pages = table["page_of_origin"]
        parts.append(
            {
                "ids": keys,
                "file": np.full(len(rows), number, np.int32),
                "row": rows.astype(np.int32),
                **{name: _coded(table[name], codes[name]) for name in _CODED},
                "synthetic": table["synthetic"].to_numpy(),
                "made": pc.starts_with(pages, MADE).to_numpy(zero_copy_only=False),
                "page": page_hashes(pages, judge.salt),
                "facts": facts(table),
                "words": ids(table["words_hash"]),
                "text_id": heads(table["text_id"]),
                **{name: table[name].to_numpy().astype(np.int32) for name in ("n_bytes", "n_chars")},
                "unique_word_ratio": table["unique_word_ratio"].to_numpy().astype(np.float32),
                "n_sentences": table["n_sentences"].to_numpy().astype(np.int32),
                **{field.name: getattr(judged, field.name) for field in fields(judged)},
            }
        )
        raw_bytes += pc.sum(table["raw_bytes"]).as_py() or 0
        give_back()
    return _sorted(parts, codes, raw_bytes)


def _coded(column: pa.ChunkedArray, codes: dict[str, int]) -> NDArray[np.int32]:
    coded = column.combine_chunks().dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    known = np.array([codes.setdefault(name, len(codes)) for name in coded.dictionary.to_pylist()], np.int32)
    found: NDArray[np.int32] = known[coded.indices.to_numpy()] if len(coded) else np.zeros(0, np.int32)
    return found


def _sorted(
    parts: Sequence[dict[str, NDArray[np.generic]]], codes: Mapping[str, Mapping[str, int]], raw_bytes: int
) -> Records:
    """All records in order; `parts` are emptied."""
    names_of_columns = [field.name for field in fields(Records) if field.name not in ("names", "raw_bytes")]
    joined: dict[str, NDArray[Any]] = {}
    if parts:
        order = np.argsort(np.concatenate([part["ids"] for part in parts]), kind="stable")
        for name in names_of_columns:  # one after the other, so that there is no second copy of all
            joined[name] = np.concatenate([part.pop(name) for part in parts])[order]
    else:
        joined = {name: np.zeros(0, _TYPES.get(name, np.int64)) for name in names_of_columns}
    names: dict[str, list[str]] = {}
    for name in _CODED:  # in an order that does not hang on which file came first
        names[name] = sorted(codes[name])
        where = {label: number for number, label in enumerate(names[name])}
        narrow = np.int16 if len(where) <= np.iinfo(np.int16).max else np.int32
        renumbered = np.array([where[label] for label in codes[name]], narrow)
        joined[name] = renumbered[joined[name].astype(np.int64)] if len(renumbered) else joined[name]
    found = joined["ids"]
    twice = np.flatnonzero(found[1:] == found[:-1])
    if len(twice):
        again = bytes(found[twice[0]]).ljust(16, b"\0").hex()
        source = names["source"][int(joined["source"][twice[0]])]
        raise RunError(
            f"record {again} was collected twice, by source {source}",
            "list every source once in the recipe, and give each a name of its own",
        )
    return Records(**joined, names=names, raw_bytes=raw_bytes)
