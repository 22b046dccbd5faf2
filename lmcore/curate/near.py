"""Placeholder until the room of near-duplicates is merged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

PAIR = pa.schema([("a", pa.string()), ("b", pa.string()), ("jaccard", pa.float64())])


def band_table(measured: pa.Table) -> pa.Table:
    return measured.select(["words_hash"])


def find_pairs(new: Sequence[Path], known: Sequence[Path], **_: Any) -> pa.Table:
    return PAIR.empty_table()
