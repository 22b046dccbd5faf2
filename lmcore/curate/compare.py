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
from lmcore.curate.bands import Part
from lmcore.curate.measure import bands_file, measured_files
from lmcore.curate.pairs import find_pairs
from lmcore.curate.params import CompareParams, CompareRuntime
from lmcore.progress import Report
from storage.atomic import fault, write_json
from storage.parquet import read_parquet, write_parquet

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
    pairs = find_pairs(
        _parts(new), _parts(known), min_jaccard=params.min_jaccard, memory_mb=runtime.memory_mib, report=report
    )
    fault("compare.pairs")
    write_parquet(out / PAIRS, _with_words(pairs, [*new, *known]))
    write_parquet(out / FILE, BESIDE.empty_table())
    figures = {"pairs": pairs.num_rows}
    write_json(out / "stats.json", figures)
    return figures


def read_pairs(folder: Path) -> pa.Table:
    """The pairs of a compare artifact."""
    return read_parquet(folder / PAIRS)


def _with_words(pairs: pa.Table, folders: Sequence[Path]) -> pa.Table:
    words: dict[str, str] = {}
    wanted = set(pairs["a"].to_pylist()) | set(pairs["b"].to_pylist())
    for folder in folders:
        for path in measured_files(folder):
            table = read_parquet(path, ["record_id", "words_hash"])
            for record, digest in zip(table["record_id"].to_pylist(), table["words_hash"].to_pylist(), strict=True):
                if record in wanted:
                    words[record] = digest
    for name in ("a", "b"):
        column = pa.array([words[record] for record in pairs[name].to_pylist()], pa.string())
        pairs = pairs.append_column(f"{name}_words", column)
    return pairs


def _parts(folders: Sequence[Path]) -> list[Part]:
    return [Part(bands_file(path), path) for folder in folders for path in measured_files(folder)]
