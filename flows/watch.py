"""`collect-train watch`: a run as it goes, with the curve of its training. On a finished run, how it ended."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from flows.curve import draw_curve
from flows.planned import Planned
from flows.runs import clock, continuing, headline, stage_table
from flows.runstate import RunState, find_run
from flows.training import TrainingView
from storage.store import Store
from storage.text import printable
from tasks.journal import LOG, Tail

FRAME_SECONDS = 0.5
LINE_SECONDS = 5.0  # between two lines about training where there is no terminal
CURVE_WIDTH, CURVE_HEIGHT = 76, 8
SAMPLE_LENGTH = 300  # characters of a continued prompt


def watch_run(store: Store, name: str, console: Console) -> None:
    """Show the run of this name (the newest without one) until it is over; plain lines when there is no terminal."""
    run = RunState(find_run(store, name))
    if console.is_terminal:
        _screen(store, run, console)
    else:
        _lines(store, run, console)


def training_lines(view: TrainingView, width: int) -> list[Text]:
    """A training in words, as a curve, and by what the model makes of its prompts; empty before its first step."""
    if not view.newest:
        return []
    curve = draw_curve(
        view.bits,
        min(width, CURVE_WIDTH),
        CURVE_HEIGHT,
        (f"step {view.steps[0]:,}", f"step {view.steps[-1]:,}") if view.steps else ("", ""),
    )
    lines = [Text(_figures(view.newest), style="bold"), Text("bits per byte of the training batches", style="dim")]
    lines += [Text(line, style="cyan") for line in curve]
    if view.validation:
        lines.append(Text(f"validation: {view.validation[1]:.4f} bits per byte at step {view.validation[0]:,}"))
    for sample in view.samples:
        said = printable(sample.text).replace("\n", " ")[:SAMPLE_LENGTH]
        lines.append(
            Text.assemble(
                (f"at step {view.sampled_at:,}: ", "dim"), (printable(sample.prompt), "bold"), (said, "italic")
            )
        )
    return lines


def _screen(store: Store, run: RunState, console: Console) -> None:
    planned, view = Planned(store), None
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            over = run.over
            run.update()
            view = _view(store, run, view)
            live.update(_frame(run, planned, view, console.width), refresh=True)
            if over:
                return
            time.sleep(FRAME_SECONDS)


def _frame(run: RunState, planned: Planned, view: TrainingView | None, width: int) -> RenderableType:
    parts: list[RenderableType] = [headline(run), stage_table(run, planned, width)]
    parts += training_lines(view, width) if view is not None else []
    if run.state in ("Failed", "Stopped", "interrupted"):
        what = run.end["what"] if run.end else "its process is gone"
        parts += [Text(printable(what), style="red"), Text(f"to continue: {printable(continuing(run))}")]
    return Group(*parts)


def _lines(store: Store, run: RunState, console: Console) -> None:
    """The run's log as it grows, and between its lines how training goes."""
    tail, view, told_at, told_step = Tail(run.folder / LOG), None, 0.0, 0
    while True:
        over = run.over
        run.update()
        for line in tail.new().decode("utf-8", "replace").splitlines():
            _print(console, line)
        view = _view(store, run, view)
        if view is not None and view.newest and (over or time.monotonic() - told_at >= LINE_SECONDS):
            told_at = time.monotonic()
            if view.newest["step"] != told_step:
                told_step = view.newest["step"]
                _print(console, f"train: {_figures(view.newest)}")
        if over:
            for text in training_lines(view, CURVE_WIDTH)[1:] if view is not None else []:
                _print(console, text.plain)
            return
        time.sleep(FRAME_SECONDS)


def _view(store: Store, run: RunState, view: TrainingView | None) -> TrainingView | None:
    """What can be seen of the run's training by now; a new view when it trains another model."""
    stage = next((stage for stage in reversed(run.stages.values()) if stage.stage == "train"), None)
    if stage is None:
        return None
    if view is None or view.key != stage.key:
        view = TrainingView(store, stage)
    view.update()
    return view


def _figures(line: dict[str, Any]) -> str:
    figures = [f"step {line['step']:,}"]
    for name, shape, unit in (
        ("loss", ".3f", "loss"),
        ("bits_per_byte", ".3f", "bits per byte"),
        ("tokens_per_second", ",.0f", "tokens/s"),
        ("lr", ".2g", "lr"),
    ):
        if line.get(name) is not None:
            value = format(line[name], shape)
            figures.append(f"{unit} {value}" if name in ("loss", "lr") else f"{value} {unit}")
    if line.get("eta_seconds"):
        figures.append(f"{clock(line['eta_seconds'])} left")
    return "   ".join(figures)


def _print(console: Console, text: str) -> None:
    console.print(Text(printable(text)), soft_wrap=True)
