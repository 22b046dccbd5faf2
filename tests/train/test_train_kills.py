"""SIGKILL under every option: what is left in the end is what a run leaves that nothing happened to."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from lmcore.train.journal import read_lines
from lmcore.train.loop import Stopped, train
from lmcore.train.params import Job
from storage.errors import RunError

RISING = {"optimizer": "adamw", "lr": 2.0, "schedule": "one_cycle", "warmup": 0.99, "final_lr_share": 1.0}
# Batches of one sequence differ enough for some to be 2 % above the median of the losses before.
SPIKY = {"batch": 1, "micro_batch": 1, "steps": 40, "lr": 0.02, "muon_lr": 0.05, "spike_factor": 1.02}
DROPPING = {"n_layers": 2, "d_model": 32, "n_heads": 2, "context": 32, "dropout": 0.1}
FEATURES = {
    "schedule_free": ({"optimizer": "schedule_free", "schedule": "constant", "lr": 0.02}, {}),
    "one_cycle": ({"schedule": "one_cycle", "warmup_steps": 4, "weight_decay": 0.1, "decays": "hidden"}, {}),
    "spike_skip": (SPIKY | {"on_spike": "skip"}, {}),
    "spike_rewind": (SPIKY | {"on_spike": "rewind", "rewind_every": 8}, {}),
    "early_stop": (RISING | {"steps": 40, "early_stop": {"patience": 4, "every": 0.05, "tokens": 300}}, {}),
    "save_async": ({}, {"save_async": True, "keep_best": True, "keep_every_steps": 3}),
    "milestones": ({"milestone_every": 2, "optimizer": "schedule_free", "schedule": "constant"}, {"save_async": True}),
    "recomputed": ({}, {"activation_checkpointing": "on"}),
    "stages": (
        {"stages": [{"share": 0.3, "context": 8}, {"share": 0.3, "lr_factor": 0.5}, {"share": 0.4, "context": 16}]}, {},
    ),
    "mixture": ({"mixture": {"made": 1}, "packing": "stride"}, {}),
    "texts": ({"packing": "texts"}, {}),
    "packed": ({"packing": "best_fit", "document_mask": True, "model": DROPPING}, {}),
    "lora": ({"lora": {"r": 2, "alpha": 4, "dropout": 0.1}, "optimizer": "adamw", "lr": 0.05, "steps": 12}, {}),
}  # fmt: skip


HAPPENS = {"spike_skip": "skipped", "spike_rewind": "rewound", "early_stop": "early-stop", "stages": "stage"}


def pair(job, feature, **budget):
    """Two equal jobs with a feature: the first is to be left alone, the second to be killed."""
    params, runtime = FEATURES[feature]
    start = None
    if params.get("lora"):
        base = job("base", steps=2)
        train(Job.model_validate(base))
        start = str(Path(base["work"]) / "out")
    runtime = runtime | {"save_every_steps": 2}
    return [job(name, **{**budget, **params}, start_from=start, runtime=runtime) for name in ("straight", "killed")]


@pytest.fixture
def seed():
    chosen = random.SystemRandom().randrange(2**32)
    print(f"seed {chosen}")
    return chosen


@pytest.mark.slow
@pytest.mark.parametrize("feature", FEATURES)
def test_killed_twice_it_ends_with_the_same_bytes(job, trainer, content, seed, feature):
    straight, killed = pair(job, feature)
    train(Job.model_validate(straight))
    happened = {line.get("event") for line in read_lines(Path(straight["work"]) / "progress.jsonl")}
    assert HAPPENS.get(feature, "finished") in happened, "the feature was at work"
    for point in (f"train.step:{random.Random(seed).randint(3, 5)}", "train.checkpoint.before-rename:2"):
        assert trainer(killed, point).returncode == -signal.SIGKILL, point
    done = trainer(killed)
    assert done.returncode == 0, done.err
    assert content(killed) == content(straight)


@pytest.mark.slow
def test_a_continued_run_that_is_killed_ends_with_the_same_bytes(job, trainer, content):
    first = job("first", steps=6, runtime={"keep_state": True})
    train(Job.model_validate(first))
    start = {"start_from": str(Path(first["work"]) / "out"), "continues": True, "steps": 14}
    straight, killed = (job(name, **start, runtime={"save_every_steps": 2}) for name in ("straight", "killed"))
    train(Job.model_validate(straight))
    for point in ("train.step:1", "train.step:5"):
        assert trainer(killed, point).returncode == -signal.SIGKILL
    assert trainer(killed).returncode == 0
    assert content(killed) == content(straight)


def test_lowered_rates_survive_a_stop(job):
    settings = {"lr": 1e20, "muon_lr": 1e20, "schedule": "constant", "warmup": 0, "grad_clip": None, "on_nan": "lower"}
    straight, stopped = (
        job(name, steps=50, **settings, runtime={"validate_every": 0, "sample_at": []})
        for name in ("straight", "stopped")
    )
    with pytest.raises(RunError) as end:
        train(Job.model_validate(straight))
    calls = iter([False] * 3 + [True])
    with pytest.raises(Stopped):
        train(Job.model_validate(stopped), stopped=lambda: next(calls))
    with pytest.raises(RunError) as again:
        train(Job.model_validate(stopped))
    assert again.value.what == end.value.what
    skipped = [
        [line["text"] for line in read_lines(Path(v["work"]) / "progress.jsonl") if line.get("event") == "skipped"]
        for v in (straight, stopped)
    ]
    assert skipped[0] == skipped[1]
    assert len(skipped[0]) == 4
