"""Stage `export`: the model as files that other programs open, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmcore.export.params import ExportParams, ExportRuntime
from lmcore.progress import Report
from storage.store import Artifact
from tasks.step import step


@step("export", version=1)
def export(
    work: Path, model: Artifact, evaluation: Artifact, *, params: ExportParams, runtime: ExportRuntime, report: Report
) -> dict[str, Any]:
    """Write and check the exported files; the model card quotes the evaluation."""
    from lmcore.export.stage import export as export_model

    return export_model(
        work, model.local(), params=params, runtime=runtime, report=report, evaluation=evaluation.local()
    )
