"""What a report is made from: plain facts of one run and the folders of its artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from storage.registry import RegistryState

if TYPE_CHECKING:
    from lmcore.expect.verdicts import Judged


@dataclass(frozen=True)
class StageRow:
    """One step of the run."""

    stage: str
    key: str
    digest: str  # content digest of the artifact
    state: Literal["Reused", "Completed"]
    seconds: float  # that building the artifact took, in this run or, when reused, in an earlier one
    metrics: Mapping[str, Any]
    name: str = ""  # tells several steps of one stage apart: the source of a collect


@dataclass(frozen=True)
class RunView:
    """One run. A folder is None, and its part of the report is left out, when the run did not come that far."""

    recipe: str  # name of the recipe, and of its releases
    resolved: Mapping[str, Any]  # the whole recipe with every default, as plain JSON
    run: str
    edition: str
    started: str  # ISO 8601
    seconds: float  # wall time of the run
    stages: Sequence[StageRow]
    collect: Sequence[Path] = ()
    curate: Path | None = None
    tokenizer: Path | None = None
    tokens: Path | None = None
    train: Path | None = None
    evaluate: Path | None = None
    export: Path | None = None
    registry: RegistryState | None = None  # all releases of this recipe
    release: int | None = None  # number of this run's release in it, promoted or refused
    card: str = ""  # the corpus card beside the report, if there is one
    claims: Sequence[Judged] = ()  # what a document says of the system, judged
    next_commands: Sequence[str] = field(default_factory=tuple)
