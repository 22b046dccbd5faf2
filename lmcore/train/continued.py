"""A finished run taken further: its last checkpoint under another horizon, with the schedule planned anew."""

from __future__ import annotations

from dataclasses import replace

from lmcore.train import checkpoint
from lmcore.train.horizon import Horizon
from lmcore.train.run import Run, restore
from storage.errors import UserError

KEPT = "provenance/checkpoint"  # in what a run leaves, where runtime.train.keep_state asks for it
# What the weights, the optimizer's state and the order of the data hang on. The rest may be set anew.
SAME = ("model", "seed", "batch", "optimizer", "packing", "stride", "mixture", "mixture_by", "stages")


def take_up(run: Run, horizon: Horizon) -> None:
    """Make `run`, at step 0, what the run in `start_from` was at its end; progress is its share of `horizon`.

    The learning rate goes on from where the new schedule is at that share: it rises again when the old one had decayed.
    UserError when there is no checkpoint, settings or texts differ that must not, or the horizon is already reached;
    RunError for a damaged one.
    """
    job, start = run.job, run.job.start_from
    if start is None:
        raise UserError(
            "train.continues is on, and there is no run to continue", "name a finished run in train.init_from"
        )
    if job.params.lora:
        raise UserError(
            "train.continues is on, and train.lora: in a finished run the adapters are merged into the weights",
            "set train.continues=false: new adapters begin on the merged weights",
        )
    steps = checkpoint.steps_in(start / KEPT)
    if not steps:
        raise UserError(
            f"{start} has no checkpoint to continue from: it was trained without runtime.train.keep_state",
            "set train.continues=false to begin with its weights alone; or train it once more, with "
            "runtime.train.keep_state=true and another train.seed (a finished run is not trained again), and continue "
            "that with the same seed",
        )
    snapshot = checkpoint.load_step(
        start / KEPT, steps[-1], "run `collect-train verify`, or begin with train.continues=false"
    )
    if snapshot.state["params"].get("lora"):
        raise UserError(
            f"{start} was trained with train.lora: its checkpoint has adapters, which are merged into its weights now",
            "set train.continues=false: training begins on the merged weights",
        )
    theirs, ours = snapshot.state["params"], job.params.key_values()
    for name in SAME:
        if theirs.get(name) != ours.get(name):
            raise UserError(
                f"train.continues: {name} is {ours.get(name)}, and the run to continue had {theirs.get(name)}",
                f"set {name} as it was, or set train.continues=false to begin with the weights alone",
            )
    if snapshot.state.get("data") != run.data:  # the number of a batch would stand for other text
        raise UserError(
            f"train.continues: {job.tokens} is not the text that the run to continue was trained on",
            "continue on the same edition and curation, or set train.continues=false to begin with its weights alone",
        )
    restore(run, snapshot)
    at = run.at
    at.stages_done = min(at.stages_done, len(at.stage_starts) - 1)  # the last one goes on
    run.history.cut("stages", at.stages_done)
    progress = horizon.progress(at.step, at.seconds)
    if progress >= 1.0:
        raise UserError(
            f"the run to continue has {at.step:,} steps in {at.seconds / 60:.2g} minutes of training already, and the "
            f"budget is {horizon.describe()}",
            "set a larger budget",
        )
    run.at = replace(at, progress=progress, begun=at.step, ended=False)
    told = f"continuing a finished run of {at.step:,} steps, which are {progress:.0%} of {horizon.describe()}"
    if stages := job.params.stages:
        told += f"; stage {len(at.stage_starts)} of {len(stages)} goes on: no stage comes twice"
    run.journal.event("continued", told, step=at.step, progress=progress)
