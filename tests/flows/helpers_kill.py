"""kill -9 of whole runs: at every named fault point, and at random times in every stage.

Used by test_flows_kill.py and by benchmarks/torture.py.
"""

from __future__ import annotations

import ast
import os
import random
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers_flows import MARK, PATIENCE, ROOT, Done, finish, marked, start

from storage.atomic import FAULT_VARIABLE
from storage.store import STAGES, Store

ORPHANS_SECONDS = 60.0  # for what a killed run leaves to end by itself; a trainer first finishes its step and saves
PHASES = ("start", *STAGES, "end")


@dataclass(frozen=True)
class Kill:
    """One kill: the fault to arm, and whether the trainer dies of it rather than the run itself."""

    fault: str
    where: str  # the stage it hits

    @property
    def point(self) -> str:
        return self.fault.partition(":")[0]

    @property
    def in_trainer(self) -> bool:
        return self.where == "train" and not self.point.startswith("store.")


# In the order of the pipeline: each run goes on where the one before was killed.
CHAIN = [
    Kill(fault, where)
    for where, faults in {
        "start": ("atomic.write.before-rename", "atomic.write.before-rename:2"),
        "collect": (
            "collect.level-opened", "collect.page-stored:2", "collect.page-done:3", "collect.level-opened",
            "collect.before-documents", "parquet.write", "collect.documents-written", "collect.before-edition",
            "store.publish.before-manifest", "store.publish.before-fsync", "store.publish.before-rename",
            "store.publish.after-rename",
        ),
        "measure": ("parquet.write:2", "measure.shard", "store.publish.before-rename"),
        "compare": ("compare.pairs", "store.publish.before-rename"),
        "curate": (
            "curate.cleaned", "curate.before-decisions", "curate.sorted", "curate.file", "store.publish.before-rename",
        ),
        "tokenizer": ("tokenizer.before-save", "atomic.write.before-rename:4", "store.publish.after-rename"),
        "tokens": ("tokens.shard", "tokens.before-meta", "store.publish.before-manifest"),
        "train": (
            "train.step:3", "train.checkpoint.before-fsync", "train.checkpoint.before-rename:2",
            "train.checkpoint.after-rename", "parquet.write:2", "train.before-out", "train.out.before-fsync",
            "train.out.before-rename", "train.out.after-rename", "store.publish.before-fsync",
        ),
        "evaluate": (
            "evaluate.document-batch", "evaluate.baseline:2", "evaluate.before-save", "store.publish.before-rename",
        ),
        "export": ("export.before-check", "store.publish.after-rename"),
        "release": ("store.publish.before-rename",),
        "end": ("registry.before-write", "registry.after-write", "registry.before-write", "registry.after-write"),
    }.items()
    for fault in faults
]  # fmt: skip


def fault_points() -> set[str]:
    """Every fault point that stands in the product's source."""
    found = set()
    for package in ("storage", "lmcore", "tasks", "flows"):
        for path in (ROOT / package).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text())):
                if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                    continue
                name = next((a.value for a in call.args if isinstance(a, ast.Constant) and "." in str(a.value)), None)
                if name and call.func.id == "fault":
                    found.add(name)
                elif name and call.func.id == "publish_folder":
                    found |= {f"{name}.{moment}" for moment in ("before-fsync", "before-rename", "after-rename")}
    return found


def run_to_a_kill(recipe: str, store: Path, kill: Kill, env: dict[str, str]) -> Done:
    """Run the recipe with a fault armed; assert that it died of it, as it should, and left no process behind."""
    mark = uuid.uuid4().hex
    process = start(
        "run", recipe, "--edition", "first", store=store, env={**env, FAULT_VARIABLE: kill.fault, MARK: mark}
    )
    done = finish(process)
    told = f"{kill} gave exit code {done.code}:\n{done.out}\n{done.err}"
    if kill.in_trainer:
        assert done.code == 1, told
        what, mend = done.error
        assert "lmcore.train was ended by SIGKILL" in what, told
        assert "run again to continue" in mend, told
    else:
        assert done.code == -signal.SIGKILL, told
    assert_no_orphans(mark)
    return done


def assert_no_orphans(mark: str) -> None:
    """Processes that a killed run leaves behind end by themselves, soon."""
    until = time.monotonic() + ORPHANS_SECONDS
    while left := marked(mark):
        assert time.monotonic() < until, f"still there {ORPHANS_SECONDS:.0f} s after the kill: {left}"
        time.sleep(0.2)


@dataclass(frozen=True)
class Pace:
    """How long the phases of an uninterrupted run took, in seconds."""

    seconds: dict[str, float]


def pace(store: Path, whole: float) -> Pace:
    """The pace of the run that built `store` in `whole` seconds, from its manifests."""
    stages = {a.stage: a.manifest.provenance.seconds for a in Store(store).readable()}
    return Pace({"start": max(0.5, whole - sum(stages.values())), **stages, "end": 0.5})


def run_to_a_random_kill(
    recipe: str, store: Path, phase: str, pace: Pace, draw: random.Random, env: dict[str, str]
) -> str:
    """Run the recipe and kill -9 its main process at a random time after `phase` began.

    Gives where it was then, "" when it ended by itself before (which must be a success).
    """
    mark = uuid.uuid4().hex
    process = start("run", recipe, "--edition", "first", store=store, env={**env, MARK: mark})
    until = time.monotonic() + PATIENCE
    while process.poll() is None and not _has_begun(Store(store), phase):
        assert time.monotonic() < until, f"phase {phase} was never reached"
        time.sleep(0.01)
    end = time.monotonic() + draw.uniform(0, 1.1 * pace.seconds[phase])
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    done = finish(process)
    assert_no_orphans(mark)
    if done.code == -signal.SIGKILL:
        return phase_of(Store(store))
    assert done.code == 0, f"exit code {done.code}:\n{done.out}\n{done.err}"
    return ""


def phase_of(store: Store) -> str:
    """The phase that a store's build is in: that of the work folder, or between two."""
    for stage in STAGES:
        if any((store.root / ".work").glob(f"{stage}-*")):
            return stage
    built = [stage for stage in STAGES if any(store.artifacts(stage))]
    return f"after {built[-1]}" if built else "start"


def plan_of_kills(draw: random.Random, number: int) -> Iterator[str]:
    """Phases to be killed in, in the order of the pipeline."""
    return iter(sorted(draw.choices(PHASES, k=number), key=PHASES.index))


def _has_begun(store: Store, phase: str) -> bool:
    if phase == "start":
        return True
    if phase == "end":
        return any(store.artifacts("release"))
    return any((store.root / ".work").glob(f"{phase}-*")) or any(store.artifacts(phase))
