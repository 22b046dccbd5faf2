"""Stage `collect`: one source, one edition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from lmcore.collect.http import GATE
from lmcore.collect.kinds import SourceParams
from lmcore.collect.params import CollectRuntime
from lmcore.collect.source import STAGE_VERSION
from lmcore.collect.source import collect as collect_source
from lmcore.config import Params, added_later
from lmcore.forget.texts import forgotten_in
from lmcore.progress import Report
from storage.store import Artifact, Store
from tasks.hosts import shared_limits
from tasks.source_tokens import tokens_for
from tasks.step import step
from tasks.ui_pages import show_collection


class CollectParams(Params):
    """A source and the name of its edition."""

    source: SourceParams = Field(description="What is collected.")
    edition: str = Field(description="Name of the collection in time.")
    round: int = added_later(1, ge=1, description="How many times the budgets of the source are read.")


@step("collect", version=STAGE_VERSION, pure=False, pages=show_collection)
def collect(
    work: Path,
    parent: list[Artifact],
    articles: Sequence[Artifact] = (),
    *,
    params: CollectParams,
    runtime: CollectRuntime,
    report: Report,
) -> dict[str, Any]:
    """Collect one source. `parent` holds the edition before, or nothing.

    `articles` are the editions of the sources that a synthetic one is made of (its `from`), in its order.
    """
    before = parent[0] if parent else None
    GATE.set(shared_limits())
    return collect_source(
        work,
        edition=params.edition,
        parent=before.local() if before else None,
        parent_digest=before.digest if before else None,
        locate=lambda digest: (parent or articles)[0].store.by_digest(digest, "collect").local(),
        params=params.source.grown(params.round),
        runtime=runtime,
        report=report,
        forgotten=forgotten_in(Store.of_work(work).root),
        tokens=tokens_for(params.source, runtime),
        articles=[artifact.local() for artifact in articles],
    )
