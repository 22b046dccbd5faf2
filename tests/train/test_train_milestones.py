"""Milestones: the models of step 0 and of every n-th step are left, the same whatever happened on the way."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
import torch

from lmcore.generate.load import load
from lmcore.models.io import load_model
from lmcore.tokenizer import load_tokenizer
from lmcore.train.loop import Stopped, train
from lmcore.train.milestones import found
from lmcore.train.params import Job, TrainParams
from lmcore.train.start import first_weights
from storage.errors import RunError, StorageError


def run(values, **options):
    return train(Job.model_validate(values), **options)


def left(values):
    return dict(found(Path(values["work"]) / "out" / "checkpoints"))


def test_step_0_and_every_nth_are_left_as_models(job):
    values = job(milestone_every=5)
    run(values)
    out = Path(values["work"]) / "out"
    assert list(left(values)) == [0, 5, 10]
    vocabulary = load_tokenizer(Path(values["tokenizer"])).vocab_size
    start = first_weights(Job.model_validate(values), vocabulary).state_dict()
    models = {step: load_model(folder).state_dict() for step, folder in left(values).items()}
    assert all(torch.equal(tensor, start[name]) for name, tensor in models[0].items())
    for one, other in ((models[0], models[5]), (models[5], models[10]), (models[10], load_model(out).state_dict())):
        assert not torch.equal(one["embed.weight"], other["embed.weight"])
    assert isinstance(load(left(values)[5]).generate("The", max_tokens=3), str)


@pytest.mark.parametrize(
    "settings",
    [{}, {"optimizer": "schedule_free", "schedule": "constant", "lr": 0.02}],
    ids=["muon", "schedule_free"],
)
def test_a_milestone_is_what_a_run_that_ends_there_leaves(job, settings):
    # Under a constant rate a shorter run is the begin of a longer one.
    shared = {"schedule": "constant", "warmup": 0, **settings}
    long, short = job("long", milestone_every=4, **shared), job("short", steps=8, **shared)
    run(long)
    run(short)
    mark, end = left(long)[8], Path(short["work"]) / "out"
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (mark / name).read_bytes() == (end / name).read_bytes()


def test_they_change_nothing_else(job, content):
    plain, marked = job("plain"), job("marked", milestone_every=1)
    run(plain)
    run(marked)
    assert list(left(marked)) == list(range(13))
    with_marks = content(marked)
    assert {name: with_marks[name] for name in with_marks if not name.startswith("checkpoints/")} == content(plain)
    assert with_marks["checkpoints/step_12/model.safetensors"] == with_marks["model.safetensors"]
    assert "milestone_every" not in TrainParams(steps=1).key_values()
    assert TrainParams(steps=1, milestone_every=1000).key_values()["milestone_every"] == 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", ["train.milestone.before-rename:1", "train.milestone.before-rename:2", "train.step:7", "train.before-out"]
)
def test_killed_it_ends_with_the_same_bytes(job, trainer, content, point):
    saving = {"save_every_steps": 5}
    straight, killed = (job(name, milestone_every=3, runtime=saving) for name in ("straight", "killed"))
    run(straight)
    assert trainer(killed, point).returncode == -signal.SIGKILL
    run(killed)
    assert content(killed) == content(straight)
    assert list(left(killed)) == [0, 3, 6, 9, 12]


def test_those_of_an_abandoned_way_go(job, content):
    straight, again = (job(name, milestone_every=2, runtime={"save_every_steps": 5}) for name in ("straight", "again"))
    run(straight)
    calls = iter([False] * 9 + [True])
    with pytest.raises(Stopped):
        run(again, stopped=lambda: next(calls))
    work = Path(again["work"])
    assert [step for step, _ in found(work / "milestones")] == [0, 2, 4, 6, 8]
    shutil.rmtree(work / "checkpoints" / "step-00000009")  # as where it is damaged: the one before is used
    (work / "milestones" / "step_8" / "model.safetensors").write_bytes(b"of another way")
    (work / "milestones" / "step_6" / "model.safetensors").write_bytes(b"of another way")
    calls = iter([True])
    with pytest.raises(Stopped):
        run(again, stopped=lambda: next(calls))
    assert [step for step, _ in found(work / "milestones")] == [0, 2, 4]
    run(again)
    assert content(again) == content(straight)


def test_after_a_rewind_none_is_left_of_what_was_taken_back(job):
    spiky = {"batch": 1, "micro_batch": 1, "steps": 40, "lr": 0.02, "muon_lr": 0.05, "spike_factor": 1.02}
    values = job(milestone_every=4, on_spike="rewind", rewind_every=8, **spiky)
    run(values)
    events = (Path(values["work"]) / "progress.jsonl").read_text()
    assert '"rewound"' in events
    assert list(left(values)) == list(range(0, 41, 4))
    last = Path(values["work"]) / "out" / "model.safetensors"
    assert (left(values)[40] / "model.safetensors").read_bytes() == last.read_bytes()


def test_with_adapters_a_milestone_is_the_merged_model(job):
    base = job("base", steps=2)
    run(base)
    start = str(Path(base["work"]) / "out")
    values = job(start_from=start, milestone_every=4, lora={"r": 2, "alpha": 4}, optimizer="adamw", lr=0.05)
    run(values)
    models = [load_model(folder).state_dict() for folder in left(values).values()]
    assert all(torch.equal(tensor, models[0][name]) for name, tensor in load_model(Path(start)).state_dict().items())
    assert models[0].keys() == models[-1].keys()
    last = Path(values["work"]) / "out" / "model.safetensors"
    assert (left(values)[12] / "model.safetensors").read_bytes() == last.read_bytes()


def test_a_disk_without_room_is_told_before_the_first_step_or_by_path(job, monkeypatch):
    with pytest.raises(RunError, match=r"and the model with 1,000,000,001 milestones of [\d.]+ MiB; .* MiB are free"):
        run(job(steps=10**9, milestone_every=1))
    values = job("full", milestone_every=4)
    monkeypatch.setattr("storage.atomic._reached", __import__("collections").Counter())
    monkeypatch.setenv("COLLECT_TRAIN_FAULT", "train.milestone.before-rename:2=enospc")
    with pytest.raises(StorageError, match="disk full while writing"):
        run(values)
    monkeypatch.delenv("COLLECT_TRAIN_FAULT")
    run(values)
    assert list(left(values)) == [0, 4, 8, 12]
