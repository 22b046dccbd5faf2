"""Stage `evaluate`: a model on held-out text, beside simpler methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmcore.evaluate.params import EvaluateParams, EvaluateRuntime
from lmcore.progress import Report
from storage.store import Artifact
from tasks.step import step
from tasks.ui_pages import show_evaluation


@step("evaluate", version=2, pages=show_evaluation)
def evaluate(
    work: Path,
    model: Artifact,
    corpus: Artifact,
    learnt: Sequence[Artifact] = (),
    before: Sequence[Artifact] = (),
    *,
    params: EvaluateParams,
    runtime: EvaluateRuntime,
    report: Report,
) -> dict[str, Any]:
    """Score the model on the corpus' held-out splits, without what is in the train split of a corpus in `learnt`.

    `before` holds the model that it started from where that is to be measured, too.
    """
    from lmcore.evaluate.stage import evaluate as evaluate_model

    known = [artifact.local() for artifact in learnt]
    earlier = before[0].local() if before else None
    return evaluate_model(
        work, model.local(), corpus.local(), known, earlier, params=params, runtime=runtime, report=report
    )
