"""Stage `train`: the training process, watched."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from lmcore.progress import Report
from lmcore.train.journal import FILE, parse_lines
from lmcore.train.params import Job, TrainParams, TrainRuntime
from storage.atomic import write_text
from storage.store import Artifact
from tasks.process import run_process
from tasks.progress import say
from tasks.step import step

TOLD = ("resumed", "checkpoint-damaged", "skipped", "no-validation")  # the trainer's events that a person should see


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
    """Turns the lines that the trainer adds to its progress file into reports, and what happened once into notes."""

    def __init__(self, path: Path, report: Report) -> None:
        self._path = path
        self._report = report
        self._read = path.stat().st_size if path.exists() else 0  # told when it happened, to an earlier attempt

    def tick(self) -> None:
        """Tell what is new."""
        lines = self._new_lines()
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

    def _new_lines(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        with open(self._path, "rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")[0]
        self._read += len(whole)
        return parse_lines(whole)


def _metrics(out: Path) -> dict[str, Any]:
    training = json.loads((out / "provenance" / "training.json").read_text(encoding="utf-8"))
    ledger = json.loads((out / "ledger.json").read_text(encoding="utf-8"))
    names = ("steps", "tokens", "loss", "bits_per_byte", "seconds", "tokens_per_second", "resumes")
    return {"parameters": ledger["total"]} | {name: training[name] for name in names if name in training}
