"""What a person sees while a step works: bars in a terminal, lines in a log, progress artifacts in Prefect."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from storage.text import printable

ARTIFACT_SECONDS = 2.0
LINE_SECONDS = 15.0

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
    _console.print(Text(printable(text), style=style), soft_wrap=True)


class Watch:
    """Progress of one step; call it like `lmcore.progress.Report`, then `end` it."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.started = time.monotonic()
        self._lock = threading.Lock()
        self._row: Any = None
        self._artifact: Any = None
        self._artifact_at = 0.0
        self._line_at = self.started

    def __call__(self, done: float, total: float | None, note: str = "") -> None:
        """Show how far the step is. Raises Stopping, in whichever thread works, after `stop_all`."""
        if _stop.is_set():
            raise Stopping
        with self._lock:
            if _bars is not None:
                if self._row is None:
                    self._row = _bars.add_task(self.label, total=total, note=note)
                _bars.update(self._row, completed=done, total=total, note=note)
            elif time.monotonic() - self._line_at >= LINE_SECONDS:
                self._line_at = time.monotonic()
                share = f"{100 * done / total:3.0f}%  " if total else ""
                say(f"  {self.label:<26} {share}{note}")
            self._to_prefect(done, total, note)

    def _to_prefect(self, done: float, total: float | None, note: str) -> None:
        now = time.monotonic()
        if TaskRunContext.get() is None or not total or now - self._artifact_at < ARTIFACT_SECONDS:
            return
        self._artifact_at = now
        percent = min(100.0, 100.0 * done / total)
        if self._artifact is None:
            key = "".join(c if c.isascii() and c.isalnum() else "-" for c in self.label.lower()).strip("-")
            self._artifact = create_progress_artifact(progress=percent, key=key, description=note)
        else:
            update_progress_artifact(self._artifact, progress=percent, description=note)

    def note(self, text: str) -> None:
        """One line that stays, about this step."""
        say(f"  {self.label:<26} {text}", "yellow")

    def end(self, state: str, summary: str) -> None:
        """The line that stays when the step is over."""
        with self._lock:
            if _bars is not None and self._row is not None:
                _bars.remove_task(self._row)
                self._row = None
        seconds = time.monotonic() - self.started
        mark, style = {"Completed": ("✓", "green"), "Reused": ("=", "cyan")}.get(state, ("✗", "red"))
        took = f"{seconds:7.1f} s" if state != "Reused" else " " * 9
        say(f"{mark} {self.label:<26} {state:<10}{took}  {summary}", style)
