"""The loop in this process: what it leaves, golden losses, cadences, starts, wrong data."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.functional import cross_entropy

from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.models.io import load_model
from lmcore.tokenizer import load_tokenizer
from lmcore.tokens import Loader, TokenBatch
from lmcore.train.guard import Guard
from lmcore.train.history import History
from lmcore.train.journal import read_lines
from lmcore.train.loop import Stopped, train
from lmcore.train.optim import Optimizer
from lmcore.train.params import Job, TrainParams
from lmcore.train.plan import Plan
from lmcore.train.run import Position, Run
from lmcore.train.step import one_step
from storage.errors import RunError, StorageError, UserError

OUT = {"config.json", "ledger.json", "metrics.parquet", "model.safetensors", "tokenizer.json"}
PROVENANCE = {
    "plan.json", "samples.parquet", "sources.parquet", "timings.parquet", "training.json", "validation.parquet",
}  # fmt: skip


def run(values, **options):
    return train(Job.model_validate(values), **options)


def out(values):
    return Path(values["work"]) / "out"


def rows(values, name):
    return pq.read_table(out(values) / name).to_pylist()


def test_what_a_run_leaves(job, content):
    values = job(steps=20)
    metrics = run(values)
    assert set(content(values)) == OUT
    assert {path.name for path in (out(values) / "provenance").iterdir()} == PROVENANCE

    steps = rows(values, "metrics.parquet")
    assert [row["step"] for row in steps] == list(range(1, 21))
    assert [row["tokens"] for row in steps] == [128 * step for step in range(1, 21)]
    assert [row["progress"] for row in steps] == [step / 20 for step in range(1, 21)]
    assert steps[0]["loss"] == pytest.approx(np.log(320), abs=0.3)
    assert steps[-1]["loss"] < steps[0]["loss"] - 1
    assert steps[-1]["lr"] == pytest.approx(0.004 * 0.025 / 0.6)
    assert not any(row["skipped"] for row in steps)

    model = load_model(out(values))
    assert model.vocab_size == load_tokenizer(out(values)).vocab_size == 320
    assert json.loads((out(values) / "ledger.json").read_text())["total"] == metrics["parameters"]

    assert [row["step"] for row in rows(values, "provenance/timings.parquet")] == list(range(1, 21))
    looks = rows(values, "provenance/validation.parquet")
    assert [row["step"] for row in looks] == list(range(0, 21, 2))
    assert looks[-1]["bits_per_byte"] == metrics["val_bits_per_byte"] < looks[0]["bits_per_byte"]
    samples = rows(values, "provenance/samples.parquet")
    assert [row["step"] for row in samples] == [0, 2, 5, 10, 15, 20]
    assert {row["prompt"] for row in samples} == {"The"}
    training = json.loads((out(values) / "provenance" / "training.json").read_text())
    assert training["resumes"] == 0
    assert [event["event"] for event in training["events"]][:3] == ["probe", "plan", "training"]
    plan = json.loads((out(values) / "provenance" / "plan.json").read_text())
    assert (plan["threads"], plan["precision"], plan["micro_batch"]) == (1, "fp32", 2)
    assert metrics == json.loads((Path(values["work"]) / "metrics.json").read_text())
    lines = read_lines(Path(values["work"]) / "progress.jsonl")
    told = [(line["step"], line["prompt"], line["continuation"]) for line in lines if line.get("event") == "sample"]
    assert told == [(row["step"], row["prompt"], row["text"]) for row in samples], "to be seen while it trains"
    assert lines[-1]["event"] == "finished"
    assert lines[-1]["metrics"] == metrics


def test_bits_per_byte_leaves_out_the_specials_and_the_loss_does_not(job):
    values = job(steps=1)
    run(values)
    tokenizer = load_tokenizer(Path(values["tokenizer"]))
    lengths = tokenizer.byte_length(np.arange(320))
    batch = Loader(Path(values["tokens"]), "train", batch=4, context=32, seed=1, tokenizer_bytes=lengths).batch(0)
    model = build(DecoderConfig(**values["params"]["model"]), 320, 1)
    with torch.no_grad():
        nats = cross_entropy(model(batch.ids).flatten(0, 1), batch.targets.flatten(), reduction="none")
    of_bytes = nats[torch.from_numpy(lengths)[batch.targets.flatten()] > 0].sum() / np.log(2)
    (row,) = rows(values, "metrics.parquet")
    assert row["loss"] == pytest.approx(float(nats.mean()), rel=1e-6)
    assert row["bits_per_byte"] == pytest.approx(float(of_bytes) / int(lengths[batch.targets].sum()), rel=1e-6)


# 20 steps in fp32 on one thread, exact (==) on one machine, also in another process. Other kernels (AVX-512, SSE) were
# seen to differ by 3e-7 of the value, so 1e-6 for these figures; what is not meant to be numerical leaves them alone.
GOLDEN = {
    "muon": [
        4.17594624, 4.13422012, 4.09758484, 4.07371473, 4.04342699, 4.05108106, 4.00982749, 3.94804943, 3.96809399,
        3.92929792, 3.9903692, 3.9838534, 3.92397654, 3.8957808, 3.89679813, 3.87128949, 3.86114705, 3.87019622,
        3.81337595, 3.8607254,
    ],
    "adamw": [
        4.17594624, 4.12351072, 4.12827218, 4.14184678, 4.10285473, 4.11985862, 4.10539639, 4.08825612, 4.03865266,
        4.05972958, 4.10520923, 4.08330917, 4.08279467, 4.01625991, 4.07583117, 4.01794851, 4.01943648, 4.06434739,
        3.99713099, 4.04010427,
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_golden_losses(kind):
    losses = golden_losses(kind)
    assert losses == pytest.approx(GOLDEN[kind], rel=1e-6)
    assert losses == golden_losses(kind)
    program = f"from test_train_loop import golden_losses; print(golden_losses({kind!r}))"
    there = subprocess.check_output([sys.executable, "-c", program], cwd=Path(__file__).parent)
    assert json.loads(there) == losses


def golden_losses(kind):
    """20 steps on pairs of tokens of which the second follows from the first; micro-batches of 3 and 1."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    shape = DecoderConfig(n_layers=2, d_model=32, n_heads=2, context=16)
    params = TrainParams(model=shape, batch=4, steps=20, optimizer=kind, weight_decay=0.01)
    going = start(params, micro_batch=3)
    generator = torch.Generator().manual_seed(5)
    follows = torch.randint(64, (64,), generator=generator)
    losses = []
    for step in range(20):
        tokens = torch.randint(64, (4, 17), generator=generator)
        tokens[:, 1::2] = follows[tokens[:, :-1:2]]
        losses.append(one_step(going, batch_of(tokens), 1 - step / 20)[0])
    torch.set_num_threads(threads)
    return losses


def start(params, micro_batch):
    plan = Plan(
        device="cpu", threads=1, precision="fp32", attention="sdpa", micro_batch=micro_batch, compile=False,
        allocator="", processor="", torch_version="", gflops={}, step_seconds=0, reasons={},
    )  # fmt: skip
    model = build(params.model, 64, 1).train()
    nowhere = Path("nowhere")
    job = Job(work=nowhere, tokens=nowhere, tokenizer=nowhere, params=params)
    return Run(job, plan, model, Optimizer(model, params), None, Position(), Guard(), History())


def batch_of(tokens, mask=None):
    ids, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    return TokenBatch(ids, targets, mask, torch.zeros_like(ids).int(), torch.ones_like(ids).int())


def test_micro_batches_weigh_every_token_exactly_also_under_a_mask():
    shape = DecoderConfig(n_layers=1, d_model=16, n_heads=1, context=16)
    generator = torch.Generator().manual_seed(6)
    tokens = torch.randint(64, (5, 17), generator=generator)
    mask = torch.rand(5, 16, generator=generator) < torch.linspace(0.05, 1, 5)[:, None]  # rows of unequal weight
    weights = []
    for micro_batch in (5, 2, 1):
        going = start(TrainParams(model=shape, batch=5, steps=1, optimizer="adamw"), micro_batch)
        loss, *_ = one_step(going, batch_of(tokens, mask), 0.0)
        with torch.no_grad():
            total = float(cross_entropy(going.model(tokens[:, :-1])[mask], tokens[:, 1:][mask], reduction="sum"))
        assert loss == pytest.approx(total / int(mask.sum()), rel=1e-5)
        one_step(going, batch_of(tokens, mask), 1.0)
        weights.append(going.model.embed.weight.detach())
    assert torch.allclose(weights[0], weights[1], atol=1e-5)
    assert torch.allclose(weights[0], weights[2], atol=1e-5)


def test_cadences_change_no_content(job, content):
    plain, busy, silent = job("plain"), job("busy"), job("silent")
    busy["runtime"] |= {
        "sample_at": [0.1 * n for n in range(11)], "validate_every": 0.05, "log_every_seconds": 0,
        "save_every_steps": 1, "save_every_seconds": 0.001, "keep_checkpoints": 5, "sample_tokens": 40,
    }  # fmt: skip
    silent["runtime"] |= {"sample_at": [], "validate_every": 0, "log_every_seconds": 1e9, "save_every_seconds": 1e9}
    for values in (plain, busy, silent):
        run(values)
    assert content(plain) == content(busy) == content(silent)
    assert rows(silent, "provenance/samples.parquet") == []
    assert len(rows(busy, "provenance/samples.parquet")) == 11


def test_a_stop_saves_and_the_next_start_ends_as_if_there_had_been_none(job, content):
    straight, stopped = job("straight"), job("stopped")
    run(straight)
    calls = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        run(stopped, stopped=lambda: next(calls))
    assert not out(stopped).exists()
    metrics = run(stopped)
    assert content(straight) == content(stopped)
    assert metrics["resumes"] == 1
    assert "stopped after step 5" in (Path(stopped["work"]) / "progress.jsonl").read_text()


def test_dropout_draws_the_same_after_a_resume(job, content):
    model = job()["params"]["model"] | {"dropout": 0.2}
    straight, stopped = job("straight", model=model), job("stopped", model=model)
    run(straight)
    calls = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        run(stopped, stopped=lambda: next(calls))
    torch.manual_seed(123)
    run(stopped)
    assert content(straight) == content(stopped)


def test_a_finished_run_started_again_gives_the_same(job, content):
    values = job()
    run(values)
    before = content(values)
    shutil.rmtree(out(values))
    run(values)
    assert content(values) == before


def test_every_resume_uses_the_first_plan(job):
    values = job()
    calls = iter([False] * 3 + [True])
    with pytest.raises(Stopped):
        run(values, stopped=lambda: next(calls))
    plan = (Path(values["work"]) / "plan.json").read_bytes()
    values["runtime"]["threads"] = 2
    run(values)
    assert (out(values) / "provenance" / "plan.json").read_bytes() == plan


def test_the_probe_settles_what_is_left_open(job, capsys):
    values = job(precision="auto", attention="auto", micro_batch=None, steps=2)
    run(values)
    plan = json.loads((Path(values["work"]) / "plan.json").read_text())
    assert plan["micro_batch"] in (1, 2, 4)
    assert plan["precision"] in ("fp32", "bf16")
    assert plan["attention"] == ("plain" if plan["precision"] == "bf16" else "sdpa")
    assert plan["gflops"]["fp32"] > 0
    assert plan["step_seconds"] > 0
    assert plan["reasons"]["micro-batch"].startswith("ms a sequence 1:")
    printed = capsys.readouterr().out
    assert "the plan of this run:" in printed
    assert "GFLOP/s in fp32" in printed


def test_bf16_trains_too(job):
    values = job(precision="bf16", attention="plain", steps=12)
    metrics = run(values)
    steps = rows(values, "metrics.parquet")
    assert metrics["precision"] == "bf16"
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.7
    assert load_model(out(values)).embed.weight.dtype == torch.float32


@pytest.mark.parametrize(("budget", "steps"), [({"tokens": 1000}, 8), ({"epochs": 0.05}, None)])
def test_other_horizons(job, data, budget, steps):
    values = job(**budget)
    metrics = run(values)
    if steps is None:
        loader = Loader(Path(data["tokens"]), "train", batch=4, context=32, seed=1, tokenizer_bytes=None)
        steps = int(np.ceil(0.05 * loader.steps_per_epoch))
    assert metrics["steps"] == steps
    assert rows(values, "metrics.parquet")[-1]["progress"] == 1.0


def test_a_trained_model_can_be_the_start(job):
    first = job("first", steps=20)
    run(first)
    second = job("second", steps=2, start_from=str(out(first)))
    run(second)
    assert rows(second, "metrics.parquet")[0]["loss"] < rows(first, "metrics.parquet")[0]["loss"] - 1


def test_a_start_of_another_shape_is_refused(job):
    first = job("first", steps=1)
    run(first)
    other = job("second", start_from=str(out(first)), model=first["params"]["model"] | {"n_layers": 1})
    with pytest.raises(UserError, match="has another shape than the recipe's model"):
        run(other)


def test_a_work_folder_of_other_settings_is_refused(job):
    values = job(steps=3)
    run(values)
    with pytest.raises(RunError, match="belongs to a run with other settings"):
        run(job(steps=4))


def test_too_little_text_for_one_window_is_refused(job):
    with pytest.raises(RunError, match="one window of context 100,000 needs"):
        run(job(model={"n_layers": 1, "d_model": 16, "n_heads": 1, "context": 100_000}))


def test_no_validation_text_is_said_and_harmless(job, tmp_path, capsys):
    values = job(steps=2)
    tokens = shutil.copytree(values["tokens"], tmp_path / "tokens")
    meta = json.loads((tokens / "meta.json").read_text())
    meta["splits"]["val"] |= {"shards": [], "tokens": 0, "documents": 0, "bytes": 0}
    (tokens / "meta.json").write_text(json.dumps(meta))
    metrics = run(values | {"tokens": str(tokens)})
    assert metrics["val_bits_per_byte"] is None
    assert "has no validation text: quick looks are left out" in capsys.readouterr().out


def test_divergence_is_skipped_recorded_and_then_an_error_that_says_what_to_do(job):
    values = job(lr=1e20, muon_lr=1e20, schedule="constant", warmup=0, grad_clip=None, steps=50)
    values["runtime"] |= {"sample_at": [], "validate_every": 0}
    with pytest.raises(RunError, match="training diverged") as error:
        run(values)
    assert "lower train.lr" in error.value.mend
    skipped = [line for line in read_lines(Path(values["work"]) / "progress.jsonl") if line.get("event") == "skipped"]
    assert len(skipped) == 4
    assert not out(values).exists()


def test_a_skipped_step_changes_no_weight_and_the_run_goes_on(job):
    shape = DecoderConfig(n_layers=1, d_model=16, n_heads=1, context=16)
    going = start(TrainParams(model=shape, batch=2, steps=1), 2)
    tokens = torch.randint(64, (2, 17), generator=torch.Generator().manual_seed(7))
    one_step(going, batch_of(tokens), 1.0)
    before = {name: p.detach().clone() for name, p in going.model.named_parameters()}
    state = {name: tensor.clone() for name, tensor in going.optimizer.tensors().items()}
    with torch.no_grad():
        going.model.norm.weight[0] = np.inf
    before["norm.weight"] = going.model.norm.weight.detach().clone()
    loss, _, norm, admitted = one_step(going, batch_of(tokens), 1.0)
    assert not admitted
    assert not (np.isfinite(loss) and np.isfinite(norm))
    assert all(torch.equal(p, before[name]) for name, p in going.model.named_parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in going.optimizer.tensors().items())
    with torch.no_grad():
        going.model.norm.weight[0] = 1.0
    assert one_step(going, batch_of(tokens), 1.0)[3]
    assert going.guard.state() == {"in_a_row": 0, "skipped": 1}


def test_a_full_disk_during_a_save_is_one_error_and_the_run_can_go_on(job, content, monkeypatch):
    straight, full = job("straight"), job("full", runtime={"save_every_steps": 4})
    run(straight)
    monkeypatch.setattr("storage.atomic._reached", __import__("collections").Counter())
    monkeypatch.setenv("COLLECT_TRAIN_FAULT", "train.checkpoint.before-rename:2=enospc")
    with pytest.raises(StorageError, match="disk full while writing"):
        run(full)
    assert [path.name for path in (Path(full["work"]) / "checkpoints").iterdir()] == ["step-00000004"]
    monkeypatch.delenv("COLLECT_TRAIN_FAULT")
    run(full)
    assert content(full) == content(straight)


def test_a_damaged_newest_checkpoint_falls_back_and_ends_the_same(job, content):
    straight, harmed = job("straight"), job("harmed", runtime={"save_every_steps": 3})
    run(straight)
    calls = iter([False] * 8 + [True])
    with pytest.raises(Stopped):
        run(harmed, stopped=lambda: next(calls))
    newest = Path(harmed["work"]) / "checkpoints" / "step-00000008" / "optimizer.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    run(harmed)
    assert content(harmed) == content(straight)
    events = [line for line in read_lines(Path(harmed["work"]) / "progress.jsonl") if "event" in line]
    damage = next(line for line in events if line["event"] == "checkpoint-damaged")
    assert "optimizer.safetensors has 100 bytes" in damage["text"]
    assert "resuming at step 6" in next(line for line in events if line["event"] == "resumed")["text"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stages", [[], [{"share": 0.5, "context": 16}, {"share": 0.5}]])
def test_compiled_steps_resume_exactly_and_compiling_is_not_training(job, content, trainer, stages):
    straight, stopped = job("straight", stages=stages), job("stopped", stages=stages)
    calls = iter([False] * 2 + [True])
    with pytest.raises(Stopped):
        run(job("probed", stages=stages), stopped=lambda: next(calls))
    plan = json.loads((Path(job("probed")["work"]) / "plan.json").read_text()) | {"compile": True}
    for values in (straight, stopped):
        Path(values["work"]).mkdir()
        (Path(values["work"]) / "plan.json").write_text(json.dumps(plan))
    started = time.monotonic()
    metrics = run(straight)
    assert metrics["seconds"] < (time.monotonic() - started) / 4
    calls = iter([False] * 8 + [True])
    with pytest.raises(Stopped):
        run(stopped, stopped=lambda: next(calls))
    done = trainer(stopped)  # a process that has compiled nothing before, and no first stage
    assert done.returncode == 0, done.err
    assert content(stopped) == content(straight)
