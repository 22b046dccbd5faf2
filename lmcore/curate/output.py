"""What curation leaves: split files, decisions and figures, in one canonical order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.decide import Decided
from lmcore.curate.gates import Gate
from lmcore.curate.measure import MEASURED, shard_bounds
from lmcore.curate.signals import SIGNALS
from lmcore.documents import CURATED, DECISION, FORGOTTEN, SPLITS, validate
from storage.parquet import write_parquet

MAX_FILE_BYTES = 256 << 20  # of text: an Arrow string column cannot hold 2 GiB


def write_splits(out: Path, shards: Sequence[pa.Table], measured: pa.Table, decided: Decided) -> None:
    """Write `SPLIT/00000.parquet`... (CURATED, sorted by record id); a split without texts has one empty file.

    `measured` is sorted by record id and says in its columns shard and row where each text lies in `shards`.
    """
    sizes = measured["n_bytes"].to_numpy()
    for index, name in enumerate(SPLITS):
        chosen = np.flatnonzero(decided.kept & (decided.split == index))
        for number, part in enumerate(_cut(chosen, sizes)):
            table = _curated(shards, measured.take(part), decided, part)
            write_parquet(
                out / name / f"{number:05d}.parquet", validate(table, CURATED, f"{name}/{number:05d}.parquet")
            )


def with_forgotten(decided: Decided, dropped: pa.Table) -> Decided:
    """`decided` with a decision on every DOCUMENT row that was dropped unmeasured, because it is forgotten."""
    if not dropped.num_rows:
        return decided
    facts = {
        "verdict": ["dropped"] * dropped.num_rows,
        "rule": [FORGOTTEN] * dropped.num_rows,
        **{name: dropped[name] for name in ("record_id", "source", "url")},
    }
    rows = pa.table(
        {field.name: facts.get(field.name, pa.nulls(dropped.num_rows, field.type)) for field in DECISION},
        schema=DECISION,
    )
    decisions = pa.concat_tables([decided.decisions, rows]).sort_by("record_id")
    return replace(decided, decisions=decisions, rules=(*decided.rules, FORGOTTEN))


def write_decisions(out: Path, decided: Decided) -> Path:
    """Write `decisions.parquet`, one row a record, sorted by record id."""
    file = out / "decisions.parquet"
    write_parquet(file, validate(decided.decisions, DECISION, file.name))
    return file


def gate_values(measured: pa.Table, decided: Decided) -> dict[str, float]:
    """The figure each data gate looks at."""
    kept, side = decided.kept, decided.split
    n_bytes = measured["n_bytes"].to_numpy()
    ratios = measured["unique_word_ratio"].to_numpy()[kept]
    train, val, test = (kept & (side == index) for index in range(len(SPLITS)))
    records = measured.num_rows
    return {
        "min_documents": int(kept.sum()),
        "min_train_bytes": int(n_bytes[train].sum()),
        "min_val_documents": int(val.sum()),
        "min_test_documents": int(test.sum()),
        "min_unique_word_ratio": round(float(np.median(ratios)), 6) if len(ratios) else 0.0,
        "max_dropped_share": round(float(records - kept.sum()) / max(1, records), 6),
    }


def statistics(measured: pa.Table, decided: Decided, gates: Sequence[Gate]) -> dict[str, Any]:
    """The content of stats.json; quality deciles are of texts kept, and [] when there is none."""
    kept = decided.kept
    n_bytes = measured["n_bytes"].to_numpy()
    quality = decided.quality[kept]
    applied = decided.decisions["rule"].to_pylist()
    return {
        "input": {"records": measured.num_rows, "bytes": int(measured["raw_bytes"].to_numpy().sum())},
        "kept": {"records": int(kept.sum()), "bytes": int(n_bytes[kept].sum())},
        "splits": {
            name: {
                "documents": int((kept & (decided.split == index)).sum()),
                "bytes": int(n_bytes[kept & (decided.split == index)].sum()),
            }
            for index, name in enumerate(SPLITS)
        },
        "rules": {rule: applied.count(rule) for rule in decided.rules},
        "sources": _groups(measured["source"].to_pylist(), kept, n_bytes),
        "languages": _groups(measured["lang"].to_pylist(), kept, n_bytes),
        "quality": {
            "deciles": np.round(np.quantile(quality, np.linspace(0, 1, 11)), 2).tolist() if len(quality) else []
        },
        "gates": [gate.to_json() for gate in gates],
    }


def _groups(labels: Sequence[str], kept: NDArray[np.bool_], n_bytes: NDArray[np.int64]) -> dict[str, dict[str, int]]:
    """Records in, records kept and their bytes, for each label."""
    groups = {label: {"records": 0, "kept": 0, "bytes": 0} for label in sorted(set(labels))}
    for label, stays, size in zip(labels, kept.tolist(), n_bytes.tolist(), strict=True):
        groups[label]["records"] += 1
        if stays:
            groups[label]["kept"] += 1
            groups[label]["bytes"] += size
    return groups


def _cut(chosen: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of each output file; one empty file for an empty split."""
    bounds = list(shard_bounds(sizes[chosen], MAX_FILE_BYTES)) or [(0, 0)]
    return [chosen[start : start + rows] for start, rows in bounds]


def _curated(shards: Sequence[pa.Table], measured: pa.Table, decided: Decided, part: NDArray[np.int64]) -> pa.Table:
    """CURATED rows of one file; `measured` holds the rows `part` of the whole."""
    heavy = _gather(shards, measured["shard"].to_numpy(), measured["row"].to_numpy())
    count = len(part)
    items = np.stack([measured[name].to_numpy() for name in SIGNALS], axis=1).reshape(-1)  # (count * signals,)
    offsets = np.arange(count + 1, dtype=np.int32) * len(SIGNALS)
    keys = pa.array(list(SIGNALS) * count, pa.string())
    taken = {name: measured[name] for name in CURATED.names if name in measured.column_names}
    columns = taken | {
        "text": heavy["text"],
        "title": heavy["title"],
        "turns": heavy["turns"],
        "quality": pa.array(decided.quality[part]),
        "complexity": pa.array(decided.complexity[part]),
        "cluster_id": measured["record_id"],
        "cluster_size": pa.array(decided.cluster_size[part]),
        "signals": pa.MapArray.from_arrays(offsets, keys, pa.array(items)),
    }
    return pa.table({name: columns[name] for name in CURATED.names}, schema=CURATED)


def _gather(shards: Sequence[pa.Table], shard: NDArray[np.int64], row: NDArray[np.int64]) -> pa.Table:
    """Rows of many tables in the order asked for, touching each table once."""
    if not len(shard):
        return MEASURED.empty_table()
    order = np.argsort(shard, kind="stable")
    numbers, first = np.unique(shard[order], return_index=True)
    pieces = [shards[number].take(row[rows]) for number, rows in zip(numbers, np.split(order, first[1:]), strict=True)]
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return pa.concat_tables(pieces).combine_chunks().take(back)
