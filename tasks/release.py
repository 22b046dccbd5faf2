"""Stage `release`: promoted or refused, on record either way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmcore.progress import Report
from lmcore.release import ReleaseParams, ReleaseRuntime, decide
from storage.store import Artifact
from tasks.step import step


@step("release", version=2)
def release(
    work: Path,
    model: Artifact,
    exported: Artifact,
    evaluation: Artifact,
    champion: list[Artifact],
    *,
    params: ReleaseParams,
    runtime: ReleaseRuntime,  # noqa: ARG001 - every step has one
    report: Report,
) -> dict[str, Any]:
    """Compare with the champion's evaluation on the same text (`champion` holds it, or nothing) and decide."""
    subject = {"model": model.digest, "export": exported.digest, "evaluation": evaluation.digest}
    against = champion[0].local() if champion else None
    metrics = decide(work, evaluation.local(), against, subject=subject, params=params)
    report(1, 1, metrics["reason"])
    return metrics
