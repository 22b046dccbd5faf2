"""What the corpus before found out about copies, and what still holds: so that a night without news changes nothing.

A text that lost too much to what is held out is dropped as contaminated, and a copy of it may stay in its place. The
next corpus takes that copy first, since it was there before. Without this, the better text would now be named a copy
of it, and the cluster of those that stay would have another size: other bytes, out of nothing.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lmcore.curate.clean import CONTAMINATED, HITS
from lmcore.curate.decide import NOBODY, Decided, Drop
from lmcore.curate.decontaminate import CONTAMINATION
from lmcore.curate.ids import hexes, ids, places
from lmcore.curate.params import CurateParams
from lmcore.curate.parent import Parent
from lmcore.curate.records import Records
from lmcore.curate.split import TRAIN
from lmcore.documents import SPLITS
from storage.parquet import batches, read_parquet

_DECISION = ["record_id", "rule", "value", "threshold"]


def still_lost(
    records: Records, decided: Decided, parent: Parent | None, params: CurateParams
) -> tuple[list[Drop], pa.Table]:
    """Those dropped as copies that were contaminated in `parent`, by items that are all held out still; and their hits.

    `parent` was made with the same settings. Where lines or long repeats are taken out as well, what is left of a text
    hangs on more than what is held out, and nothing is carried over. Raises RunError for a damaged file.
    """
    if parent is None or params.substrings.enabled or params.boilerplate.remove:
        return [], CONTAMINATION.empty_table()
    copies = np.flatnonzero(~decided.kept & (decided.other != NOBODY))
    lost = [
        table.filter(pc.equal(table["rule"], CONTAMINATED))
        for table in map(_table, batches(parent.folder / "decisions.parquet", _DECISION, rows=100_000))
    ]
    before = pa.concat_tables([pa.schema(_FIELDS).empty_table(), *lost])
    at = places(records.ids[copies], np.sort(ids(before["record_id"])))
    copies = copies[at >= 0]
    if not len(copies):
        return [], CONTAMINATION.empty_table()
    hits = read_parquet(parent.folder / HITS, CONTAMINATION.names)
    hits = hits.filter(pc.is_in(hits["record_id"], hexes(records.ids[copies])))
    good = _still_there(hits, records, decided)
    told = ids(hits["record_id"])
    copies = copies[np.isin(records.ids[copies], told[good]) & ~np.isin(records.ids[copies], told[~good])]
    names = hexes(records.ids[copies])
    before = before.take(pc.index_in(names, before["record_id"]))
    value, threshold = before["value"].to_numpy(), before["threshold"].to_numpy()
    drops = [
        Drop(CONTAMINATED, copies[threshold == limit], value[threshold == limit], float(limit))
        for limit in np.unique(threshold)
    ]
    return drops, hits.filter(pc.is_in(hits["record_id"], names))


_FIELDS = [("record_id", pa.string()), ("rule", pa.string()), ("value", pa.float64()), ("threshold", pa.float64())]


def _table(batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch]).select(_DECISION).cast(pa.schema(_FIELDS))


def _still_there(hits: pa.Table, records: Records, decided: Decided) -> NDArray[np.bool_]:
    """Which hits are of an item that is held out still; the evaluation sets are those of before."""
    split = np.array([name in SPLITS for name in hits["set"].to_pylist()], bool)
    there = ~split
    held = decided.kept & (decided.split != TRAIN)
    at = places(ids(hits["item"].filter(pa.array(split))), records.ids)
    there[split] = (at >= 0) & held[np.maximum(at, 0)]
    return there
