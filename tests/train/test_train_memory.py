"""What fits into memory: halved micro-batches, activations made anew, and the loss scale of fp16."""

from __future__ import annotations

import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.models.ledger import estimate
from lmcore.train import memory
from lmcore.train.guard import Guard
from lmcore.train.journal import read_lines
from lmcore.train.loop import train
from lmcore.train.params import Job, TrainParams
from lmcore.train.scale import GROWTH_STEPS, LossScale
from storage.digest import digest_file
from storage.errors import UserError


def run(values, **options):
    return train(Job.model_validate(values), **options)


def limited(values, tmp_path, mebibytes, fault=""):
    """Run the trainer's own process with so much memory and no more; the finished process."""
    path = tmp_path / "JOB.json"
    path.write_text(json.dumps(values))
    limit = mebibytes * 2**20
    return subprocess.run(
        [sys.executable, "-m", "lmcore.train", str(path)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLLECT_TRAIN_FAULT": fault},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def events(values, name):
    lines = read_lines(Path(values["work"]) / "progress.jsonl")
    return [line for line in lines if line.get("event") == name]


# A pass over 32 sequences keeps about 600 MiB, one over 8 a quarter of that.
WIDE = {
    "model": {"n_layers": 2, "d_model": 64, "n_heads": 8, "context": 256}, "attention": "plain",
    "batch": 32, "micro_batch": 32, "steps": 3,
}  # fmt: skip
QUIET = {"validate_every": 0, "sample_at": [], "min_batches": 0}


@pytest.mark.slow
def test_a_probe_halves_what_does_not_fit_where_the_settings_say_so(job, tmp_path):
    values = job(**WIDE | {"steps": 1}, on_oom="halve", runtime=QUIET)
    assert limited(values, tmp_path, 700).returncode == 0
    plan = json.loads((Path(values["work"]) / "plan.json").read_text())
    assert plan["micro_batch"] < 32
    assert plan["reasons"]["micro-batch"].startswith("halved")  # by the probe, or by the first step as well
    failed = limited(job("fails", **WIDE, runtime=QUIET), tmp_path, 700)
    assert failed.returncode == 1
    assert "ran out of memory; it may use 700 MiB" in failed.stderr
    found = re.search(r"set train\.micro_batch=(\d+), which the probe would let fit, or train\.on_oom=h", failed.stderr)
    assert found, failed.stderr
    advised = job("advised", **WIDE | {"steps": 1, "micro_batch": int(found[1])}, runtime=QUIET)
    assert limited(advised, tmp_path, 700).returncode == 0, "the advice helps"


def test_what_to_set_follows_from_what_is_set():
    shape = DecoderConfig(n_layers=2, d_model=32, n_heads=2, context=64)
    params = TrainParams(model=shape, batch=8, steps=1)
    halving = params.model_copy(update={"on_oom": "halve"})
    assert memory.mend(params, 8, recompute=False, fits=2).startswith(
        "set train.micro_batch=2, which the probe would let fit, or train.on_oom=halve, which finds it by itself, "
        "or set runtime.train.activation_checkpointing=on"
    )
    assert memory.mend(params, 8, recompute=True, fits=0).startswith("set train.micro_batch=1, or train.on_oom=halve")
    assert memory.mend(params, 8, recompute=True, fits=8).startswith("set train.micro_batch=4, or train.on_oom=halve")
    assert "on_oom" not in memory.mend(halving, 8, recompute=False, fits=2)
    for settings in (params, halving):
        one = memory.mend(settings, 1, recompute=False, fits=0)
        assert "micro_batch" not in one, "there is no smaller one"
        assert "on_oom" not in one
        assert "activation_checkpointing=on, or set model.context (64)" in one
        assert memory.mend(settings, 1, recompute=True).startswith("set model.context (64), model.d_model or model.n_")


@pytest.mark.slow
def test_one_sequence_that_does_not_fit_names_the_shape_and_not_the_micro_batch(job, tmp_path):
    values = job(**WIDE | {"batch": 1, "micro_batch": 1, "model": WIDE["model"] | {"context": 1344}, "steps": 1})
    failed = limited(values, tmp_path, 600)
    assert failed.returncode == 1
    assert "ran out of memory; it may use 600 MiB" in failed.stderr
    assert "set runtime.train.activation_checkpointing=on, or set model.context (1,344)" in failed.stderr
    assert "micro_batch" not in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_warm_up_that_does_not_fit_is_halved_like_a_step(job, monkeypatch):
    """The compiler is left out: what is compiled runs out of memory above two sequences, as torch says it."""

    def compiles(loss_of, *, dynamic):
        assert not dynamic

        def limited(model, batch):
            if len(batch.ids) > 2:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")
            torch.rand(3)  # like dropout
            return loss_of(model, batch)

        return limited

    monkeypatch.setattr(torch, "compile", compiles)
    digests = []
    for name in ("compiled", "plain"):
        values = job(name, batch=8, micro_batch=8, on_oom="halve", steps=2, runtime=QUIET)
        run(values | {"params": values["params"] | {"steps": 1}, "work": values["work"] + "-probed"})
        plan = json.loads((Path(values["work"] + "-probed") / "plan.json").read_text())
        Path(values["work"]).mkdir()
        plan |= {"compile": True} if name == "compiled" else {"micro_batch": 2}
        (Path(values["work"]) / "plan.json").write_text(json.dumps(plan))
        run(values)
        digests.append(digest_file(Path(values["work"]) / "out" / "model.safetensors"))
        assert json.loads((Path(values["work"]) / "plan.json").read_text())["micro_batch"] == 2
    assert [event["micro_batch"] for event in events(job("compiled"), "out-of-memory")] == [4, 2]
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_a_step_that_no_longer_fits_is_done_in_smaller_parts_and_resumes_exactly(job, tmp_path, content):
    runtime = QUIET | {"save_every_steps": 1}
    model = WIDE["model"] | {"dropout": 0.1}
    plenty, scarce, killed = (
        job(name, **WIDE | {"model": model, "steps": 2}, on_oom="halve", runtime=runtime)
        for name in ("plenty", "scarce", "killed")
    )
    assert limited(plenty, tmp_path, 6000).returncode == 0
    for values in (scarce, killed):  # the first process had more memory than those after it
        assert limited(values, tmp_path, 6000, "train.step:2").returncode == -signal.SIGKILL
    assert limited(killed, tmp_path, 550, "train.step").returncode == -signal.SIGKILL
    for values in (scarce, killed):
        assert limited(values, tmp_path, 550).returncode == 0
        assert {event["step"] for event in events(values, "out-of-memory")} == {2}
    sizes = {json.loads((Path(v["work"]) / "plan.json").read_text())["micro_batch"] for v in (scarce, killed)}
    assert len(sizes) == 1
    assert sizes < {1, 2, 4, 8, 16}
    assert content(scarce) == content(killed)
    one, other = (json.loads((Path(v["work"]) / "metrics.json").read_text()) for v in (plenty, scarce))
    assert other["loss"] == pytest.approx(one["loss"], rel=0.01)  # dropout draws by micro-batch


def test_activations_made_anew_give_the_same_gradients():
    config = DecoderConfig(n_layers=2, d_model=32, n_heads=2, context=16, dropout=0.1)
    ids = torch.randint(64, (3, 16), generator=torch.Generator().manual_seed(1))
    gradients = []
    for recompute in (False, True):
        model = build(config, 64, 1).train()
        model.recompute = recompute
        torch.manual_seed(2)
        model(ids).float().square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())


def test_a_run_with_activations_made_anew_ends_with_the_same_bytes_and_says_so(job, content, capsys):
    kept, anew = job("kept"), job("anew", runtime={"activation_checkpointing": "on"})
    run(kept)
    run(anew)
    assert content(kept) == content(anew)
    assert "activations made anew in the backward pass" in capsys.readouterr().out


def test_activations_made_anew_need_less_memory_by_the_ledger():
    ledger = estimate(DecoderConfig(n_layers=12, d_model=64, n_heads=4, context=128), 320)
    kept, anew = (ledger.training_memory(8, recompute=recompute)["activations"] for recompute in (False, True))
    assert anew < kept / 2


def test_fp16_is_refused_where_there_is_no_cuda(job):
    with pytest.raises(UserError, match=r"train\.precision is fp16, which is for CUDA, and this run is on cpu"):
        run(job(precision="fp16"))


def test_a_scaled_loss_changes_no_bit_and_an_overflow_is_left_out_and_halves_it():
    from test_train_loop import batch_of, one_step, start

    config = DecoderConfig(n_layers=1, d_model=16, n_heads=1, context=16)
    tokens = torch.randint(64, (2, 17), generator=torch.Generator().manual_seed(7))
    plain, scaled = (start(TrainParams(model=config, batch=2, steps=1, optimizer="adamw"), 2) for _ in range(2))
    scaled.scale = LossScale()
    numbers = [one_step(going, batch_of(tokens), 1.0) for going in (plain, scaled)]
    assert numbers[1] == pytest.approx(numbers[0], rel=1e-6)
    before = {name: p.detach().clone() for name, p in scaled.model.named_parameters()}
    assert all(torch.allclose(p, before[name], atol=1e-5) for name, p in plain.model.named_parameters())
    scaled.scale.value = 2.0**120
    with torch.no_grad():
        scaled.model.norm.weight *= 2.0**14  # a gradient of some 2**10, times 2**120, is no float32
    before["norm.weight"] = scaled.model.norm.weight.detach().clone()
    loss, _, norm, admitted = one_step(scaled, batch_of(tokens), 1.0)
    assert math.isfinite(loss)
    assert not math.isfinite(norm)
    assert not admitted
    assert scaled.scale.value == 2.0**119
    assert scaled.guard.state() == {"in_a_row": 0, "skipped": 1}
    assert all(torch.equal(p, before[name]) for name, p in scaled.model.named_parameters())


def test_the_scale_grows_again_and_leaves_real_divergence_to_the_guard():
    scale = LossScale(2.0**10, GROWTH_STEPS - 2)
    assert scale.fits(1.0, 1.0)
    assert LossScale(**scale.state()).state() == scale.state()
    assert scale.fits(1.0, 1.0)
    assert scale.state() == {"value": 2.0**11, "steps": 0}
    assert scale.fits(math.nan, math.nan), "the guard's matter"
    assert LossScale(1.0).fits(1.0, math.inf), "nothing left to halve"
    guard = Guard()
    assert not guard.overflowed()
    assert guard.skipped == 1
