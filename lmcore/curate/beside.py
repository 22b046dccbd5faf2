"""Signals of a text that hang on other texts, as the compare stage left them: read by record id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.ids import Ids, ids, places
from lmcore.curate.names import BESIDE as COMPARED_NAMES
from storage.parquet import read_parquet

BOILERPLATE, TEMPLATE, REFERENCE, CLASSIFIER = (
    "boilerplate_share",
    "template_share",
    "reference_bits",
    "classifier_quality",
)
COMPARED = COMPARED_NAMES
"""Name and meaning of every such signal, in stored order."""

FILE = "beside.parquet"
BESIDE = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        *(pa.field(name, pa.float32(), nullable=False) for name in COMPARED),  # NaN where it was not asked for
    ]
)


class Beside:
    """What the comparisons in `folders` say of each record, the newest where several do."""

    def __init__(self, folders: Sequence[Path], wanted: Sequence[str]) -> None:
        self._names = [name for name in COMPARED if name in wanted]
        tables = [read_parquet(folder / FILE, ["record_id", *self._names]) for folder in folders if self._names]
        found = [ids(table["record_id"]) for table in tables]
        every = np.concatenate([np.zeros(0, "S16"), *found])
        # of equal ids the last, which is the newest
        self._ids, last = np.unique(every[::-1], return_index=True)
        last = len(every) - 1 - last
        self._columns = {
            name: np.concatenate([np.zeros(0, np.float32), *(table[name].to_numpy() for table in tables)])[last]
            for name in self._names
        }

    def of(self, records: Ids) -> dict[str, NDArray[np.float64]]:
        """The signals of these records, NaN where nothing was said."""
        where = places(records, self._ids)
        there = where >= 0
        values = {}
        for name, column in self._columns.items():
            values[name] = np.full(len(records), np.nan)
            values[name][there] = column[where[there]]
        return values
