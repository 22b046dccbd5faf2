"""What the journal of a run says: its attempts and stages, how far each is, and whether the run goes on.

Reads files and looks at processes; needs no Prefect server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage.errors import RunError, UserError
from storage.store import Store
from tasks.alive import lives
from tasks.journal import JOURNAL, Tail, last_event, parse_events

HEARD_SECONDS = 900.0  # a run of another machine that said nothing for so long is taken for dead
STEADY_SHARE = 0.01  # progress from which a rate says something


@dataclass
class StageState:
    """One stage of a run, as far as the journal tells."""

    label: str
    key: str
    began: datetime
    state: str = "running"  # then Completed, Reused, Failed, Stopped; interrupted when its run ended without it
    seconds: float | None = None  # when it has ended
    share: float | None = None  # done, 0 to 1
    note: str = ""
    summary: str = ""
    process: dict[str, Any] | None = None  # of its own, as tasks.alive describes one
    first: tuple[datetime, float] | None = None  # when this attempt first told how far it is, and how far

    @property
    def stage(self) -> str:
        """Its stage in the store: the label without the source."""
        return self.label.partition(" ")[0]

    def took(self, now: datetime) -> float:
        """Seconds it has worked in the newest attempt, or did."""
        return self.seconds if self.seconds is not None else max(0.0, (now - self.began).total_seconds())

    def left(self, now: datetime, planned: float | None) -> float | None:
        """Seconds to its end at the pace of this attempt so far, else by plan; None when nothing tells."""
        if self.share is not None and self.first is not None:
            passed, gained = (now - self.first[0]).total_seconds(), self.share - self.first[1]
            if gained >= STEADY_SHARE and passed > 0:
                return (1 - self.share) * passed / gained
        return max(0.0, planned - self.took(now)) if planned is not None else None


@dataclass
class RunState:
    """One run; call `update` to take in what its journal says by now."""

    folder: Path
    attempts: list[dict[str, Any]] = field(default_factory=list)
    stages: dict[tuple[str, str], StageState] = field(default_factory=dict)  # by label and key, in order of beginning
    end: dict[str, Any] | None = None  # of the newest attempt
    heard: datetime | None = None

    def __post_init__(self) -> None:
        self._tail = Tail(self.folder / JOURNAL)
        self.update()

    def update(self) -> list[dict[str, Any]]:
        """Take in the events that are new, and give them."""
        events = parse_events(self._tail.new())
        for event in events:
            self.heard = _time(event["at"])
            self._apply(event)
        if not self.going:
            self._interrupt()
        return events

    @property
    def run(self) -> str:
        """Its id."""
        return self.folder.name

    @property
    def begun(self) -> dict[str, Any]:
        """The newest attempt. Raises RunError when the journal does not tell of one, though its first line does."""
        if not self.attempts:
            raise RunError(f"{self.folder / JOURNAL} has lost its beginning", "look at the log and the store instead")
        return self.attempts[-1]

    @property
    def began(self) -> datetime:
        """When the newest attempt began."""
        return _time(self.begun["at"])

    @property
    def going(self) -> bool:
        """Whether somebody works on it now. Of another machine's process only the silence can be judged."""
        if self.end is not None or not self.attempts:
            return False
        alive = lives(self.begun)
        if alive is None:
            assert self.heard is not None
            return (datetime.now(UTC) - self.heard).total_seconds() < HEARD_SECONDS
        return alive

    @property
    def state(self) -> str:
        """running, interrupted (its process is gone and it said no last word), or how the newest attempt ended."""
        if self.end is not None:
            return str(self.end["state"])
        return "running" if self.going else "interrupted"

    @property
    def over(self) -> bool:
        """Whether nothing more will come: it ended, or it died and nobody resumes it under the same id."""
        return self.end is not None or not (self.going or self.begun["deployed"])

    def unended(self) -> list[StageState]:
        """The stages that were begun and are not finished."""
        return [stage for stage in self.stages.values() if stage.state not in ("Completed", "Reused")]

    def _apply(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "attempt":
            self.attempts.append(event)
            self.end = None
            self._interrupt()
        elif kind == "end":
            self.end = event
            self._interrupt()
        elif kind == "started":
            self.stages.pop(place := (event["stage"], event["key"]), None)
            self.stages[place] = StageState(*place, began=_time(event["at"]))
        elif kind == "process":
            for stage in self.stages.values():
                if stage.label == event["stage"] and stage.state == "running":
                    stage.process = event
        elif kind in ("progress", "ended") and (found := self.stages.get((event["stage"], event["key"]))):
            _tell(found, event)

    def _interrupt(self) -> None:
        for stage in self.stages.values():
            if stage.state == "running":
                stage.state = "interrupted"


def _tell(stage: StageState, event: dict[str, Any]) -> None:
    if event["event"] == "progress":
        stage.state, stage.note = "running", event["note"]
        stage.share = min(1.0, event["done"] / event["total"]) if event["total"] else None
        if stage.share is not None and stage.first is None:
            stage.first = (_time(event["at"]), stage.share)
    elif event["event"] == "ended":
        stage.state, stage.summary, stage.seconds = event["state"], event["summary"], event["seconds"]


def work_folder(store: Store, stage: StageState) -> Path:
    """Where a stage works, and leaves what it has when it is interrupted. It need not be there."""
    return store.root / ".work" / f"{stage.stage}-{stage.key}"


def run_folders(store: Store) -> list[Path]:
    """The runs that left a journal, the one that was heard of last first."""
    journals = sorted((store.root / "runs").glob(f"*/{JOURNAL}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.parent for path in journals]


def find_run(store: Store, prefix: str = "") -> Path:
    """The folder of the run whose id begins so; the newest one without a prefix.

    Raises UserError when there is none, or more than one.
    """
    folders = run_folders(store)
    if not folders:
        raise UserError(
            f"{store.root} has no run with a journal", "start one: collect-train run RECIPE; or give its --store"
        )
    found = [folder for folder in folders if folder.name.startswith(prefix)]
    if not found:
        newest = ", ".join(folder.name for folder in folders[:3])
        raise UserError(f"no run {prefix!r} in {store.root}", f"the newest are {newest}")
    if prefix and len(found) > 1:
        names = ", ".join(folder.name for folder in found[:5])
        raise UserError(f"{prefix!r} fits {len(found)} runs: {names}", "give more characters")
    return found[0]


def worth_telling(store: Store) -> list[RunState]:
    """The runs that go on now, then those that ended badly and that no later run of their recipe has taken up.

    An interrupted one is told for as long as its unfinished work waits, too.
    """
    going: list[RunState] = []
    newest: list[RunState] = []  # of their recipe, and not completed
    waiting: list[RunState] = []
    seen: set[str] = set()
    for folder in run_folders(store):
        last = last_event(folder)
        if last is None or (last["event"] == "end" and (last["state"] == "Completed" or last["recipe"] in seen)):
            seen |= {last["recipe"]} if last else set()
            continue
        run = RunState(folder)
        if not run.attempts:
            continue
        recipe = run.begun["recipe"]
        (going if run.going else waiting if recipe in seen else newest).append(run)
        seen.add(recipe)
    taken_up = {place for run in going for place in run.stages}
    return [*going, *newest, *(run for run in waiting if _waits(store, run, taken_up))]


def _waits(store: Store, run: RunState, taken_up: set[tuple[str, str]]) -> bool:
    left = {(stage.label, stage.key): stage for stage in run.unended()}
    return any(store.has_work(stage.stage, stage.key) for place, stage in left.items() if place not in taken_up)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
