"""What a run tells while it works: JSON lines for programs, lines for people.

`work/progress.jsonl` only ever grows, over all processes of a run, so it also counts them.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from storage.atomic import disk_errors

FILE = "progress.jsonl"
LINE_SECONDS = 1.0  # between two progress lines in the file
# Between two steps a training may be silent for so many seconds, or so many of its median steps when that is longer.
STALL_SECONDS, STALL_MEDIANS = 60.0, 20.0
# The events that a person should see wherever a training is shown: the terminal, Prefect's pages, the report. The rest
# has a place of its own there (a curve, a table) or is the trainer's own log.
FOR_PEOPLE = frozenset({
    "checkpoint-damaged", "continued", "early-stop", "epoch-looks", "finding", "levels", "no-diagnosis",
    "no-validation", "out-of-memory", "processes", "resumed", "rewound", "short-documents", "skipped", "stage",
    "stage-end", "stopped", "too-many-processes", "trivial-loss",
})  # fmt: skip
_TAIL_BYTES = 65_536  # far more than a line, also when events follow the last one


class Journal:
    """Appends to progress.jsonl and prints. A context manager."""

    def __init__(self, work: Path, print_every: float) -> None:
        self._path = work / FILE
        self.events = [line for line in read_lines(self._path) if "event" in line]
        self._print_every = print_every
        self.peak_share = 0.0  # of the machine's peak, that a token a second takes
        self._next_line = self._next_print = self._next_doing = 0.0
        self._steps: list[tuple[float, float, int, float]] = []  # loss, bits per byte, tokens, seconds
        with disk_errors(self._path):
            self._file = open(self._path, "a+b")  # noqa: SIM115 - closed by __exit__
            size = self._file.seek(0, os.SEEK_END)
            if size and os.pread(self._file.fileno(), 1, size - 1) != b"\n":
                self._file.write(b"\n")  # a kill cut the last line; the next one starts on its own

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def event(self, name: str, text: str, **values: Any) -> None:
        """Record and print something that happened once."""
        line = _plain({"event": name, "text": text, **values})
        self.events.append(line)
        self._append(line)
        print(text, flush=True)

    def doing(self, what: str) -> None:
        """Record that something other than a step is at work; who waits for the next step then has more patience.

        Call it before, and again while it lasts.
        """
        now = time.monotonic()
        if now >= self._next_doing:
            self._append({"doing": what})
            self._next_doing = now + LINE_SECONDS

    def step(self, line: dict[str, Any], tokens: int, seconds: float, *, last: bool = False) -> None:
        """Note one step; when enough time has passed since the last line, or at the `last`, record and print one.

        The line has the means of loss and bits per byte, the speed, and the slowest step since the line before.
        """
        self._steps.append((line["loss"], line["bits_per_byte"], tokens, seconds))
        now = time.monotonic()
        if not last and now < self._next_line:
            return
        self._next_line = now + LINE_SECONDS
        losses, bits, counts, times = zip(*self._steps, strict=True)
        self._steps.clear()
        loss, speed = sum(losses) / len(losses), sum(counts) / sum(times)
        line |= {"loss": loss, "bits_per_byte": sum(bits) / len(bits), "tokens_per_second": speed}
        line |= {"perplexity": math.exp(min(loss, 700.0)), "utilisation": speed * self.peak_share}
        line |= {"slowest_seconds": max(times)}
        self._append(line)
        if last or now >= self._next_print:
            self._next_print = now + self._print_every
            print(_human(line), flush=True)

    def _append(self, line: dict[str, Any]) -> None:
        self._next_doing = 0.0
        with disk_errors(self._path):
            self._file.write(json.dumps(_plain(line), ensure_ascii=False, allow_nan=False).encode() + b"\n")
            self._file.flush()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole line of a progress file; lines that a kill cut short are left out."""
    return parse_lines(path.read_bytes()) if path.exists() else []


def newest_line(path: Path) -> dict[str, Any] | None:
    """The last progress line (one with a loss) of a file however long; None before the first."""
    if not path.exists():
        return None
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = parse_lines(file.read())
    return next((line for line in reversed(lines) if is_step(line)), None)


def parse_lines(data: bytes) -> list[dict[str, Any]]:
    """The JSON objects of these lines; what is cut short is left out."""
    lines = []
    for raw in data.splitlines():
        try:
            line = json.loads(raw)
        except ValueError:
            continue  # cut by a kill, or by the start of a tail
        if isinstance(line, dict):
            lines.append(line)
    return lines


def is_step(line: dict[str, Any]) -> bool:
    """Whether a line is about steps; events, such as a look at the validation split, may have a loss as well."""
    return "loss" in line and "event" not in line


def for_people(line: dict[str, Any]) -> bool:
    """Whether a line is an event that a person should see."""
    return line.get("event") in FOR_PEOPLE


def way_kept(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines about what counts: a rewind, or the next process, takes back all that came after its step.

    What a process begins with at step 0 is all done again, the looks at step 0 included.
    """
    kept: list[dict[str, Any]] = []
    for line in lines:
        if line.get("event") in ("training", "rewound"):
            step = line["step"]
            kept = [one for one in kept if one.get("step", 0) <= step and (step or "step" not in one)]
        kept.append(line)
    return kept


def _plain(line: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it: null for numbers that are not finite."""
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in line.items()}


def _human(values: dict[str, Any]) -> str:
    left = int(values["eta_seconds"])
    return (
        f"step {values['step']:>7,}  {values['progress']:6.1%}  loss {values['loss']:.3f}  "
        f"{values['bits_per_byte']:.3f} bits/byte  {values['tokens_per_second']:>9,.0f} tokens/s  "
        f"{left // 60}:{left % 60:02d} left"
    )
