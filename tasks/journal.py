"""What a run leaves about itself: `runs/<run>/journal.jsonl` for programs, `runs/<run>/run.log` for people.

Both only ever grow, over all attempts of a run. A line is one write to a file opened for appending, so that threads
and processes may write at once, and nothing that was written is lost when the process is killed. Every line of the
journal has `at` (UTC) and `event`:

    attempt    a process begins or goes on: number, recipe, edition, first and last stage, command, deployed, and the
               process (pid, born, host, resources)
    started    a stage: stage (its label, "collect site"), key
    progress   of a stage: done, total (null: unknown), note; at most one every two seconds
    process    a stage has started a process of its own: the process, as above
    note       something about a stage that a person should see: text
    said       something about no stage: text
    ended      a stage: state, summary, seconds
    end        the attempt: state, what, mend, seconds, and recipe and edition again

Neither holds a secret (storage/redact.py). Whoever reads the journal does it here: a line that is cut short or is
not such an event, which a full disk or a careless hand may leave, is left out. Knows no Prefect.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any

from lmcore.train.journal import parse_lines
from storage.atomic import disk_errors
from storage.redact import blank_secrets, blank_values
from storage.store import STAGES
from storage.text import printable

JOURNAL, LOG = "journal.jsonl", "run.log"
_TAIL_BYTES = 65_536  # far more than the last event

_PIDS, _LARGEST = 2**31, 1e15
_NUMBER = (int, float)
_PROCESS: dict[str, tuple[type, ...]] = {"pid": (int,), "born": (*_NUMBER, NoneType), "host": (str,)}
_RUN: dict[str, tuple[type, ...]] = {"recipe": (str,), "edition": (str,)}
_STAGE: dict[str, tuple[type, ...]] = {"stage": (str,), "key": (str,)}
_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {  # what readers rely on, by event
    "attempt": {
        **_RUN, **_PROCESS, "number": (int,), "first": (str,), "last": (str,), "command": (str,), "deployed": (bool,)
    },
    "started": _STAGE,
    "note": _STAGE,
    "progress": {**_STAGE, "done": _NUMBER, "total": (*_NUMBER, NoneType), "note": (str,)},
    "process": {"stage": (str,), **_PROCESS},
    "ended": {**_STAGE, "state": (str,), "summary": (str,), "seconds": _NUMBER},
    "end": {**_RUN, "state": (str,), "what": (str,), "mend": (str,), "seconds": _NUMBER},
}  # fmt: skip

_current: RunJournal | None = None


class RunJournal:
    """Appends to the two files of one run. Safe for threads.

    A disk that refuses does not stop the run: `tell` is called once with a line that says so, and what comes later
    is written as soon as the disk lets it.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        """Raises StorageError when the files cannot be opened at all."""
        self._tell = tell
        self._told = self._closed = False
        self._lock = threading.Lock()
        self._lines = _Lines(folder / JOURNAL)
        self._log = _Lines(folder / LOG)

    def event(self, event: str, **values: Any) -> None:
        """Append one event to the journal."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        line = {"at": at, "event": event, **blank_values(finite)}
        self._append(self._lines, json.dumps(line, ensure_ascii=False, allow_nan=False))

    def log(self, text: str) -> None:
        """Append what a person is told to the log, each line with the time."""
        at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        for line in printable(blank_secrets(text)).splitlines():
            self._append(self._log, f"{at}  {line}")

    def close(self) -> None:
        """Close the files; what a thread that is still being stopped tells later is left out."""
        with self._lock:
            self._closed = True
            self._lines.close()
            self._log.close()

    def _append(self, file: _Lines, line: str) -> None:
        with self._lock:
            if self._closed:
                return
            try:
                file.append(line)
                return
            except OSError as error:
                told, self._told = self._told, True
                reason = error.strerror
        if not told:
            self._tell(f"{file.path} is not written: {reason}; the run goes on")


class _Lines:
    """A file that whole lines are appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        size = os.fstat(self._file).st_size
        self._cut = bool(size) and os.pread(self._file, 1, size - 1) != b"\n"  # by a kill or a full disk

    def append(self, line: str) -> None:
        data = (b"\n" if self._cut else b"") + line.encode("utf-8", "backslashreplace") + b"\n"
        written = os.write(self._file, data)
        self._cut = written < len(data)
        if self._cut:
            os.write(self._file, data[written:])  # a full disk says so here
            self._cut = False

    def close(self) -> None:
        os.close(self._file)


class Tail:
    """What is added to a file that grows, whole lines at a time. The file need not be there yet."""

    def __init__(self, path: Path, *, at_end: bool = False) -> None:
        """`at_end` leaves out what is there already."""
        self.path = path
        self._read = path.stat().st_size if at_end and path.exists() else 0

    def new(self) -> bytes:
        """The whole lines that were added since the last call."""
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_size < self._read:
                    self._read = 0  # another file of this name
                file.seek(self._read)
                whole, end, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return b""
        self._read += len(whole) + len(end)
        return whole + end

    def events(self) -> list[dict[str, Any]]:
        """The same as JSON objects; lines that a kill cut short are left out."""
        return parse_lines(self.new())


@contextlib.contextmanager
def recording(journal: RunJournal) -> Iterator[None]:
    """Make `note_event` and `log` of this process write to this journal for the length of the block."""
    global _current
    before, _current = _current, journal
    try:
        yield
    finally:
        _current = before
        journal.close()


def note_event(event: str, **values: Any) -> None:
    """Append an event to the journal of the run that this process works for; nothing when there is none."""
    if _current is not None:
        _current.event(event, **values)


def log(text: str) -> None:
    """Append lines to that run's log, for those who read it later and not for the terminal."""
    if _current is not None:
        _current.log(text)


def last_event(folder: Path) -> dict[str, Any] | None:
    """The newest event of a run's journal however long; None when it has none."""
    try:
        with open(folder / JOURNAL, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            events = parse_events(file.read())
    except FileNotFoundError:
        return None
    return events[-1] if events else None


def read_events(folder: Path) -> list[dict[str, Any]]:
    """Every event of a run's journal."""
    return parse_events(Tail(folder / JOURNAL).new())


def parse_events(data: bytes) -> list[dict[str, Any]]:
    """The events of a journal's lines."""
    return [line for line in parse_lines(data) if _is_event(line)]


def _is_event(line: dict[str, Any]) -> bool:
    kind = line.get("event")
    fields: dict[str, tuple[type, ...]] = {"at": (str,), "event": (str,)}
    if isinstance(kind, str):
        fields |= _FIELDS.get(kind, {})
    if not all(name in line and _fits(line[name], types) for name, types in fields.items()):
        return False
    try:
        known = datetime.fromisoformat(line["at"]).tzinfo is not None
    except ValueError:
        return False
    return known and line.get("last", STAGES[-1]) in STAGES and 0 < line.get("pid", 1) < _PIDS


def _fits(value: Any, types: tuple[type, ...]) -> bool:
    if isinstance(value, _NUMBER) and not isinstance(value, bool):
        return isinstance(value, types) and abs(value) < _LARGEST  # no NaN, no Infinity either
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))
