"""Stage `curate`: what is kept of everything collected, and why the rest is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmcore.curate import CurateParams, CurateRuntime
from lmcore.curate import curate as curate_collected
from lmcore.forget.texts import forgotten_in
from lmcore.progress import Report
from storage.store import Artifact
from tasks.step import step
from tasks.ui_pages import show_corpus


@step("curate", version=1, pages=show_corpus)
def curate(
    work: Path, collected: list[Artifact], *, params: CurateParams, runtime: CurateRuntime, report: Report
) -> dict[str, Any]:
    """Normalise, score, deduplicate, split."""
    store = collected[0].store
    return curate_collected(
        work,
        [artifact.local() for artifact in collected],
        locate=lambda digest: store.by_digest(digest, "collect").local(),
        params=params,
        runtime=runtime,
        report=report,
        forgotten=forgotten_in(store.root),
    )
