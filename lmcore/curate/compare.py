"""Stage `compare`: the texts that are new beside each other and beside all that were there before.

Takes the new measure artifacts, those known already, and the comparisons made then. What it leaves is about the new
texts only; together with the earlier comparisons it tells of every pair of texts that are alike.

Layout of `work/out`: pairs.parquet (which word sequences are alike), beside.parquet (signals of the new texts that
hang on other texts), stats.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from lmcore.curate.beside import BESIDE, FILE
from lmcore.curate.near import find_pairs
from lmcore.curate.params import CompareParams, CompareRuntime
from lmcore.progress import Report
from storage.atomic import fault, write_json
from storage.parquet import write_parquet

PAIRS = "pairs.parquet"


def compare_measured(
    work: Path,
    new: Sequence[Path],
    known: Sequence[Path],
    earlier: Sequence[Path],
    *,
    params: CompareParams,
    runtime: CompareRuntime,
    report: Report,
) -> dict[str, Any]:
    """Compare the texts of the measure artifacts `new` into `work/out` and give the figures for the summary.

    `known` are the measure artifacts of before, `earlier` the comparisons among them, oldest first. The result does
    not hang on the order of `new`. Raises RunError for an unreadable input.
    """
    out = work / "out"
    pairs = find_pairs(new, known, min_jaccard=params.min_jaccard, memory_mib=runtime.memory_mib, report=report)
    fault("compare.pairs")
    write_parquet(out / PAIRS, pairs)
    write_parquet(out / FILE, BESIDE.empty_table())
    figures = {"pairs": pairs.num_rows}
    write_json(out / "stats.json", figures)
    return figures


def read_pairs(folder: Path) -> pa.Table:
    """The pairs of a compare artifact."""
    from storage.parquet import read_parquet

    return read_parquet(folder / PAIRS)
