"""`collect-train status`, its first part: the runs that go on now, and those that ended before they were done.

Everything is read from files and from the system's table of processes, so no Prefect server is needed.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.planned import Planned
from flows.runstate import RunState, StageState, find_run, worth_telling
from storage.store import Store
from storage.text import printable
from tasks.alive import Usage, lives, usage

NOTE_WIDTH = 110  # columns of a terminal from which there is room for notes
STYLES = {"running": "bold", "Completed": "green", "Reused": "cyan", "waiting": "dim", "Stopped": "yellow"}
STYLES |= {"interrupted": "yellow", "Failed": "red"}
_SERVER = "flows.embedded"  # the Prefect server that a run by hand starts; it does none of the work


def show_runs(store: Store, console: Console, name: str = "") -> list[RunState]:
    """The run of this name (a prefix will do), or those that go on or were left unfinished; gives them."""
    runs = [RunState(find_run(store, name))] if name else worth_telling(store)
    planned = Planned(store) if name or any(run.going for run in runs) else None
    for run in runs:
        if planned is not None and (name or run.going):
            _show(run, planned, console)
        if not run.going:
            _tell_end(run, console)
    return runs


def stage_table(run: RunState, planned: Planned, width: int, used: dict[int, Usage] | None = None) -> Table:
    """Every stage of a run, begun or to come; with `used`, also the process that works on it and what that uses."""
    now = datetime.now(UTC)
    notes = width >= NOTE_WIDTH
    table = Table(expand=notes)
    for heading in ("stage", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("%", "planned", "actual", "left", *(["PID", "CPU %", "memory"] if used is not None else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    if notes:
        table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
    for stage in run.stages.values():
        expected = planned.seconds(run, stage.label)
        cells: list[str | Text] = [
            printable(stage.label),
            Text(stage.state, style=STYLES.get(stage.state, "")),
            _percent(stage),
            clock(expected),
            "" if stage.state == "Reused" else clock(stage.took(now) if stage.state != "interrupted" else None),
            clock(planned.left(run, stage, now)),
        ]
        if used is not None:
            cells += _of_process(run, stage, used)
        cells += [printable(stage.summary or stage.note)] if notes else []
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
    if run.going:
        for label in planned.to_come(run):
            empty = [""] * (len(table.columns) - 4)
            table.add_row(
                Text(printable(label)), Text("waiting", style="dim"), "", clock(planned.seconds(run, label)), *empty
            )
    return table


def headline(run: RunState) -> Text:
    """One line about a run: what it builds, since when, by which process."""
    begun = run.begun
    again = f", attempt {begun['number']}" if begun["number"] > 1 else ""
    where = f"process {begun['pid']}" if lives(begun) is not None else f"on {begun['host']}"
    line = Text.assemble(
        (f"run {run.run}", "bold"),
        f"  {begun['recipe']}, edition {begun['edition']}{again}  ",
        (run.state, STYLES.get(run.state, "")),
    )
    if run.going:
        passed = (datetime.now(UTC) - run.began).total_seconds()
        line.append(f" since {run.began:%Y-%m-%d %H:%M:%S} UTC ({clock(passed)}), {where}")
    return line


def continuing(run: RunState) -> str:
    """How to go on with a run that ended before it was done."""
    if not run.begun["deployed"]:
        return f"{run.begun['command']}   (in the same folder)"
    return (
        f"its worker resumes it when it crashed, within minutes of `collect-train up`; else: "
        f"prefect flow-run retry {run.run}"
    )


def clock(seconds: float | None) -> str:
    """1:02 or 1:02:03; nothing for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _show(run: RunState, planned: Planned, console: Console) -> None:
    console.print(headline(run))
    used = _usage(run) if run.going else None
    console.print(stage_table(run, planned, console.width, used))


def _usage(run: RunState) -> dict[int, Usage]:
    own = [stage.process for stage in run.stages.values() if stage.process and stage.state == "running"]
    without = [process["pid"] for process in own]
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(run.begun["pid"]).children() if lives(run.begun) else []
        without += [child.pid for child in children if _SERVER in child.cmdline()]
    return usage([run.begun, *own], without)


def _of_process(run: RunState, stage: StageState, used: dict[int, Usage]) -> list[str]:
    if stage.state != "running":
        return ["", "", ""]
    process: dict[str, Any] = stage.process or run.begun
    found = used.get(process["pid"])
    if lives(process) is None:
        return [f"{process['pid']} on {process['host']}", "", ""]
    if found is None:
        return [str(process["pid"]), "gone", ""]
    return [str(process["pid"]), f"{found.cpu_percent:.0f}", f"{found.memory / 1e6:,.0f} MB"]


def _percent(stage: StageState) -> str:
    if stage.state == "Completed":
        return "100"
    return f"{100 * stage.share:.0f}" if stage.share is not None else ""


def _tell_end(run: RunState, console: Console) -> None:
    """A run that is over: how it ended, where, and how to go on."""
    begun = run.begun
    told = f"run {run.run} ({begun['recipe']}, edition {begun['edition']})"
    if run.state == "Completed":
        assert run.end is not None
        _say(console, f"{told} was completed in {clock(run.end['seconds'])}", "green")
        return
    at = [
        f"{stage.label} at {_percent(stage)} %" if stage.share and stage.share < 1 else stage.label
        for stage in run.unended()
    ]
    where = f" in {', '.join(at)}" if at else ""
    if run.end is None:
        process = f"process {begun['pid']} on {begun['host']}"
        gone = f"{process} is gone" if lives(begun) is False else f"{process} says nothing any more"
        _say(console, f"interrupted: {told}{where}; {gone}, heard last {run.heard:%Y-%m-%d %H:%M:%S} UTC", "yellow")
    else:
        what = f": {run.end['what']}" if run.end["what"] else ""
        _say(console, f"{run.state.lower()}: {told}{where}{what}", STYLES.get(run.state, ""))
    if run.end is not None and run.state == "Failed":
        _say(console, f"  to mend: {run.end['mend']}")
    _say(console, f"  to continue: {continuing(run)}")


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(printable(text), style=style), soft_wrap=True)
