"""`collect-train gc`: what may go from a store, why the rest stays, and removing it.

What stays: every release with all that its model came from; what the newest runs of each recipe built or used; the
newest edition of each recipe; whatever a run that is going on has touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.look import human_bytes
from flows.plan import Edition, Plan, read_editions, read_plan
from flows.runstate import RunState
from lmcore.collect.editions import REFERENCES
from storage.errors import RunError, UserError
from storage.gc import Leftover, Name, Sweep, Verdict, clear, judge
from storage.parquet import read_parquet
from storage.registry import Registry
from storage.store import Artifact, Store
from storage.text import printable
from storage.tombstones import read_tombstones
from tasks.journal import JOURNAL

_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


@dataclass(frozen=True)
class Wishes:
    """How much to keep."""

    keep_runs: int = 3  # of each recipe
    older_than: float = 7 * 86400.0  # seconds that unfinished work and set-aside artifacts stay
    refused: bool = False  # let go of what refused releases need


def duration(text: str) -> float:
    """Seconds of "30m", "12h", "7d" or "2w". Raises UserError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip())
    if not match:
        raise UserError(f"--older-than {text!r} is no length of time", "write it as 30m, 12h, 7d or 2w")
    return float(match[1]) * _UNITS[match[2]]


def collect_garbage(store: Store, wishes: Wishes, console: Console, *, delete: bool) -> None:
    """Show what stays and what may go, and with `delete` remove that.

    Raises UserError when there is no store, RunError when a list of editions, a registry or the list of forgotten
    texts cannot be read.
    """
    if not store.root.is_dir():
        raise UserError(f"there is no store at {store.root}", "name it with --store DIR")
    with store.in_use(lambda pid: console.print(Text(f"process {pid} takes a text out of the store; waiting"))):
        read_tombstones(store.root)  # a store whose list is lost needs a backup first, which may need these artifacts
        sweep = judge(store, roots(store, wishes), referred, older_than=wishes.older_than)
        _show(store, sweep, console)
        going: list[Verdict | Leftover] = [
            *(v for v in reversed(sweep.verdicts) if v.goes),
            *sweep.leftovers,
        ]  # what was built last goes first
        total = sum(thing.size for thing in going)
        if not going:
            console.print("nothing to remove")
            return
        if not delete:
            told = (
                f"{human_bytes(total)} in {len(going):,} places would be freed; nothing has been removed: add --delete"
            )
            console.print(Text(told, style="bold"))
            return
        freed = 0
        for thing in going:
            why = clear(store, thing)
            if why:
                console.print(Text(printable(f"left {thing.path.relative_to(store.root)}: {why}"), style="yellow"))
            else:
                freed += thing.size
        console.print(Text(f"{human_bytes(freed)} freed", style="bold green"))


def roots(store: Store, wishes: Wishes) -> dict[Name, str]:
    """Why artifacts are wanted for themselves, by name; the first reason counts."""
    found: dict[Name, str] = {}
    for name, why in (*_releases(store, wishes.refused), *_editions(store), *_runs(store, wishes.keep_runs)):
        found.setdefault(name, why)
    return found


def referred(collected: Artifact) -> set[str]:
    """Content digests of the collections that hold records of this one. Raises RunError for a damaged file."""
    return set(read_parquet(collected.path / REFERENCES, ["artifact_digest"])["artifact_digest"].to_pylist())


def _releases(store: Store, refused: bool) -> Iterator[tuple[Name, str]]:
    registry = Registry(store.root)
    for recipe in registry.names():
        state = registry.read(recipe)
        for release in state.releases:
            if refused and not release.promoted:
                continue
            standing = "champion" if release.number == state.champion else "release"
            why = f"{standing} {recipe}@{release.number}"
            yield ("release", release.release_key), why
            yield ("train", release.model_key), why
            if release.export_key:
                yield ("export", release.export_key), why


def _editions(store: Store) -> Iterator[tuple[Name, str]]:
    """The newest edition of each recipe: its collections, and what it was begun from."""
    for path in sorted((store.root / "editions").glob("*.json")):
        known = read_editions(path)
        if known:
            yield from _of_edition(store, known[-1], f"newest edition of {path.stem}")


def _of_edition(store: Store, edition: Edition, why: str) -> Iterator[tuple[Name, str]]:
    parents = set(edition.parents.values())
    for artifact in store.readable("collect"):
        if artifact.manifest.provenance.params.get("edition") == edition.name or parents.intersection(artifact.digests):
            yield ("collect", artifact.key), why
    if edition.start is not None:
        yield ("train", edition.start.model_key), why
    if edition.corpus is not None:  # without it the edition's own would be another one
        yield ("curate", edition.corpus.key), why


def _runs(store: Store, keep: int) -> Iterator[tuple[Name, str]]:
    """What the newest runs of each recipe built or used, and all runs that go on now."""
    plans: list[Plan] = []
    for path in sorted((store.root / "runs").glob("*/plan.json")):
        try:
            plans.append(read_plan(store, path.parent.name))
        except RunError as error:
            raise RunError(
                f"{error.what}; it says what that run needs",
                f"restore it from a backup, or remove {path.parent}: what only that run needs may then go",
            ) from error
    newest: dict[str, int] = {}
    for plan in sorted(plans, key=lambda plan: plan.created, reverse=True):
        folder = store.root / "runs" / plan.run
        journal = RunState(folder) if (folder / JOURNAL).exists() else None
        recipe = plan.recipe["name"]
        newest[recipe] = newest.get(recipe, 0) + 1
        going = journal is not None and journal.going
        if newest[recipe] > keep and not going:
            continue
        why = f"run {plan.run[:8]} of {recipe}" + (", which is going on" if going else "")
        yield from _of_edition(store, plan.edition, why)
        if plan.start is not None:
            yield ("train", plan.start.model_key), why
        for stage in journal.stages.values() if journal else ():
            yield (stage.stage, stage.key), why
        for artifact in store.readable():
            if artifact.manifest.provenance.run == plan.run:
                yield (artifact.stage, artifact.key), why


def _show(store: Store, sweep: Sweep, console: Console) -> None:
    table = Table("artifact", "size", "age", "", "why", box=None)
    for verdict in sweep.verdicts:
        standing = Text("goes", style="yellow") if verdict.goes else Text("stays", style="dim")
        table.add_row(
            f"{verdict.stage}/{verdict.key[:12]}",
            human_bytes(verdict.size),
            _age(verdict.age),
            standing,
            Text(printable(verdict.why)),
        )
    if table.row_count:
        console.print(table)
    if sweep.leftovers:
        rest = Table("no artifact", "size", "untouched for", "", "why", box=None)
        for left in sweep.leftovers:
            name = str(left.path.relative_to(store.root))
            rest.add_row(
                Text(printable(name)), human_bytes(left.size), _age(left.age), Text("goes", style="yellow"), left.why
            )
        console.print(rest)


def _age(seconds: float) -> str:
    for unit, name in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"
