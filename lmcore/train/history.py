"""What a run remembers of itself, step by step and look by look.

`metrics` follow from the data and the plan alone, so a killed and resumed run ends with the same table, bit for bit.
Timings, validation and samples depend on the machine or on cadences and are provenance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.parquet import read_parquet


def _schema(**types: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])


SCHEMAS: dict[str, pa.Schema] = {
    "metrics": _schema(
        step=pa.int64(),
        tokens=pa.int64(),  # seen so far
        progress=pa.float64(),  # share of the budget used after the step
        loss=pa.float64(),  # nats per token
        bits_per_byte=pa.float64(),
        lr=pa.float64(),  # of AdamW; Muon's has the same course
        grad_norm=pa.float64(),  # before clipping
        skipped=pa.bool_(),
    ),
    "timings": _schema(step=pa.int64(), seconds=pa.float64(), tokens_per_second=pa.float64()),
    "validation": _schema(
        step=pa.int64(),
        progress=pa.float64(),
        bits_per_byte=pa.float64(),
        loss=pa.float64(),  # nats per token
        accuracy=pa.float64(),  # share of the tokens that the model would have guessed
    ),
    "sources": _schema(  # each look by source
        step=pa.int64(),
        progress=pa.float64(),
        source=pa.string(),
        tokens=pa.int64(),
        bits_per_byte=pa.float64(),
        loss=pa.float64(),
        accuracy=pa.float64(),
    ),
    "stages": _schema(  # of a curriculum whose stages have names, those that have ended
        stage=pa.int64(),  # from 1
        name=pa.string(),
        began_at=pa.int64(),  # the step after which it began
        ended_at=pa.int64(),  # its last step
        progress=pa.float64(),
        reason=pa.string(),  # budget, no gain, early stop
        gain=pa.float64(),  # over the last looks, as a share; NaN where too few were made
    ),
    "stage_looks": _schema(  # looks at what the stages are judged on
        step=pa.int64(),
        progress=pa.float64(),
        stage=pa.int64(),  # the one that was going on or ended
        kind=pa.string(),  # all, level, stage: of texts
        name=pa.string(),  # of the level or the stage
        tokens=pa.int64(),
        bits_per_byte=pa.float64(),
        loss=pa.float64(),
        accuracy=pa.float64(),
    ),
    "fits": _schema(  # looks at the training text, at the ends of epochs
        step=pa.int64(), progress=pa.float64(), loss=pa.float64(), accuracy=pa.float64()
    ),
    "samples": _schema(step=pa.int64(), progress=pa.float64(), prompt=pa.string(), text=pa.string()),
}


class History:
    """Growing tables. Rows not yet folded into Arrow are few, so a long run stays small."""

    def __init__(self, tables: Mapping[str, pa.Table] | None = None) -> None:
        self._tables = {name: schema.empty_table() for name, schema in SCHEMAS.items()}
        self._tables |= {name: _fitted(table, SCHEMAS[name]) for name, table in (tables or {}).items()}
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in SCHEMAS}

    def add(self, name: str, /, **row: Any) -> None:
        """Append one row to the table `name`."""
        self._rows[name].append(row)

    def table(self, name: str) -> pa.Table:
        """All rows of the table `name`."""
        if self._rows[name]:
            new = pa.Table.from_pylist(self._rows[name], schema=SCHEMAS[name])
            self._tables[name] = pa.concat_tables([self._tables[name], new]).combine_chunks()
            self._rows[name].clear()
        return self._tables[name]

    def cut(self, name: str, rows: int) -> None:
        """Keep the first `rows` rows of the table `name`."""
        self._tables[name] = self.table(name).slice(0, rows)

    def tables(self) -> dict[str, pa.Table]:
        """All of them, by name."""
        return {name: self.table(name) for name in SCHEMAS}


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with the columns that a checkpoint of an earlier version did not have, filled with NaN."""
    if table.schema.names == schema.names:
        return table
    missing = pa.array([math.nan] * table.num_rows, pa.float64())
    return pa.table([table[n] if n in table.schema.names else missing for n in schema.names], schema=schema)


def last_step(folder: Path) -> int | None:
    """The last step that a train artifact's metrics have; None for a model that was not trained here.

    Raises RunError for a damaged file.
    """
    metrics = folder / "metrics.parquet"
    return int(read_parquet(metrics, ["step"])["step"][-1].as_py()) if metrics.exists() else None


def due(shares: tuple[float, ...], before: float, now: float) -> bool:
    """True when progress passed one of `shares` on its way from `before` (exclusive) to `now` (inclusive)."""
    return any(before < share <= now for share in shares)


def every(share: float) -> tuple[float, ...]:
    """0, `share`, 2 `share` and so on up to 1, which is always there; nothing when `share` is 0."""
    if not share:
        return ()
    # Rounded, because 3 x 0.1 is above 0.3 and step 3 of 10 would come too early for it.
    return (*(at for i in range(int(1 / share) + 1) if (at := round(i * share, 9)) < 1), 1.0)
