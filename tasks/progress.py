"""What a person sees while a step works: bars in a terminal or lines in a log, and the same in Prefect.

Everything told here is also in the run's log and journal (tasks/journal.py) and in Prefect's log of the run.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from storage.text import printable
from tasks.journal import log, note_event
from tasks.prefect_ui import ProgressArtifact, tell_run

EVENT_SECONDS = 2.0  # between two progress events in the journal
LINE_SECONDS = 15.0
LEVELS = {"yellow": logging.WARNING, "red": logging.ERROR}  # by style

_stop = threading.Event()
_console = Console(stderr=True, highlight=False)
_bars: Progress | None = None


@contextlib.contextmanager
def terminal(console: Console) -> Iterator[None]:
    """Show progress on this console for the length of the block: live bars when it is a terminal."""
    global _console, _bars
    before = (_console, _bars)
    _console = console
    _bars = (
        Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
        )
        if console.is_terminal
        else None
    )
    try:
        with _bars or contextlib.nullcontext():
            yield
    finally:
        _console, _bars = before


class Stopping(BaseException):
    """The run is being stopped; work in other threads ends at its next report. Nothing is lost."""


def stop_all() -> None:
    """Make every step that still works in a thread of this process end."""
    _stop.set()


def say(text: str, style: str = "") -> None:
    """One line for the person who watches; never interpreted as markup."""
    note_event("said", text=text.strip())
    _show(text, style)


def say_here(text: str) -> None:
    """One line for the terminal alone: about the run's log itself."""
    _console.print(Text(printable(text), style="yellow"), soft_wrap=True)


def _show(text: str, style: str = "") -> None:
    _keep(text, style)
    _console.print(Text(printable(text), style=style), soft_wrap=True)


def _keep(text: str, style: str = "") -> None:
    """For those who look later: in the run's log and in Prefect's."""
    log(text)
    tell_run(text, LEVELS.get(style, logging.INFO))


class Watch:
    """Progress of one step; call it like `lmcore.progress.Report`, then `end` it."""

    def __init__(self, label: str, key: str = "") -> None:
        """`label` names the step for people; `key` is its artifact's."""
        self.label = label
        self.key = key
        self.started = time.monotonic()
        self._lock = threading.Lock()
        self._row: Any = None
        self._event_at = 0.0
        self._line_at = self.started
        self._artifact = ProgressArtifact(label, say)
        self._note_event("started")

    def __call__(self, done: float, total: float | None, note: str = "") -> None:
        """Show how far the step is. Raises Stopping, in whichever thread works, after `stop_all`."""
        if _stop.is_set():
            raise Stopping
        with self._lock:
            now = time.monotonic()
            if _bars is not None:
                if self._row is None:
                    self._row = _bars.add_task(self.label, total=total, note=note)
                _bars.update(self._row, completed=done, total=total, note=note)
            if now - self._event_at >= EVENT_SECONDS:
                self._event_at = now
                self._note_event("progress", done=done, total=total, note=note)
            if now - self._line_at >= LINE_SECONDS:
                self._line_at = now
                share = f"{100 * done / total:3.0f}%  " if total else ""
                line = f"  {self.label:<26} {share}{note}"
                _keep(line) if _bars is not None else _show(line)
            if total:
                self._artifact.update(min(100.0, 100.0 * done / total), note)

    def note(self, text: str) -> None:
        """One line that stays, about this step."""
        self._note_event("note", text=text)
        _show(f"  {self.label:<26} {text}", "yellow")

    def end(self, state: str, summary: str) -> None:
        """The line that stays when the step is over."""
        with self._lock:
            if _bars is not None and self._row is not None:
                _bars.remove_task(self._row)
                self._row = None
        if state == "Completed":
            self._artifact.finish(summary)
        seconds = time.monotonic() - self.started
        self._note_event("ended", state=state, summary=summary, seconds=round(seconds, 3))
        mark, style = {"Completed": ("✓", "green"), "Reused": ("=", "cyan")}.get(state, ("✗", "red"))
        took = f"{seconds:7.1f} s" if state != "Reused" else " " * 9
        _show(f"{mark} {self.label:<26} {state:<10}{took}  {summary}", style)

    def _note_event(self, event: str, **values: Any) -> None:
        note_event(event, stage=self.label, key=self.key, **values)
