"""Claims about a real training, and one real step of a shape before there is any."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from flows.trial import least_memory, make_step, projection, show_step
from lmcore.expect.finished import Finished
from lmcore.expect.metrics import METRICS
from lmcore.expect.times import Time
from lmcore.models import build
from lmcore.models.lora import adapter_parameters
from lmcore.recipe import load_recipe
from lmcore.report import RunView
from lmcore.train.loop import train
from lmcore.train.params import Job
from storage.errors import RunError, UserError
from storage.parquet import read_parquet
from storage.store import Store

RECIPE = {"name": "made", "sources": [{"name": "made", "kind": "files", "paths": ["*.txt"]}]}
SMALL = ("model.n_layers=1", "model.d_model=32", "model.n_heads=2", "model.context=32", "tokenizer.vocab_size=320")
STEP = (*SMALL, "train.batch=4", "train.micro_batch=2", "train.precision=fp32", "runtime.train.threads=1")


def finished(values):
    """A run that is no more than this training."""
    train(Job.model_validate(values))
    resolved = RECIPE | {"train": {k: v for k, v in values["params"].items() if k != "model"}}
    resolved |= {"model": values["params"]["model"]}
    out = Path(values["work"]) / "out"
    view = RunView(
        recipe="made", resolved=resolved, run="r", edition="e", started="2026-01-02T03:04:05+00:00", seconds=1.0,
        stages=[], train=out, tokens=Path(values["tokens"]), tokenizer=Path(values["tokenizer"]),
    )  # fmt: skip
    return Finished(view), out


def find(run, name, when):
    return METRICS[name].find(run, Time.parse(when))


def test_metrics_of_a_real_training(job):
    settings = {"stages": [{"share": 0.5}, {"share": 0.5, "lr_factor": 0.5}], "schedule": "constant", "warmup": 0.0}
    run, out = finished(job(steps=40, batch=16, runtime={"validate_every": 0.1, "keep_state": True}, **settings))
    table = read_parquet(out / "metrics.parquet")
    losses, each = table["loss"].to_pylist(), run.loader.steps_per_epoch
    assert 1 < each < 40, "an epoch is a part of this training"
    assert find(run, "initial_loss", "start") == losses[0] == pytest.approx(math.log(320), abs=0.3)
    assert find(run, "train_loss", "step 7") == losses[6]
    assert find(run, "train_loss", "epoch 1") == pytest.approx(sum(losses[:each]) / each)
    assert find(run, "train_loss", "end") == pytest.approx(sum(losses[-2:]) / 2)
    told = json.loads((out / "provenance" / "training.json").read_text())
    assert find(run, "train_loss", "end") == pytest.approx(told["loss"], abs=1e-6)
    assert find(run, "train_loss", "after stage 1") == losses[19]
    assert find(run, "lr", "after stage 1") == pytest.approx(2 * find(run, "lr", "end"))
    assert find(run, "peak_lr", "end") == find(run, "lr", "start")
    looks = {row["step"]: row for row in read_parquet(out / "provenance/validation.parquet").to_pylist()}
    assert find(run, "perplexity", "after stage 1") == pytest.approx(math.exp(looks[20]["loss"]))
    assert find(run, "validation_loss", "end") == looks[40]["loss"]
    assert find(run, "accuracy", "start") == looks[0]["accuracy"]
    assert find(run, "epochs", "end") == 40 / each
    assert find(run, "sequences", "end") == run.loader.n_rows
    assert find(run, "tokens_seen", "end") == 40 * 16 * 32
    assert find(run, "file_bytes", "end") == (out / "model.safetensors").stat().st_size
    assert find(run, "context", "end") == 32
    n = find(run, "parameters", "end")
    assert n == find(run, "trained_parameters", "end") == find(run, "vocab_size", "end") * 32 + n - 320 * 32
    assert find(run, "checkpoint_bytes", "end") > 2 * 4 * n


def test_adapters_are_counted_from_their_file(job):
    base = job("base", steps=2)
    train(Job.model_validate(base))
    run, out = finished(job(steps=2, start_from=str(Path(base["work"]) / "out"), lora={"r": 4, "targets": ["qkv"]}))
    params = Job.model_validate(job(lora={"r": 4, "targets": ["qkv"]})).params
    n = adapter_parameters(params.model, params.lora)
    assert find(run, "trained_parameters", "end") == n
    assert find(run, "trained_share", "end") == pytest.approx(n / (n + find(run, "parameters", "end")))
    assert (out / "adapter").is_dir()


def test_one_real_step_in_a_process_of_its_own():
    recipe = load_recipe("quickstart", [*STEP, "train.steps=1000"])
    tried = make_step(recipe, None)
    assert tried.loss == pytest.approx(tried.uniform_loss, abs=0.3)
    assert tried.uniform_loss == math.log(320)
    assert tried.admitted
    assert tried.parameters == counted(recipe)
    assert 100e6 < tried.peak_memory < 1.5e9, "that process alone"
    assert any("micro-batch 2 sequences" in " ".join(line.split()) for line in tried.plan)


def counted(recipe):
    return sum(p.numel() for p in build(recipe.model, 320, 1).parameters())


def test_what_does_not_fit_is_refused_before_it_starts(tmp_path, capsys):
    vast = ["model.d_model=16384", "model.n_heads=128", "model.n_layers=500"]
    with pytest.raises(RunError, match=r"needs at least about \S+ TB of memory, and \S+ \wB are free here"):
        show_step(Store(tmp_path), "quickstart", vast, Console())
    assert capsys.readouterr().out == ""


def test_a_step_that_outgrows_its_memory_is_told():
    recipe = load_recipe("quickstart", [*STEP, "model.d_model=2048", "train.steps=10"])
    with pytest.raises(RunError, match="memory"):
        make_step(recipe, 400_000_000)


def test_the_errors_of_the_trainer_are_handed_on():
    with pytest.raises(UserError, match=r"train\.precision is fp16"):
        make_step(load_recipe("quickstart", [*SMALL, "train.precision=fp16", "runtime.train.device=cpu"]), None)


def test_the_time_of_the_whole_run(tmp_path):
    store = Store(tmp_path)

    def told(budget):
        return projection(store, load_recipe("quickstart", [*STEP, f"train.{budget}"]), 0.5)

    assert told("steps=1000").startswith("1,000 steps: about 8 min 20 s; a million tokens take")
    assert told("tokens=128000").startswith("1,000 steps: about 8 min 20 s")
    assert told("steps=10000000").startswith("10,000,000 steps: about 57.9 days")
    assert told("minutes=2").startswith("2 minutes as set: about 240 steps")
    assert told("epochs=3").startswith("3 epochs: unknown until the text is collected")


def test_the_least_memory_of_a_small_shape_is_torch_itself():
    recipe = load_recipe("quickstart", STEP)
    assert 300e6 < least_memory(recipe) < 310e6
