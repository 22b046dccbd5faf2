"""What curation tells of itself: stats.json, the values that gates look at, and a decision on every record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lmcore.curate.decide import NOBODY, Decided
from lmcore.curate.gates import Gate
from lmcore.curate.ids import hexes, ids
from lmcore.curate.records import Records
from lmcore.curate.rules import KEPT
from lmcore.documents import DECISION, FORGOTTEN, SPLITS, validate
from storage.parquet import ROWS_PER_GROUP, read_parquet, write_groups


def write_decisions(path: Path, files: Sequence[Path], records: Records, decided: Decided, forgotten: pa.Table) -> None:
    """Write one DECISION row for every record and every forgotten one, sorted by record id."""
    urls = _urls(files, records)
    gone = ids(forgotten["record_id"])
    order = np.argsort(np.concatenate((records.ids, gone)), kind="stable")
    count = len(records)

    def groups() -> Iterator[pa.Table]:
        for first in range(0, len(order), ROWS_PER_GROUP):
            some = order[first : first + ROWS_PER_GROUP]
            judged, left_out = some[some < count], some[some >= count] - count
            table = _decisions(judged, urls, records, decided)
            if len(left_out):
                table = pa.concat_tables([table, _forgotten(forgotten.take(pa.array(left_out)))]).sort_by("record_id")
            yield validate(table.combine_chunks(), DECISION, path.name)

    write_groups(path, DECISION, groups())


def _decisions(which: NDArray[np.int64], urls: pa.Array, records: Records, decided: Decided) -> pa.Table:
    """DECISION rows of these records."""
    kept = decided.rule[which] == KEPT
    sources = pa.DictionaryArray.from_arrays(records.source[which], pa.array(records.names["source"], pa.string()))
    labels = pa.array([*decided.rules, "kept"], pa.string())  # KEPT is the last index
    rule = np.where(kept, len(decided.rules), decided.rule[which])
    value, threshold = decided.value[which], decided.threshold[which]  # NaN where nothing was measured
    other = decided.other[which]
    alike = other != NOBODY
    columns = {
        "record_id": hexes(records.ids[which]),
        "source": sources.cast(pa.string()),
        "url": urls.take(pa.array(which)),
        "verdict": pa.array(["dropped", "kept"]).take(pa.array(kept.astype(np.int8))),
        "rule": labels.take(pa.array(rule)),
        "value": pa.array(value, mask=kept | np.isnan(value)),
        "threshold": pa.array(threshold, mask=kept | np.isnan(threshold)),
        "other": _masked(hexes(records.ids[np.where(alike, other, 0)]), ~alike | kept),
        "split": _masked(pa.array(SPLITS).take(pa.array(decided.split[which])), ~kept),
    }
    return pa.table(columns, schema=DECISION)


def _forgotten(rows: pa.Table) -> pa.Table:
    """DECISION rows of records that are forgotten."""
    facts = {
        "verdict": ["dropped"] * rows.num_rows,
        "rule": [FORGOTTEN] * rows.num_rows,
        **{name: rows[name] for name in ("record_id", "source", "url")},
    }
    columns = {field.name: facts.get(field.name, pa.nulls(rows.num_rows, field.type)) for field in DECISION}
    return pa.table(columns, schema=DECISION)


def gate_values(records: Records, decided: Decided) -> dict[str, float]:
    """The figure each data gate looks at."""
    kept, side = decided.kept, decided.split
    ratios = records.unique_word_ratio[kept]
    train, val, test = (kept & (side == index) for index in range(len(SPLITS)))
    sentences = int(records.n_sentences[train].sum())
    return {
        "min_documents": int(kept.sum()),
        "min_train_bytes": int(records.n_bytes[train].sum()),
        "min_val_documents": int(val.sum()),
        "min_test_documents": int(test.sum()),
        "min_unique_word_ratio": round(float(np.median(ratios)), 6) if len(ratios) else 0.0,
        "max_dropped_share": round(float(len(records) - kept.sum()) / max(1, len(records)), 6),
        "min_sentences": sentences,
        "min_mean_sentence_chars": round(float(records.n_chars[train].sum()) / max(1, sentences), 6),
    }


def statistics(records: Records, decided: Decided, gates: Sequence[Gate], forgotten: pa.Table) -> dict[str, Any]:
    """The content of stats.json; quality deciles are of texts kept, and [] when there is none."""
    kept = decided.kept
    quality = records.quality[kept]
    dropped = np.bincount(decided.rule[~kept], minlength=len(decided.rules))
    rules = {rule: int(count) for rule, count in zip(decided.rules, dropped, strict=True)}
    if forgotten.num_rows:
        rules[FORGOTTEN] = forgotten.num_rows
    return {
        "input": {
            "records": len(records) + forgotten.num_rows,
            "bytes": records.raw_bytes + int(forgotten["bytes"].to_numpy().sum()),
        },
        "kept": {"records": int(kept.sum()), "bytes": int(records.n_bytes[kept].sum())},
        "splits": {
            name: {
                "documents": int((kept & (decided.split == index)).sum()),
                "bytes": int(records.n_bytes[kept & (decided.split == index)].sum()),
            }
            for index, name in enumerate(SPLITS)
        },
        "rules": rules,
        "sources": _groups(records.names["source"], records.source, kept, records.n_bytes),
        "languages": _groups(records.names["lang"], records.lang, kept, records.n_bytes),
        "quality": {
            "deciles": np.round(np.quantile(quality, np.linspace(0, 1, 11)), 2).tolist() if len(quality) else []
        },
        "gates": [gate.to_json() for gate in gates],
    }


def _groups(
    names: Sequence[str], codes: NDArray[np.integer[Any]], kept: NDArray[np.bool_], n_bytes: NDArray[np.int32]
) -> dict[str, dict[str, int]]:
    """Records in, records kept and their bytes, for each label."""
    count = len(names)
    had = np.bincount(codes, minlength=count)
    stayed = np.bincount(codes[kept], minlength=count)
    size = np.zeros(count, np.int64)
    np.add.at(size, codes[kept], n_bytes[kept])
    return {
        name: {"records": int(had[i]), "kept": int(stayed[i]), "bytes": int(size[i])}
        for i, name in enumerate(names)
        if had[i]
    }


def _urls(files: Sequence[Path], records: Records) -> pa.Array:
    """The URL of every record, in their order."""
    order = np.lexsort((records.row, records.file))
    found = [pa.array([], pa.string())]
    for number, path in enumerate(files):
        rows = records.row[order[records.file[order] == number]]
        if len(rows):
            found.append(read_parquet(path, ["url"])["url"].combine_chunks().take(pa.array(rows)))
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    whole = pa.concat_arrays([chunk for array in found for chunk in (getattr(array, "chunks", None) or [array])])
    return whole.take(pa.array(back))


def _masked(array: pa.Array, mask: NDArray[np.bool_]) -> pa.Array:
    return pc.if_else(pa.array(~mask), array, pa.scalar(None, pa.string()))
