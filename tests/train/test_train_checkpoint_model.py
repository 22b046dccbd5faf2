"""A checkpoint of a training as a model: the weights in it, with the shape and vocabulary of what it lies in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lmcore.generate.load import load
from lmcore.models.io import load_model, model_of
from lmcore.tokenizer import load_tokenizer
from lmcore.train.loop import Stopped, train
from lmcore.train.params import Job
from storage.atomic import write_text
from storage.errors import CollectTrainError, RunError, UserError

IDS = torch.arange(32)[None] % 320


def stop(values, after):
    """A run told to stop after a step, with the job.json that `tasks.trainer` leaves; gives its checkpoint."""
    job = Job.model_validate(values)
    calls = iter([False] * after + [True])
    with pytest.raises(Stopped):
        train(job, stopped=lambda: next(calls))
    write_text(job.work / "job.json", job.model_dump_json(indent=1))
    return job.work / "checkpoints" / f"step-{after:08d}"


@torch.no_grad()
def logits(model):
    return model(IDS)


def test_a_stopped_run_can_be_asked(job):
    values = job(milestone_every=4)
    folder = stop(values, 8)
    loaded, params = load(folder), Job.model_validate(values).params
    vocabulary = load_tokenizer(Path(values["tokenizer"]))
    wanted = model_of(folder, params.model, vocabulary.vocab_size, load_file(folder / "model.safetensors"))
    assert torch.equal(logits(loaded.model), logits(wanted))
    assert torch.equal(logits(loaded.model), logits(load_model(folder.parents[1] / "milestones" / "step_8")))
    assert loaded.tokenizer.to_json() == vocabulary.to_json()
    file = loaded.info()["file"]
    assert file == {
        "format": "checkpoint", "step": 8, "tokens": 8 * 128, "progress": "66.7%", "dtype": "F32",
        "bytes": (folder / "model.safetensors").stat().st_size, "adapters": None, "optimizer_inside": True,
    }  # fmt: skip
    milestone = load(folder.parents[1] / "milestones" / "step_8")  # the vocabulary is that of the job
    assert milestone.generate("The", temperature=0) == loaded.generate("The", temperature=0) != ""
    train(Job.model_validate(values))  # goes on as if nobody had looked
    assert not torch.equal(logits(load(folder.parents[1] / "checkpoints/step-00000012").model), logits(wanted))


def test_averaged_weights_are_those_that_the_run_would_leave(job):
    shared = {"optimizer": "schedule_free", "schedule": "constant", "warmup": 0, "lr": 0.02}
    folder = stop(job("long", **shared), 8)
    short = job("short", steps=8, **shared)
    train(Job.model_validate(short))
    assert torch.equal(logits(load(folder).model), logits(load(Path(short["work"]) / "out").model))


def test_a_checkpoint_that_a_run_kept(job):
    values = job(runtime={"keep_state": True, "keep_best": True})
    train(Job.model_validate(values))
    out = shutil.move(Path(values["work"]) / "out", Path(values["work"]).parent / "KEY")
    kept = Path(out) / "provenance/checkpoint/step-00000012"
    assert torch.equal(logits(load(kept).model), logits(load(out).model))
    (best,) = (Path(out) / "provenance/best").iterdir()
    assert load(best).info()["file"]["step"] == int(best.name.removeprefix("step-"))


@pytest.mark.slow
def test_adapters_are_merged_into_what_they_were_trained_on(job):
    base = job("base", steps=4)
    train(Job.model_validate(base))
    lora = {"lora": {"r": 4, "alpha": 8, "targets": ["qkv", "down"]}, "lr": 1e-2, "milestone_every": 6}
    folder = stop(job("adapted", start_from=str(Path(base["work"]) / "out"), **lora), 6)
    loaded = load(folder)
    assert torch.equal(logits(loaded.model), logits(load_model(folder.parents[1] / "milestones/step_6")))
    assert "merged" in loaded.info()["file"]["adapters"]
    alone = folder.parents[2] / "KEY" / "provenance" / "checkpoint" / "step-00000006"
    shutil.copytree(folder, alone)
    shutil.copytree(Path(base["work"]) / "out", folder.parents[2] / "KEY", dirs_exist_ok=True)
    with pytest.raises(UserError, match="holds adapters alone"):
        load(alone)


def test_a_store_that_was_moved(job, tmp_path):
    values = job()
    tokenizer = tmp_path / "store" / "tokenizer" / "KEY"
    shutil.copytree(values["tokenizer"], tokenizer)
    folder = stop(values | {"work": str(tmp_path / "store/.work/train-KEY"), "tokenizer": str(tokenizer)}, 2)
    shutil.move(tmp_path / "store", tmp_path / "moved")
    moved = tmp_path / "moved" / folder.relative_to(tmp_path / "store")
    assert load(moved).tokenizer.vocab_size == 320
    shutil.rmtree(tmp_path / "moved" / "tokenizer")
    with pytest.raises(RunError, match=r"tokenizer\.json"):
        load(moved)


def test_a_folder_around_it_names_the_newest(job):
    folder = stop(job(runtime={"save_every_steps": 2}), 6)
    for around in (folder.parent, folder.parents[1]):
        with pytest.raises(UserError, match=r"has no config\.json") as error:
            load(around)
        assert str(folder) in error.value.mend


def edited(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


DAMAGES = {
    "cut": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 9), "model.safetensors has 9 bytes"),
    "other bytes": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-1] + b"\x07"),
        "other bytes than were written",
    ),
    "no JSON": (lambda f: (f / "state.json").write_text("{"), "state.json cannot be read"),
    "no model named": (
        lambda f: edited(f / "state.json", lambda s: s["files"].pop("model.safetensors")),
        "does not name model.safetensors",
    ),
    "odd state": (lambda f: edited(f / "state.json", lambda s: s.update(state={"params": 3})), "with other settings"),
    "another format": (lambda f: edited(f / "state.json", lambda s: s.update(format=9)), "checkpoint format 9"),
    "no job": (lambda f: (f.parents[1] / "job.json").unlink(), "nothing says which model"),
    "damaged job": (lambda f: (f.parents[1] / "job.json").write_text("{}"), "job.json cannot be read: Field required"),
    "another job": (
        lambda f: edited(f.parents[1] / "job.json", lambda j: j["params"]["model"].update(n_heads=4)),
        "with other settings",
    ),
}


def test_what_is_damaged_or_alone_is_one_message(job, tmp_path):
    whole = stop(job(), 2)
    for name, (damage, told) in DAMAGES.items():
        work = shutil.copytree(whole.parents[1], tmp_path / name)
        damage(work / "checkpoints" / whole.name)
        with pytest.raises(CollectTrainError, match=told) as error:
            load(work / "checkpoints" / whole.name)
        assert error.value.mend, name
        assert "\n" not in error.value.what, name
    (whole / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no config\.json"):
        load(whole)
