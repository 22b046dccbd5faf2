"""Stage `compare`: new texts beside each other and beside all that were there before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmcore.curate.compare import compare_measured
from lmcore.curate.params import CompareParams, CompareRuntime
from lmcore.progress import Report
from storage.store import Artifact
from tasks.step import step


@step("compare", version=1)
def compare(
    work: Path,
    new: Sequence[Artifact],
    known: Sequence[Artifact],
    earlier: Sequence[Artifact],
    *,
    params: CompareParams,
    runtime: CompareRuntime,
    report: Report,
) -> dict[str, Any]:
    """Find which texts of the `new` measures are alike, and which are like those `known`."""
    folders = ([artifact.local() for artifact in artifacts] for artifacts in (new, known, earlier))
    return compare_measured(work, *folders, params=params, runtime=runtime, report=report)
