"""`collect-train status`, its first part: the runs that go on now, and those that ended before they were done.

Everything is read from files and from the system's table of processes, so no Prefect server is needed.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import psutil
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from flows.planned import Planned
from flows.runstate import RunState, StageState, find_run, worth_telling
from storage.store import Store
from storage.text import printable
from tasks.alive import Usage, lives, usage

COLUMNS = ("stage", "state", "%", "planned", "actual", "left")
USED = ("PID", "CPU %", "memory")
LEAST_NEEDED = ("memory", "CPU %", "planned", "left", "actual")  # in the order in which they are left out
NOTE_WIDTH = 24  # columns that a note needs to say something
MIN_STAGE = 9  # columns; the longest stage has so many, what follows is the name of a source
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
    """Every stage of a run, begun or to come; with `used`, also the process that works on it and what that uses.

    In a narrow terminal the least needed columns are left out, so that stage, state, percent and PID stay whole.
    """
    now = datetime.now(UTC)
    rows: list[dict[str, Text]] = []
    for stage in run.stages.values():
        expected = planned.seconds(run, stage.label)
        cells = {
            "stage": printable(stage.label),
            "%": _percent(stage),
            "planned": clock(expected),
            "actual": "" if stage.state in ("Reused", "interrupted") else clock(stage.took(now)),
            "left": clock(planned.left(run, stage, now)),
            "": printable(stage.summary or stage.note),
        }
        cells |= _of_process(run, stage, used) if used is not None else {}
        styled = {"state": Text(printable(stage.state), style=STYLES.get(stage.state, ""))}
        rows.append({name: Text(cell) for name, cell in cells.items()} | styled)
    for label in planned.to_come(run) if run.going else ():
        told = {"stage": printable(label), "planned": clock(planned.seconds(run, label))}
        rows.append({name: Text(cell) for name, cell in told.items()} | {"state": Text("waiting", style="dim")})
    return _fitting(rows, width, [*COLUMNS, *(USED if used is not None else ())])


def _fitting(rows: list[dict[str, Text]], width: int, headings: list[str]) -> Table:
    wide = {name: max([cell_len(name), *(row[name].cell_len for row in rows if name in row)]) for name in headings}

    def free() -> int:
        return width - 1 - sum(wide[name] + 3 for name in headings)  # a border and two spaces for each

    for name in LEAST_NEEDED:
        if free() < 0 and name in headings:
            headings.remove(name)
    if free() < 0:
        wide["stage"] = max(MIN_STAGE, wide["stage"] + free())
    notes = free() >= NOTE_WIDTH + 3
    table = Table(expand=notes)
    for name in headings:
        justify: JustifyMethod = "left" if name in ("stage", "state") else "right"
        table.add_column(name, justify=justify, no_wrap=True, width=wide[name])
    if notes:
        headings.append("")
        table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(row.get(name, Text("")) for name in headings))
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
    again = f"prefect flow-run retry {run.run}"
    if run.state == "interrupted":
        return f"its worker resumes it, within minutes of `collect-train up`; else: {again}"
    if run.state == "Stopped":  # the journal cannot tell a cancelled run from one whose worker was stopped
        return f"{again}   (cancelled; if only its worker was stopped, the next `collect-train up` does it)"
    return again


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


def _of_process(run: RunState, stage: StageState, used: dict[int, Usage]) -> dict[str, str]:
    if stage.state != "running":
        return {}
    process: dict[str, Any] = stage.process or run.begun
    found = used.get(process["pid"])
    if lives(process) is None:
        return {"PID": printable(f"{process['pid']} on {process['host']}")}
    if found is None:
        return {"PID": str(process["pid"]), "CPU %": "gone"}
    return {
        "PID": str(process["pid"]), "CPU %": f"{found.cpu_percent:.0f}", "memory": f"{found.memory / 1e6:,.0f} MB"
    }  # fmt: skip


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
