"""Stage `train`: the training process, watched."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from lmcore.progress import Report
from lmcore.train.journal import FILE, read_lines
from lmcore.train.params import Job, TrainParams, TrainRuntime
from storage.atomic import write_text
from storage.store import Artifact
from tasks.process import run_process
from tasks.step import step


def _is_pure(params: TrainParams) -> bool:
    """Whether the settings alone make the bytes: no clock, and nothing left to a probe of the machine."""
    probed = params.precision == "auto" or params.attention == "auto" or params.micro_batch is None
    return params.minutes is None and not probed


@step("train", version=1, pure=_is_pure)
def train(
    work: Path, tokens: Artifact, tokenizer: Artifact, *, params: TrainParams, runtime: TrainRuntime, report: Report
) -> dict[str, Any]:
    """Train in a process of its own; it continues from its newest checkpoint."""
    job = Job(work=work, tokens=tokens.local(), tokenizer=tokenizer.local(), params=params, runtime=runtime)
    job_file = work / "job.json"
    write_text(job_file, job.model_dump_json(indent=1))
    watcher = _Watcher(work / FILE, report)
    run_process(
        [sys.executable, "-m", "lmcore.train", str(job_file)],
        log=work / "train.log",
        error_file=work / "error.json",
        tick=watcher.tick,
    )
    return _metrics(work / "out")


class _Watcher:
    """Turns the trainer's progress lines into reports."""

    def __init__(self, path: Path, report: Report) -> None:
        self._path = path
        self._report = report
        self._size = -1

    def tick(self) -> None:
        """Report the newest line, if there is a new one."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if size == self._size:
            return
        self._size = size
        lines = [line for line in read_lines(self._path) if "step" in line and "loss" in line]
        if not lines:
            return
        at = lines[-1]
        left = int(at.get("eta_seconds") or 0)
        self._report(
            at["progress"],
            1.0,
            f"step {at['step']:,}  {at['bits_per_byte']:.3f} bits/byte  {at['tokens_per_second']:,.0f} tokens/s  "
            f"{left // 60}:{left % 60:02d} left",
        )


def _metrics(out: Path) -> dict[str, Any]:
    training = json.loads((out / "provenance" / "training.json").read_text(encoding="utf-8"))
    ledger = json.loads((out / "ledger.json").read_text(encoding="utf-8"))
    names = ("steps", "tokens", "loss", "bits_per_byte", "seconds", "tokens_per_second", "resumes")
    return {"parameters": ledger["total"]} | {name: training[name] for name in names if name in training}
