"""The trainer as a process: killed, stopped, orphaned, misled; what it leaves is always right."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from held import every, goes_on_when_told, until_held

from lmcore.train import PARENT_VARIABLE
from lmcore.train.journal import read_lines
from lmcore.train.loop import train
from lmcore.train.params import Job, TrainParams

POINTS = [
    "train.step:1",
    "train.step:7",
    "train.checkpoint.before-fsync:1",
    "train.checkpoint.before-fsync:2",
    "train.checkpoint.before-rename:2",
    "train.checkpoint.after-rename:2",
    "atomic.write.before-rename:1",
    "atomic.write.before-rename:3",
    "parquet.write:6",
    "train.before-out",
    "train.out.before-fsync",
    "train.out.before-rename",
    "train.out.after-rename",
]


def work(values):
    return Path(values["work"])


def finish(values):
    """Train in this process to the end: as exact as a process of its own, and started at once."""
    return train(Job.model_validate(values))


def steps_told(values):
    lines = read_lines(work(values) / "progress.jsonl")
    return max((line["step"] for line in lines if "loss" in line), default=0)


def steps_saved(values):
    found = (work(values) / "checkpoints").glob("step-*")
    return max((int(path.name.removeprefix("step-")) for path in found), default=0)


def wait_until(process, condition):
    """Block until `condition` is true; fails when the trainer ends before."""
    until = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "the trainer made no progress"
        time.sleep(0.02)


def until_stopped(process):
    """Wait until a trainer stands still at a fault point."""
    return until_held(lambda: [psutil.Process(process.pid)], why_not=process.poll)[0]


def test_a_job_runs_to_its_end(job, trainer, content):
    values = job(steps=4)
    done = trainer(values)
    assert (done.returncode, done.err) == (0, "")
    assert "finished: 4 steps" in done.out
    assert "model.safetensors" in content(values)
    assert not (work(values) / "error.json").exists()
    plan = json.loads((work(values) / "plan.json").read_text())
    assert "threshold" in plan["allocator"] or "glibc" in plan["allocator"]


def test_sigterm_saves_and_exits_with_143(job, trainer, content):
    straight, stopped = job("straight", steps=200), job("stopped", steps=200)
    finish(straight)
    process = trainer(stopped, every(110), wait=False)
    goes_on_when_told(until_stopped(process))
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped after step" in said
    assert not (work(stopped) / "out").exists()
    last = read_lines(work(stopped) / "progress.jsonl")[-1]
    assert last["event"] == "stopped"
    assert steps_saved(stopped) == last["step"] == 110
    assert finish(stopped)["resumes"] == 1
    assert content(stopped) == content(straight)


def test_it_dies_with_its_parent_and_leaves_a_checkpoint(job, tmp_path):
    values = job(steps=100_000)
    path = tmp_path / "JOB.json"
    path.write_text(json.dumps(values))
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'lmcore.train', sys.argv[1]], stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    wait_until(parent, lambda: steps_told(values))
    parent.kill()
    parent.communicate()
    until = time.monotonic() + 60
    while running(child):
        assert time.monotonic() < until, "the trainer outlives its parent"
        time.sleep(0.05)
    assert list((work(values) / "checkpoints").iterdir())
    assert read_lines(work(values) / "progress.jsonl")[-1]["event"] == "stopped"


def test_one_whose_parent_died_while_it_was_starting_stops_before_its_first_step(job, tmp_path):
    values = job(steps=100_000)
    path = tmp_path / "JOB.json"
    path.write_text(json.dumps(values))
    gone = subprocess.Popen(["true"])
    gone.wait()
    env = {**os.environ, PARENT_VARIABLE: str(gone.pid)}
    done = subprocess.run([sys.executable, "-m", "lmcore.train", str(path)], env=env, timeout=120, check=False)
    assert done.returncode == 143
    assert [line["event"] for line in read_lines(work(values) / "progress.jsonl") if "event" in line][-1] == "stopped"
    assert not any("loss" in line for line in read_lines(work(values) / "progress.jsonl"))


def running(pid):
    """True while the process is there and not a zombie waiting for an init that does not reap."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"params": {"steps": None}}, "no budget: set one of steps, tokens, epochs, minutes"),
        ({"params": {"minutes": 1}}, "2 budgets, steps and minutes"),
        ({"params": {"steps": -3}}, "params.steps: Input should be greater than or equal to 1"),
        ({"params": {"lr": "fast"}}, "params.lr: Input should be a valid number"),
        ({"runtime": {"devise": "cpu"}}, "runtime.devise: Extra inputs are not permitted"),
    ],
)
def test_a_bad_job_is_the_users_mistake(job, trainer, change, what):
    values = job()
    for section, settings in change.items():
        values[section] |= settings
    done = trainer(values)
    assert done.returncode == 2
    error = json.loads((work(values) / "error.json").read_text())
    assert what in error["what"]
    assert error["mend"]
    assert error["exit_code"] == 2
    assert done.err == f"error: {error['what']}\n  to mend: {error['mend']}\n"


def test_failures_exit_with_1_and_are_cleared_by_the_next_start(job, trainer, tmp_path):
    values = job(steps=2)
    tokens = values["tokens"]
    done = trainer(values | {"tokens": str(tmp_path / "none")})
    assert done.returncode == 1
    assert str(tmp_path / "none") in json.loads((work(values) / "error.json").read_text())["what"]
    assert "Traceback" not in done.err
    assert trainer(values | {"tokens": tokens}).returncode == 0
    assert not (work(values) / "error.json").exists()


def test_a_file_that_is_no_job_is_said(tmp_path):
    for arguments, what in [
        ([], "takes one argument"),
        ([str(tmp_path / "none.json")], "cannot read the job file"),
        ([str(Path(__file__))], "cannot read the job file"),
    ]:
        command = [sys.executable, "-m", "lmcore.train", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert what in done.stderr
        assert "Traceback" not in done.stderr


def test_two_trainers_on_one_work_folder_take_turns(job, trainer, content):
    values = job(steps=40)
    first = trainer(values, every(30), wait=False)
    working = until_stopped(first)
    second = trainer(values, wait=False)
    while "waiting for trainer process" not in (said := second.stdout.readline()):
        assert said, second.communicate()
    working.resume()
    ends = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    assert not any("waiting for trainer process" in said for said in ends), "it is said once"
    assert "model.safetensors" in content(values)


@pytest.mark.slow
def test_killed_at_every_named_point_it_ends_with_the_same_bytes(job, trainer, content):
    cadence = {"save_every_steps": 4}
    straight = job("straight", runtime=cadence)
    finish(straight)
    for number, point in enumerate(POINTS):
        values = job(f"killed-{number}", runtime=cadence)
        assert trainer(values, point).returncode == -signal.SIGKILL, point
        finish(values)
        assert content(values) == content(straight), point


@pytest.mark.slow
def test_killed_again_and_again_at_random_it_ends_with_the_same_bytes(job, trainer, content, seed):
    rng = random.Random(seed)
    straight, killed = job("straight", steps=30), job("killed", steps=30, runtime={"save_every_steps": 3})
    finish(straight)
    for _ in range(3):
        assert trainer(killed, f"train.step:{rng.randint(1, 9)}").returncode == -signal.SIGKILL
    finish(killed)
    assert content(killed) == content(straight)


@pytest.mark.slow
def test_killed_by_the_clock_it_ends_with_the_same_bytes(job, trainer, content, seed):
    rng = random.Random(seed)
    straight, killed = job("straight", steps=160), job("killed", steps=160, runtime={"save_every_steps": 10})
    finish(straight)
    for _ in range(3):
        process = trainer(killed, every(25), wait=False)  # it goes no further, however soon it gets there
        until_stopped(process).resume()
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    finish(killed)
    assert content(killed) == content(straight)


@pytest.mark.slow
def test_a_minutes_budget_counts_training_over_all_processes(job, trainer):
    values = job(minutes=0.1, runtime={"save_every_steps": 20})
    started = time.monotonic()
    for _ in range(2):
        process, saved = trainer(values, wait=False), steps_saved(values)
        wait_until(process, lambda saved=saved: steps_saved(values) > saved)
        process.kill()
        process.communicate()
    assert trainer(values).returncode == 0
    wall = time.monotonic() - started

    training = json.loads((work(values) / "out" / "provenance" / "training.json").read_text())
    timings = pq.read_table(work(values) / "out" / "provenance" / "timings.parquet").to_pydict()
    metrics = pq.read_table(work(values) / "out" / "metrics.parquet").to_pydict()
    assert training["resumes"] == 2
    assert sum(timings["seconds"]) == pytest.approx(training["seconds"], abs=0.01)
    assert 6.0 <= sum(timings["seconds"]) <= 6.0 + max(timings["seconds"])
    assert wall > sum(timings["seconds"])  # starting three processes is not training
    assert metrics["progress"] == sorted(metrics["progress"])
    assert metrics["progress"][-1] == 1.0
    assert metrics["step"] == list(range(1, len(metrics["step"]) + 1))
    left = 1 - metrics["progress"][-2]  # of the budget, when the last step began, which may have been a slow one
    assert metrics["lr"][-1] <= max(metrics["lr"]) * max(0.01, left / TrainParams.model_fields["decay_share"].default)
