"""What must be true before the first step: enough text, and room for what the run will write."""

from __future__ import annotations

import shutil

from lmcore.tokens import Loader
from lmcore.train.horizon import Horizon
from lmcore.train.milestones import IN_WORK
from lmcore.train.optim import trainable
from lmcore.train.params import Job
from lmcore.train.run import Run
from storage.atomic import disk_errors
from storage.errors import RunError

OUT_BYTES = 2**20  # what a run leaves beside weights and tables: plan, samples, events, vocabulary
ROW_BYTES = 100  # a step's rows in the tables of a checkpoint


def check_data(job: Job, loader: Loader) -> None:
    """Raise RunError when the training text has fewer tokens or whole batches than `runtime.train` asks for."""
    batches = loader.n_rows // job.params.batch
    for name, there, least in (
        ("tokens", loader.n_tokens, job.runtime.min_tokens),
        ("batches", batches, job.runtime.min_batches),
    ):
        if there < least:
            raise RunError(
                f"{job.tokens} has {there:,} training {name}, and runtime.train.min_{name} asks for {least:,} "
                f"(a batch is {job.params.batch} sequences of {job.params.model.context} tokens)",
                f"collect more text, set a smaller train.batch or model.context, or lower runtime.train.min_{name}",
            )


def check_disk(run: Run, horizon: Horizon) -> None:
    """Raise RunError, with the sizes, when the checkpoints and the model do not fit beside what is there."""
    work, kept = run.job.work, run.job.runtime
    weights = sum(p.numel() * p.element_size() for p in run.model.parameters())
    saved = sum(p.numel() * p.element_size() for p in trainable(run.model).values())  # of adapters, where there are
    state = sum(tensor.numel() * tensor.element_size() for tensor in run.optimizer.tensors().values())
    steps = horizon.steps or 0  # a budget in minutes: nobody knows
    copies = kept.keep_checkpoints + kept.keep_best + (run.job.params.on_spike == "rewind") + 1  # one being written
    copies += steps // kept.keep_every_steps if kept.keep_every_steps else 0
    copies += kept.keep_state + kept.keep_best  # beside the model
    milestones = run.job.params.milestones(steps) + len(run.job.params.stage_names)
    need = copies * (saved + state + ROW_BYTES * steps) + 2 * weights + OUT_BYTES  # out/ is made beside the old one
    need += milestones * weights  # out/ has links to them
    with disk_errors(work):
        folders = (work / "checkpoints", work / IN_WORK)
        there = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
        free = shutil.disk_usage(work).free
    if need - there > free:
        raise RunError(
            f"{work} needs {(need - there) / 2**20:,.1f} MiB more for {copies:,} checkpoints of "
            f"{(saved + state) / 2**20:,.1f} MiB and the model"
            + (f" with {milestones:,} milestones of {weights / 2**20:,.1f} MiB" if milestones else "")
            + f"; {free / 2**20:,.1f} MiB are free",
            "free the disk, lower runtime.train.keep_checkpoints, or raise runtime.train.keep_every_steps"
            + (" or train.milestone_every" if run.job.params.milestone_every else ""),
        )
