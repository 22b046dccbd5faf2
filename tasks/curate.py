"""Stage `curate`: what is kept of everything collected, and why the rest is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from lmcore.collect.editions import own_records, referred_records
from lmcore.curate.params import CompareParams, CurateParams, CurateRuntime
from lmcore.curate.records import Part
from lmcore.curate.stage import curate as curate_records
from lmcore.progress import Report
from storage.digest import digest_json
from storage.errors import RunError
from storage.store import Artifact
from tasks.step import step
from tasks.ui_pages import show_corpus


@step("curate", version=4, pages=show_corpus)
def curate(
    work: Path,
    collected: Sequence[Artifact],
    measures: Sequence[Artifact],
    compares: Sequence[Artifact],
    parent: Sequence[Artifact] = (),
    *,
    params: CurateParams,
    runtime: CurateRuntime,
    report: Report,
) -> dict[str, Any]:
    """Judge, choose among copies, split, write. `parent` is the corpus before this one, where there is one."""
    made = compares[-1].manifest.provenance if compares else None
    compared = CompareParams.model_validate(made.params if made else {})
    return curate_records(
        work,
        parts_of(collected, measures),
        [artifact.local() for artifact in compares],
        parent[0].local() if parent else None,
        about={
            "measures": [artifact.key for artifact in measures],
            "compares": [artifact.key for artifact in compares],
            "compared": digest_json([made.stage_version, made.params] if made else []),
            "measured": sorted({_settings(artifact) for artifact in measures}),
        },
        params=params,
        runtime=runtime,
        report=report,
        comparing=compared,
    )


def parts_of(collected: Sequence[Artifact], measures: Sequence[Artifact]) -> list[Part]:
    """Which records of each measure artifact the editions in `collected` consist of.

    Raises RunError when an edition consists of records that are not measured.
    """
    of_key = {entry.key: artifact for artifact in measures for entry in artifact.manifest.provenance.inputs}
    wanted: dict[str, list[pa.ChunkedArray]] = {}
    for edition in collected:
        wanted.setdefault(edition.key, []).append(own_records(edition.local()))
        for digest, records in referred_records(edition.local()).items():
            wanted.setdefault(edition.store.by_digest(digest, "collect").key, []).append(records)
    if missing := sorted(key for key, records in wanted.items() if any(map(len, records)) and key not in of_key):
        raise RunError(
            f"collect/{missing[0][:12]} is not measured",
            "run the recipe from its stage measure: `collect-train run RECIPE --from measure`",
        )
    return [Part.of(of_key[key].local(), *records) for key, records in wanted.items() if key in of_key]


def _settings(measure: Artifact) -> str:
    made = measure.manifest.provenance
    return digest_json([made.stage_version, made.params])
