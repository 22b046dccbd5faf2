"""A training in Prefect while it goes on: the loss curve, the samples, and its epochs and checkpoints as events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from lmcore.report.words import count, duration, percent, real
from lmcore.train.journal import for_people, is_step
from tasks.prefect_ui import Page, emit, this_flow_run
from tasks.progress import say
from tasks.ui_markdown import escaped, table
from tasks.ui_pages import ABOUT, curve, samples_parts

SHOW_SECONDS = 5.0  # between two updates of the loss curve
MAX_TOLD = 10  # events below the curve, the newest
EVENTS = {  # the trainer's, and which of its values Prefect's have
    "epoch": ("epoch", "step", "progress", "mean_loss", "mean_bits_per_byte", "tokens_per_second"),
    "checkpoint": ("step", "progress", "tokens", "seconds"),
}


class TrainingPages:
    """Takes the trainer's lines and shows what they say, the curve at most every five seconds."""

    def __init__(self, before: Sequence[dict[str, Any]]) -> None:
        """`before` holds the lines of earlier attempts: their steps are part of the curve."""
        self._curve, self._samples = (Page(name, ABOUT[name], say) for name in ("loss-curve", "samples"))
        self._steps: list[float] = []
        self._bits: list[float] = []
        self._looks: list[tuple[float, float]] = []
        self._written: list[dict[str, Any]] = []
        self._told: list[str] = []
        self._now: dict[str, Any] = {}
        self._epoch = 0
        self._next = 0.0
        self._new_samples = False
        for line in before:
            self._take(line)

    def tell(self, lines: Sequence[dict[str, Any]], *, last: bool = False) -> None:
        """Take in the lines that are new, and show what they change; the `last` ones at once."""
        for line in lines:
            self._take(line)
            if values := EVENTS.get(line.get("event", "")):
                emit(f"training.{line['event']}", **{name: line[name] for name in values})
        now = time.monotonic()
        if this_flow_run() is None or not (last or now >= self._next):
            return
        if self._now:
            self._next = now + SHOW_SECONDS
            self._show_curve()
        if self._new_samples:
            self._samples.show("What it writes while it learns", *samples_parts(self._written))
            self._new_samples = False

    def _take(self, line: dict[str, Any]) -> None:
        event = line.get("event")
        if is_step(line):
            self._now = line
            if line["bits_per_byte"] is not None:  # null: it was not finite
                self._steps.append(line["step"])
                self._bits.append(line["bits_per_byte"])
        elif event in ("training", "rewound"):
            self._go_back(line["step"])
        elif event == "validation":
            self._looks.append((line["step"], line["bits_per_byte"]))
        elif event == "sample":
            self._written.append({**line, "text": line["continuation"]})
            self._new_samples = True
        elif event == "epoch":
            self._epoch = line["epoch"]
        if for_people(line):
            self._told.append(line["text"])

    def _go_back(self, step: int) -> None:
        """Forget what comes after a step: it is done again from there, and from the beginning also looked at again."""
        while self._steps and self._steps[-1] > step:
            self._steps.pop()
            self._bits.pop()
        self._looks = [look for look in self._looks if look[0] <= step and step]
        self._written = [sample for sample in self._written if sample["step"] <= step and step]

    def _show_curve(self) -> None:
        at = self._now
        facts = {
            "step": count(at["step"]),
            "done": percent(at["progress"], 1),
            "loss": real(at["loss"]),
            "bits per byte": real(at["bits_per_byte"]),
            "validation": real(self._looks[-1][1]) if self._looks else "",
            "epochs done": count(self._epoch),
            "tokens": count(at["tokens"]),
            "tokens per second": count(at["tokens_per_second"]),
            "left": duration(at["eta_seconds"]),
        }
        self._curve.show(
            f"Training, {percent(at['progress'])} done",
            table([f">{name}" for name in facts], [list(facts.values())]),
            *(f"- {escaped(text)}" for text in self._told[-MAX_TOLD:]),
            picture=curve(self._steps, self._bits, self._looks),
        )
