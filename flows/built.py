"""What a run has made or found so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from flows.plan import Plan
from lmcore.expect.verdicts import Judged
from storage.store import Artifact, Store


@dataclass
class Built:
    """What a run has made or found so far, by stage."""

    plan: Plan
    store: Store
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    claims: Sequence[Judged] = ()  # of the recipe's document, judged at the run's end
    artifacts: dict[str, list[Artifact]] = field(default_factory=dict)

    def add(self, *artifacts: Artifact) -> None:
        """Note artifacts of one stage."""
        for artifact in artifacts:
            self.artifacts.setdefault(artifact.stage, []).append(artifact)

    def one(self, stage: str) -> Artifact | None:
        """The artifact of a stage, if the run came that far."""
        found = self.artifacts.get(stage)
        return found[0] if found else None
