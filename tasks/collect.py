"""Stage `collect`: one source, one edition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from lmcore.collect.kinds import SourceParams
from lmcore.collect.params import CollectRuntime
from lmcore.collect.source import STAGE_VERSION
from lmcore.collect.source import collect as collect_source
from lmcore.config import Params
from lmcore.forget.texts import forgotten_in
from lmcore.progress import Report
from storage.store import Artifact, Store
from tasks.source_tokens import tokens_for
from tasks.step import step


class CollectParams(Params):
    """A source and the name of its edition."""

    source: SourceParams = Field(description="What is collected.")
    edition: str = Field(description="Name of the collection in time.")


@step("collect", version=STAGE_VERSION, pure=False)
def collect(
    work: Path, parent: list[Artifact], *, params: CollectParams, runtime: CollectRuntime, report: Report
) -> dict[str, Any]:
    """Collect one source. `parent` holds the edition before, or nothing."""
    before = parent[0] if parent else None
    return collect_source(
        work,
        edition=params.edition,
        parent=before.local() if before else None,
        parent_digest=before.digest if before else None,
        locate=lambda digest: parent[0].store.by_digest(digest, "collect").local(),
        params=params.source,
        runtime=runtime,
        report=report,
        forgotten=forgotten_in(Store.of_work(work).root),
        tokens=tokens_for(params.source, runtime),
    )
