"""The three stages of curation one after the other, as a run does them, for tests that want the corpus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from lmcore.collect.editions import own_records, referred_records
from lmcore.curate.compare import compare_measured
from lmcore.curate.measure import measure_collected
from lmcore.curate.params import (
    CompareParams,
    CompareRuntime,
    CurateParams,
    CurateRuntime,
    MeasureParams,
    MeasureRuntime,
)
from lmcore.curate.records import Part
from lmcore.curate.stage import curate
from lmcore.progress import silent

MEASURE, COMPARE, CURATE = MeasureParams(), CompareParams(), CurateParams()


@dataclass
class Curated:
    """What the stages left: `out` of curate, its metrics, and the folders to go on from."""

    out: Path
    metrics: dict[str, Any]
    measures: dict[str, Path] = field(default_factory=dict)  # by the folder that was measured
    compares: list[Path] = field(default_factory=list)


def nowhere(digest: str) -> Path:
    """For collections that refer to no other."""
    raise AssertionError(f"asked for {digest}")


def curate_folders(
    work: Path,
    folders: Sequence[Path],
    *,
    locate: Callable[[str], Path] = nowhere,
    before: Curated | None = None,
    measure: MeasureParams = MEASURE,
    compare: CompareParams = COMPARE,
    params: CurateParams = CURATE,
    workers: int = 1,
    report=silent,
    forgotten=None,
) -> Curated:
    """Curate collected folders under `work`, on top of the corpus `before`; what is there already is done again."""
    wanted: dict[Path, list[pa.ChunkedArray]] = {}
    for folder in folders:
        wanted.setdefault(folder, []).append(own_records(folder))
        for digest, records in referred_records(folder).items():
            wanted.setdefault(locate(digest), []).append(records)
    measures = dict(before.measures) if before else {}
    new = []
    for number, folder in enumerate(wanted):
        if str(folder) not in measures:
            at = work / "measure" / f"{len(measures):05d}-{number}"
            runtime = MeasureRuntime(workers=workers)
            measure_collected(at, folder, params=measure, runtime=runtime, report=report, forgotten=forgotten)
            measures[str(folder)] = at / "out"
            new.append(at / "out")
    compares = list(before.compares) if before else []
    known = [path for path in measures.values() if path not in new]
    if new or not compares:
        at = work / "compare"
        compare_measured(at, new, known, compares, params=compare, runtime=CompareRuntime(), report=report)
        compares.append(at / "out")
    parts = [Part.of(measures[str(folder)], *records) for folder, records in wanted.items()]
    metrics = curate(
        work / "curate",
        parts,
        compares,
        before.out if before else None,
        about={"measures": [], "compares": [], "compared": "", "measured": []},
        params=params,
        runtime=CurateRuntime(),
        report=report,
        comparing=compare,
    )
    return Curated(work / "curate" / "out", metrics, measures, compares)
