"""Stage `train`: the training process, watched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmcore.progress import Report
from lmcore.train.params import Job, TrainParams, TrainRuntime, check_processes
from storage.store import Artifact
from tasks.environment import resources
from tasks.step import step
from tasks.trainer import run_trainer
from tasks.ui_pages import show_training


def _is_pure(params: TrainParams) -> bool:
    """Whether the settings alone make the bytes: no clock, and nothing left to the machine."""
    probed = params.precision == "auto" or params.attention == "auto" or params.micro_batch is None
    return params.minutes is None and not probed and params.on_oom == "fail"


@step("train", version=1, pure=_is_pure, pages=show_training)
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
        runtime=with_resources(params, runtime),
    )
    run_trainer(job, report)
    return _metrics(work / "out")


def with_resources(params: TrainParams, runtime: TrainRuntime) -> TrainRuntime:
    """`runtime` with the number of processes, and their threads, that the worker gives where the recipe says nothing.

    Raises UserError when that cannot be: several nodes, or more processes than sequences in a step.
    """
    given = resources()
    processes = runtime.processes or given.processes
    check_processes(params, processes)
    threads = runtime.threads or (given.threads if processes > 1 else 0)  # one process reads OMP_NUM_THREADS itself
    return runtime.model_copy(update={"processes": processes, "threads": threads})


def _metrics(out: Path) -> dict[str, Any]:
    training = json.loads((out / "provenance" / "training.json").read_text(encoding="utf-8"))
    ledger = json.loads((out / "ledger.json").read_text(encoding="utf-8"))
    names = ("steps", "tokens", "loss", "bits_per_byte", "seconds", "tokens_per_second", "resumes")
    return {"parameters": ledger["total"]} | {name: training[name] for name in names if name in training}
