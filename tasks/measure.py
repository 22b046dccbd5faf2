"""Stage `measure`: every collected text normalised and measured once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmcore.curate.measure import measure_collected
from lmcore.curate.params import MeasureParams, MeasureRuntime
from lmcore.forget.texts import forgotten_in
from lmcore.progress import Report
from storage.store import Artifact
from tasks.step import step


@step("measure", version=2)
def measure(
    work: Path, collected: Artifact, *, params: MeasureParams, runtime: MeasureRuntime, report: Report
) -> dict[str, Any]:
    """Normalise and measure the texts that a collection holds itself."""
    forgotten = forgotten_in(collected.store.root)
    return measure_collected(
        work, collected.local(), params=params, runtime=runtime, report=report, forgotten=forgotten
    )
