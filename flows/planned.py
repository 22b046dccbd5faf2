"""How long the stages of a run should take, from what the same recipe took before."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from flows.runstate import RunState, StageState, work_folder
from lmcore.train.journal import FILE, newest_line
from storage.store import STAGES, Store


class Planned:
    """What the store says about the duration of stages: of a recipe's newest artifact of each, or its minutes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._plans: dict[str, dict[str, Any]] = {}
        self._seconds: dict[tuple[str, str], float] = {}  # by recipe and label
        names: dict[str, str] = {}  # of the source of a collection, by key
        for artifact in sorted(store.readable(), key=lambda a: a.manifest.provenance.finished):
            made = artifact.manifest.provenance
            label = artifact.stage
            if artifact.stage == "collect":
                names[artifact.key] = made.params["source"]["name"]
                label = f"collect {names[artifact.key]}"
            elif artifact.stage == "measure":
                label = f"measure {names.get(made.inputs[0].key, '')}"
            if (recipe := self._recipe(made.run)) is not None:
                self._seconds[recipe["name"], label] = made.seconds

    def seconds(self, run: RunState, label: str) -> float | None:
        """How long a stage of a run should take; None when nothing tells."""
        recipe = self._recipe(run.run) or {}
        minutes = recipe.get("train", {}).get("minutes") if label == "train" else None
        return 60.0 * minutes if minutes else self._seconds.get((run.begun["recipe"], label))

    def left(self, run: RunState, stage: StageState, now: datetime) -> float | None:
        """Seconds to the end of a stage that works; None when nothing tells.

        The trainer knows best; else the pace of this attempt so far, else the plan.
        """
        if stage.state != "running":
            return None
        if stage.stage == "train" and (line := newest_line(work_folder(self._store, stage) / FILE)):
            return float(line["eta_seconds"])
        return stage.left(now, self.seconds(run, stage.label))

    def to_come(self, run: RunState) -> list[str]:
        """Labels of the stages that a run has yet to begin."""
        collected = sorted(
            (self._recipe(run.run) or {}).get("sources", []), key=lambda source: bool(source.get("from"))
        )
        sources = [source["name"] for source in collected]
        stages = STAGES[: STAGES.index(run.begun["last"]) + 1]
        of_each = ("collect", "measure")
        labels = [
            label
            for stage in stages
            for label in ([f"{stage} {source}" for source in sources] if stage in of_each else [stage])
        ]
        begun = {stage.label for stage in run.stages.values()}
        return [label for label in labels if label not in begun]

    def _recipe(self, run: str) -> dict[str, Any] | None:
        """The recipe of a run from its plan; None when the plan is gone or damaged."""
        if run not in self._plans:
            try:
                plan = json.loads((self._store.root / "runs" / run / "plan.json").read_bytes())
            except (OSError, ValueError):
                plan = {}
            self._plans[run] = plan if isinstance(plan, dict) and isinstance(plan.get("recipe"), dict) else {}
        return self._plans[run].get("recipe")
