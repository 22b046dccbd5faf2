"""Options of a run: spikes gone back from, early ends, the mean weights, checkpoints that stay, what is refused."""

from __future__ import annotations

import contextlib
import shutil
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from lmcore.train.journal import read_lines
from lmcore.train.loop import Stopped, train
from lmcore.train.params import Job
from storage.errors import RunError, StorageError


def run(values, **options):
    return train(Job.model_validate(values), **options)


def out(values):
    return Path(values["work"]) / "out"


def rows(values, name):
    return pq.read_table(out(values) / name).to_pylist()


def test_schedule_free_resumes_exactly_and_leaves_the_mean_weights(job, content):
    settings = {"optimizer": "schedule_free", "schedule": "constant", "lr": 0.02}
    straight, stopped = job("straight", **settings), job("stopped", **settings)
    straight["runtime"] |= {"validate_every": 0, "sample_at": []}  # neither looks nor saves change a bit
    run(straight)
    calls = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        run(stopped, stopped=lambda: next(calls))
    metrics = run(stopped)
    assert content(straight) == content(stopped)
    newest = Path(stopped["work"]) / "checkpoints" / "step-00000012"
    mean, left = (load_file(folder / "model.safetensors") for folder in (newest, out(stopped)))
    state = load_file(newest / "optimizer.safetensors")
    assert all(torch.equal(tensor, left[name]) for name, tensor in mean.items())
    assert all(torch.equal(tensor, state[f"adamw.x.{name}"]) for name, tensor in mean.items())
    assert metrics["val_bits_per_byte"] < rows(stopped, "provenance/validation.parquet")[0]["bits_per_byte"]


def test_lower_halves_the_rates_at_each_skipped_step_and_says_so(job):
    values = job(lr=1e20, muon_lr=1e20, schedule="constant", warmup=0, grad_clip=None, steps=50, on_nan="lower")
    values["runtime"] |= {"sample_at": [], "validate_every": 0}
    with pytest.raises(RunError, match="training diverged"):
        run(values)
    skipped = [line for line in read_lines(Path(values["work"]) / "progress.jsonl") if line.get("event") == "skipped"]
    assert [line["text"].rpartition(" times ")[2] for line in skipped] == ["0.5", "0.25", "0.125", "0.0625"]


# Batches of one sequence differ enough for some to be 2 % above the median of the losses before.
SPIKY = {
    "batch": 1, "micro_batch": 1, "steps": 60, "lr": 0.02, "muon_lr": 0.05,
    "on_spike": "rewind", "spike_factor": 1.02, "rewind_every": 8,
}  # fmt: skip


def test_a_spike_goes_back_passes_over_the_data_and_resumes_exactly(job, content):
    quiet = {"sample_at": [], "validate_every": 0}
    straight, stopped = job("straight", **SPIKY, runtime=quiet), job("stopped", **SPIKY, runtime=quiet)
    run(straight)
    lines = read_lines(Path(straight["work"]) / "progress.jsonl")
    rewinds = [line for line in lines if line.get("event") == "rewound"]
    assert 2 <= len(rewinds) <= 10
    passed_over = 0
    for line in rewinds:
        assert line["step"] == (line["spike"] - 1) // 8 * 8
        passed_over += line["spike"] - line["step"]
        assert line["passed_over"] == passed_over
    steps = rows(straight, "metrics.parquet")
    assert [row["step"] for row in steps] == list(range(1, 61))
    assert not any(row["skipped"] for row in steps)
    stopped["runtime"] |= {"save_every_steps": 3, "keep_checkpoints": 1, "save_async": True}
    for some in (rewinds[0]["spike"] - 1, 7, 11):  # just before the first spike, then again and again
        calls = iter([False] * some + [True])
        with pytest.raises(Stopped):
            run(stopped, stopped=lambda calls=calls: next(calls))
    run(stopped)
    assert content(stopped) == content(straight)


def test_a_rewind_takes_no_progress_back_in_a_budget_of_minutes(job, monkeypatch):
    """The time is used. A stage that has begun goes on, though the steps go back to before it."""
    monkeypatch.setattr("lmcore.train.journal.LINE_SECONDS", 0.0)
    stages = [{"share": 0.2}, {"share": 0.8, "lr_factor": 0.5}]
    rates = {"schedule": "constant", "warmup": 0.0, "stages": stages}
    quiet = {"sample_at": [], "validate_every": 0}
    values = job(minutes=0.02, **{k: v for k, v in SPIKY.items() if k != "steps"} | rates, runtime=quiet)
    with contextlib.suppress(RunError):  # a fast machine may get to the eleventh rewind
        run(values)
    lines = read_lines(Path(values["work"]) / "progress.jsonl")
    assert any(line.get("event") == "rewound" for line in lines)
    steps = [line for line in lines if "loss" in line and "progress" in line]
    assert [line["step"] for line in steps] != sorted(line["step"] for line in steps), "steps were taken back"
    progress = [line["progress"] for line in steps]
    assert progress == sorted(progress)
    factors = [line["lr"] / SPIKY["lr"] for line in steps]
    assert factors == sorted(factors, reverse=True)


def test_training_ends_early_where_validation_no_longer_gains_and_resumes_to_the_same_end(job, content):
    rates = {"optimizer": "adamw", "lr": 2.0, "schedule": "one_cycle", "warmup": 0.99, "final_lr_share": 1.0}
    early = {"patience": 2, "min_delta": 0.001, "every": 0.05, "tokens": 300}
    straight, stopped = (
        job("straight", steps=40, early_stop=early, **rates),
        job("stopped", steps=40, early_stop=early, **rates),
    )
    stopped["runtime"] |= {"validate_every": 0.5, "validation_tokens": 100}  # the looks of early_stop do not heed them
    metrics = run(straight)
    assert 0 < metrics["steps"] < 40
    looks = [row["bits_per_byte"] for row in rows(straight, "provenance/validation.parquet")]
    assert min(looks[-2:]) > min(looks) - 0.001
    events = [
        line for line in read_lines(Path(straight["work"]) / "progress.jsonl") if line.get("event") == "early-stop"
    ]
    assert [line["step"] for line in events] == [metrics["steps"]]
    calls = iter([False] * (metrics["steps"] - 1) + [True])
    with pytest.raises(Stopped):
        run(stopped, stopped=lambda: next(calls))
    run(stopped)
    assert content(stopped) == content(straight)
    shutil.rmtree(out(stopped))
    run(stopped)  # the checkpoint knows that it has ended
    assert content(stopped) == content(straight)


def test_too_few_batches_or_tokens_are_refused(job):
    with pytest.raises(RunError, match=r"training batches, and runtime.train.min_batches asks for 1,000"):
        run(job(runtime={"min_batches": 1000}))
    with pytest.raises(RunError, match=r"training tokens, and runtime.train.min_tokens asks for 10,000,000"):
        run(job(runtime={"min_tokens": 10_000_000}))


def test_a_disk_too_small_for_the_checkpoints_is_refused_before_the_first_step(job):
    values = job(steps=10**9, runtime={"keep_every_steps": 1})
    with pytest.raises(RunError, match=r"needs [\d,.]+ MiB more for [\d,]+ checkpoints of [\d.]+ MiB and the model"):
        run(values)
    assert not (Path(values["work"]) / "checkpoints").exists()


def test_the_best_and_every_nth_checkpoint_stay_and_each_resumes_to_the_same_bytes(job, content):
    keep = {"keep_checkpoints": 1, "keep_best": True, "keep_every_steps": 5, "save_async": True, "validate_every": 0.25}
    straight, kept = job("straight"), job("kept", runtime=keep)
    run(straight)
    run(kept)
    assert content(kept) == content(straight)
    looks = rows(kept, "provenance/validation.parquet")
    best = min(looks, key=lambda row: row["bits_per_byte"])["step"]
    folders = sorted((Path(kept["work"]) / "checkpoints").iterdir())
    assert [folder.name for folder in folders] == [f"step-{step:08d}" for step in sorted({5, 10, 12, best})]
    for folder in folders:
        again = job(f"from-{folder.name}", runtime=keep)
        shutil.copytree(folder, Path(again["work"]) / "checkpoints" / folder.name)
        shutil.copyfile(Path(kept["work"]) / "plan.json", Path(again["work"]) / "plan.json")
        run(again)
        assert content(again) == content(straight), folder.name


def test_the_best_stays_when_later_looks_are_worse(job):
    # The rate rises all the time, to far too much.
    rates = {"optimizer": "adamw", "lr": 2.0, "schedule": "one_cycle", "warmup": 0.99, "final_lr_share": 1.0}
    keep = {"keep_checkpoints": 1, "keep_best": True, "validate_every": 0.05}
    values = job(steps=40, runtime=keep, **rates)
    run(values)
    best = min(rows(values, "provenance/validation.parquet"), key=lambda row: row["bits_per_byte"])["step"]
    assert 0 < best < 40
    names = sorted(path.name for path in (Path(values["work"]) / "checkpoints").iterdir())
    assert names == [f"step-{best:08d}", "step-00000040"]


def test_a_full_disk_in_the_writing_thread_is_the_same_error(job, content, monkeypatch):
    straight, full = job("straight"), job("full", runtime={"save_every_steps": 4, "save_async": True})
    run(straight)
    monkeypatch.setattr("storage.atomic._reached", __import__("collections").Counter())
    monkeypatch.setenv("COLLECT_TRAIN_FAULT", "train.checkpoint.before-rename:2=enospc")
    with pytest.raises(StorageError, match="disk full while writing"):
        run(full)
    assert [path.name for path in (Path(full["work"]) / "checkpoints").iterdir()] == ["step-00000004"]
    monkeypatch.delenv("COLLECT_TRAIN_FAULT")
    run(full)
    assert content(full) == content(straight)


@pytest.mark.parametrize("point", ["train.checkpoint.before-rename:2", "train.step:6"])
def test_killed_while_a_thread_writes_it_ends_with_the_same_bytes(job, trainer, content, point):
    straight, killed = job("straight"), job("killed", runtime={"save_every_steps": 2, "save_async": True})
    run(straight)
    assert trainer(killed, point).returncode == -signal.SIGKILL
    run(killed)
    assert content(killed) == content(straight)
