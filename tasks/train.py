"""Stage `train`: the training process, watched."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmcore.progress import Report
from lmcore.train.journal import FILE
from lmcore.train.params import Job, TrainParams, TrainRuntime
from storage.atomic import write_text
from storage.errors import CollectTrainError
from storage.store import Artifact
from tasks.alive import describe
from tasks.journal import Tail, log, note_event
from tasks.process import run_process
from tasks.progress import say
from tasks.step import step

TOLD = ("resumed", "checkpoint-damaged", "skipped", "no-validation")  # the trainer's events that a person should see
LOGGED_LINES = 20  # of a training process that failed


def _is_pure(params: TrainParams) -> bool:
    """Whether the settings alone make the bytes: no clock, and nothing left to a probe of the machine."""
    probed = params.precision == "auto" or params.attention == "auto" or params.micro_batch is None
    return params.minutes is None and not probed


@step("train", version=1, pure=_is_pure)
def train(
    work: Path,
    tokens: Artifact,
    tokenizer: Artifact,
    start: Sequence[Artifact] = (),
    *,
    params: TrainParams,
    runtime: TrainRuntime,
    report: Report,
) -> dict[str, Any]:
    """Train in a process of its own; it continues from its newest checkpoint.

    `start` holds the model whose weights are the first ones, or nothing: then they are random.
    """
    job = Job(
        work=work,
        tokens=tokens.local(),
        tokenizer=tokenizer.local(),
        start_from=start[0].local() if start else None,
        params=params,
        runtime=runtime,
    )
    job_file = work / "job.json"
    write_text(job_file, job.model_dump_json(indent=1))
    watcher = _Watcher(work / FILE, report)
    try:
        run_process(
            [sys.executable, "-m", "lmcore.train", str(job_file)],
            log=work / "train.log",
            error_file=work / "error.json",
            tick=watcher.tick,
            on_start=lambda pid: note_event("process", stage="train", **describe(pid)),
        )
    except CollectTrainError:
        _log_end_of(work / "train.log")
        raise
    return _metrics(work / "out")


class _Watcher:
    """Turns the lines that the trainer adds to its progress file into reports, and what happened once into notes."""

    def __init__(self, path: Path, report: Report) -> None:
        self._tail = Tail(path, at_end=True)  # what is there was told when it happened, to an earlier attempt
        self._report = report

    def tick(self) -> None:
        """Tell what is new."""
        lines = self._tail.events()
        for line in lines:
            if line.get("event") in TOLD:
                say(f"  {'train':<26} {line['text']}", "yellow")
        at = next((line for line in reversed(lines) if "loss" in line), None)
        if at is None:
            return
        left = int(at.get("eta_seconds") or 0)
        self._report(
            at["progress"],
            1.0,
            f"step {at['step']:,}  {at['bits_per_byte']:.3f} bits/byte  {at['tokens_per_second']:,.0f} tokens/s  "
            f"{left // 60}:{left % 60:02d} left",
        )


def _log_end_of(path: Path) -> None:
    """What the training process said last, for the run's log; the terminal has its error in two lines."""
    if not path.exists():  # the disk refused it
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOGGED_LINES:]
    log("\n".join([f"the end of {path}:", *(f"  | {line}" for line in lines)]))


def _metrics(out: Path) -> dict[str, Any]:
    training = json.loads((out / "provenance" / "training.json").read_text(encoding="utf-8"))
    ledger = json.loads((out / "ledger.json").read_text(encoding="utf-8"))
    names = ("steps", "tokens", "loss", "bits_per_byte", "seconds", "tokens_per_second", "resumes")
    return {"parameters": ledger["total"]} | {name: training[name] for name in names if name in training}
