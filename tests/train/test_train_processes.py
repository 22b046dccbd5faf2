"""Several processes that train one model: the same gradients, the same bytes again, and no end left hanging."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import helpers_ranks
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from held import every, goes_on_when_told, until_held
from safetensors.torch import load_file
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from lmcore.tokens import TokenBatch
from lmcore.train import agent, plan, team
from lmcore.train.journal import read_lines
from lmcore.train.loop import train
from lmcore.train.params import Job, TrainRuntime
from lmcore.train.team import Team
from storage.errors import RunError, UserError

SOON = 25.0  # seconds: every end must come within; torchrun kills after 30 what does not end when told to


@pytest.fixture(autouse=True)
def no_leftovers():
    """No process that a test started outlives it."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    for child in left:
        child.kill()
    assert not left


def work(values):
    return Path(values["work"])


def alone(values):
    """Train in this process to the end."""
    return train(Job.model_validate(values | {"runtime": values["runtime"] | {"processes": 1}}))


def events(values, *names):
    return [line for line in read_lines(work(values) / "progress.jsonl") if line.get("event") in names]


def steps_told(values):
    lines = read_lines(work(values) / "progress.jsonl")
    return max((line["step"] for line in lines if "loss" in line), default=0)


def steps_saved(values):
    found = (work(values) / "checkpoints").glob("step-*")
    return max((int(path.name.removeprefix("step-")) for path in found), default=0)


def until(process, condition):
    """Block until `condition` is true; fails when the trainer ends before."""
    last = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < last, "the trainer made no progress"
        time.sleep(0.02)


def ranks_of(process):
    """The processes that torchrun's agent started, rank 0 first."""
    environments = [(child, child.environ()) for child in psutil.Process(process.pid).children()]
    ranks = {int(environment["RANK"]): child for child, environment in environments if "RANK" in environment}
    return [ranks[number] for number in sorted(ranks)]


def ranks_held(process, count):
    """Wait until all ranks stand still at a fault point; told to stop, they go on."""
    ranks = until_held(lambda: ranks_of(process), count, process.poll)
    goes_on_when_told(*ranks)
    return ranks


def ended(processes):
    _, alive = psutil.wait_procs(processes, timeout=SOON)
    return not alive


def weights(values):
    return load_file(work(values) / "out" / "model.safetensors")


def difference(mine, other):
    """The largest difference of a parameter, relative to its length."""
    return max(float((mine[name] - other[name]).norm() / other[name].norm()) for name in other)


def run_ranks(folder, world):
    folder.mkdir()
    launch = ["--standalone", f"--nproc-per-node={world}", "--local-addr=localhost"]
    script = Path(helpers_ranks.__file__)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *launch, str(script), str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [
        (load_file(folder / f"{rank}.safetensors"), json.loads((folder / f"{rank}.json").read_text()))
        for rank in range(world)
    ]


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_gradient_is_that_of_one_process_in_every_rank(world, tmp_path):
    """Seven rows of unequal weight in micro-batches of two: no rank has as many as the next."""
    threads = torch.get_num_threads()
    expected, numbers = helpers_ranks.gradients(Team())
    torch.set_num_threads(threads)
    found = run_ranks(tmp_path / "ranks", world)
    for gradients, told in found:
        assert difference(gradients, expected) < 1e-5
        assert all(torch.equal(gradients[name], found[0][0][name]) for name in expected), "the same bits in every rank"
        assert told["numbers"] == pytest.approx(numbers, rel=1e-6)
        assert told["numbers"] == found[0][1]["numbers"]
        assert told["total"] == [sum(range(world)), world / 2]
        assert told["most"] == world - 1
        assert told["sick"] == {"admitted": False, "unchanged": True, "guard": {"in_a_row": 1, "skipped": 1}}
        assert told["drawn"] == told["again"]
    assert sum(told["rows"] for _, told in found) == 7
    assert len({tuple(told["drawn"]) for _, told in found}) == world, "each rank drops units of its own"
    assert (tmp_path / "ranks" / "order").read_text().startswith("0 ")


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("rows", [1, 4, 7, 16])
def test_shares_are_even_and_make_up_the_batch(rows, world):
    ids = torch.arange(rows)[:, None]
    batch = TokenBatch(ids, ids, ids > 0, ids.int(), ids.int())
    shares = [Team(rank, world).share(batch).ids for rank in range(world)]
    assert torch.equal(torch.cat(shares), ids)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_large_model_exchanges_its_gradients_in_buckets(monkeypatch):
    monkeypatch.setattr(team, "BUCKET", 10)
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (4, 6, 1, 25, 3, 3, 3)]
    assert [[p.numel() for p in bucket] for bucket in team._buckets(parameters)] == [[4, 6], [1], [25], [3, 3, 3]]


def test_stopped_and_resumed_two_processes_leave_the_bytes_of_one(job, trainer, content):
    """Each of two ranks has one micro-batch, and a + b is b + a: not even the rounding differs."""
    straight, shared = job("straight", steps=150), job("shared", steps=150, runtime={"processes": 2})
    alone(straight)
    process = trainer(shared, every(80), wait=False)
    ranks, asked = ranks_held(process, 2), time.monotonic()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=SOON)
    assert (process.returncode, time.monotonic() - asked < SOON) == (143, True)
    assert ended(ranks)
    assert said.count("stopped after step") == 1
    (stopped,) = events(shared, "stopped")
    saved = [path.name for path in (work(shared) / "checkpoints").iterdir()]
    assert saved == ["step-00000080"]
    assert stopped["step"] == 80

    done = trainer(shared)
    assert done.returncode == 0, done.err
    assert content(shared) == content(straight)
    training = json.loads((work(shared) / "out" / "provenance" / "training.json").read_text())
    assert (training["processes"], training["resumes"]) == (2, 1)
    assert not (work(shared) / "error.json").exists()


def test_more_processes_than_sequences_are_refused(job, trainer):
    values = job(runtime={"processes": 5})
    done = trainer(values)
    assert done.returncode == 2
    error = json.loads((work(values) / "error.json").read_text())
    assert error["what"] == "5 training processes share train.batch=4 sequences: some would have none"
    assert "train.batch to 5" in error["mend"]
    assert "to 4 or less" in error["mend"]
    with pytest.raises(UserError, match="training processes share"):
        train(Job.model_validate(values), team=Team(0, 5))


@pytest.mark.parametrize(
    ("codes", "end"),
    [
        ({0: 143, 1: 143}, 143),
        ({0: 130, 1: 130}, 130),
        ({0: 1, 1: 143}, 143),
        ({0: -15, 1: -15}, 143),
        ({0: 1, 1: -9, 2: -15}, "training process 2 of 3 was ended by SIGKILL, and the others with it"),
        ({0: -11, 1: 1}, "training process 1 of 2 was ended by SIGSEGV, and the others with it"),
        ({0: -9, 1: 143}, "training process 1 of 2 was ended by SIGKILL, and the others with it"),
        ({1: 3, 0: -15}, "training process 2 of 2 ended with code 3, and the others with it"),
    ],
)
def test_the_cause_of_an_end_is_told_from_its_consequences(codes, end):
    failures = {rank: ProcessFailure(rank, 1, code, "none") for rank, code in codes.items()}
    if isinstance(end, int):
        assert agent._code(failures, len(codes)) == end
    else:
        with pytest.raises(RunError) as error:
            agent._code(failures, len(codes))
        assert error.value.what == end
        assert ("memory" in error.value.mend) == (-9 in codes.values())


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr(plan.machine, "usable_cores", lambda: 8)
    monkeypatch.setattr(plan.machine, "physical_cores", lambda: 8)

    def threads(processes, **runtime):
        return plan._choose_threads(TrainRuntime(**runtime).threads, processes, {})

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert (threads(1), threads(2), threads(3), threads(16)) == (8, 4, 2, 1)
    assert threads(2, threads=3) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert (threads(1), threads(2)) == (1, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")  # what the launcher sets when it gives eight cores
    assert threads(2) == 4


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("world", [2, 4])
def test_an_uneven_batch_ends_close_to_one_process_and_the_same_twice(world, job, trainer, content):
    settings = {"batch": 7, "steps": 40, "micro_batch": 2}
    single = job("single", **settings)
    alone(single)
    shared = [job(name, runtime={"processes": world}, **settings) for name in ("first", "second")]
    for values in shared:
        assert trainer(values).returncode == 0
    assert content(shared[0]) == content(shared[1])
    assert 0 < difference(weights(shared[0]), weights(single)) < 1e-3
    looks = [events(values, "validation") for values in (single, *shared)]
    for mine, other in zip(looks[0], looks[1], strict=True):
        assert mine["bits_per_byte"] == pytest.approx(other["bits_per_byte"], rel=1e-4)
    assert ("too-many-processes" in {e["event"] for e in events(shared[0], "too-many-processes")}) == (
        plan.machine.usable_cores() < world
    )


@pytest.mark.slow
@pytest.mark.alone
def test_whichever_is_killed_all_end_soon_and_resume_to_the_same_bytes(job, trainer, content):
    """The first rank, the last, torchrun's agent, then all of them: one run is killed four times."""
    model = job()["params"]["model"] | {"dropout": 0.2}
    settings = {"model": model, "batch": 7, "micro_batch": 1, "steps": 100}
    runtime = {"processes": 4, "save_every_steps": 10}
    straight, killed = job("straight", runtime=runtime, **settings), job("killed", runtime=runtime, **settings)
    assert trainer(straight).returncode == 0

    for victim in ("first", "last", "agent", "all"):
        process = trainer(killed, every(20), wait=False)
        ranks, at = ranks_held(process, 4), time.monotonic()
        chosen = {"first": ranks[:1], "last": ranks[-1:], "agent": [], "all": ranks}[victim]
        for one in [*chosen, *([process] if victim in ("agent", "all") else [])]:
            one.kill()
        process.communicate(timeout=SOON)
        assert ended(ranks), victim
        assert time.monotonic() - at < SOON, victim
        if victim in ("first", "last"):
            error = json.loads((work(killed) / "error.json").read_text())
            number = 1 if victim == "first" else 4
            assert error["what"] == f"training process {number} of 4 was ended by SIGKILL, and the others with it"
            assert process.returncode == 1
        assert not (work(killed) / "out").exists()

    assert trainer(killed).returncode == 0
    assert content(killed) == content(straight)
    assert not (work(killed) / "error.json").exists()
    training = json.loads((work(killed) / "out" / "provenance" / "training.json").read_text())
    assert training["resumes"] == 4


@pytest.mark.slow
@pytest.mark.alone
def test_a_checkpoint_is_read_at_any_number_of_processes(job, trainer):
    settings = {"batch": 7, "micro_batch": 2, "steps": 120}
    single, moved = job("single", **settings), job("moved", **settings)
    alone(single)
    for processes in (2, 4, 1):
        moved["runtime"]["processes"] = processes
        process, before = trainer(moved, every(30), wait=False), steps_saved(moved)
        if processes > 1:
            ranks_held(process, processes)
        else:
            goes_on_when_told(*until_held(lambda: [psutil.Process(process.pid)]))  # noqa: B023 - used at once
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SOON)
        assert process.returncode == 143
        assert steps_saved(moved) > before
    moved["runtime"]["processes"] = 2
    assert trainer(moved).returncode == 0
    assert [event["processes"] for event in events(moved, "processes")] == [4, 1, 2]
    assert json.loads((work(moved) / "plan.json").read_text())["processes"] == 2
    assert difference(weights(moved), weights(single)) < 0.02, "120 steps of Muon let a rounding grow"


QUIET = {"sample_at": [], "validate_every": 0, "save_every_steps": 3, "processes": 2}
# What two processes do to the end, and the event that shows that it was done. Each rank has one micro-batch.
SHARED = {
    "rewind": (
        {"batch": 2, "micro_batch": 1, "steps": 60, "lr": 0.05, "muon_lr": 0.1, "on_spike": "rewind",
         "spike_factor": 1.02, "rewind_every": 8},
        QUIET, "rewound", 33,
    ),
    "stages, early stop, asynchronous saves": (
        {"optimizer": "adamw", "lr": 2.0, "schedule": "one_cycle", "warmup": 0.99, "final_lr_share": 1.0, "steps": 40,
         "stages": [{"share": 0.2, "context": 16}, {"share": 0.8, "lr_factor": 0.9}],
         "early_stop": {"patience": 4, "every": 0.05, "tokens": 300}},
        QUIET | {"save_async": True}, "early-stop", 10,
    ),
    "lora": ({"lora": {"r": 2, "alpha": 4}, "optimizer": "adamw", "lr": 0.05}, QUIET, "finished", 7),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("feature", SHARED)
def test_two_processes_killed_once_leave_the_bytes_of_one(job, trainer, content, feature):
    params, runtime, event, step = SHARED[feature]
    start = None
    if "lora" in params:
        base = job("base", steps=2)
        alone(base)
        start = str(work(base) / "out")
    straight, killed = (job(name, **params, start_from=start, runtime=runtime) for name in ("straight", "killed"))
    alone(straight)
    assert events(straight, event)
    died = trainer(killed, f"train.step:{step}")
    assert died.returncode == 1
    assert "ended by SIGKILL" in died.err
    assert steps_saved(killed) > 0
    assert not (work(killed) / "out").exists()
    done = trainer(killed)
    assert done.returncode == 0, done.err
    assert content(killed) == content(straight)
    (resumed,) = events(killed, "resumed")
    assert resumed["step"] > 0
    names = ("rewound", "stage", "early-stop")
    told = [[(line["event"], line["step"]) for line in events(values, *names)] for values in (straight, killed)]
    assert set(told[0]) == set(told[1]), "what was done again was done in the same way"


@pytest.mark.slow
@pytest.mark.alone
def test_all_end_with_the_flow_and_leave_a_checkpoint(job, tmp_path):
    values = job(steps=100_000, runtime={"processes": 2})
    path = tmp_path / "JOB.json"
    path.write_text(json.dumps(values))
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'lmcore.train', sys.argv[1]], stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    agent_process = psutil.Process(int(parent.stdout.readline()))
    until(parent, lambda: steps_told(values))
    family = [agent_process, *agent_process.children()]
    parent.kill()
    parent.communicate()
    assert ended(family)
    (stopped,) = events(values, "stopped")
    assert [path.name for path in (work(values) / "checkpoints").iterdir()] == [f"step-{stopped['step']:08d}"]


@pytest.mark.slow
@pytest.mark.alone
def test_one_rank_told_to_stop_stops_all(job, trainer):
    values = job(steps=100_000, runtime={"processes": 2})
    process = trainer(values, wait=False)
    until(process, lambda: steps_told(values))
    ranks = ranks_of(process)
    ranks[1].terminate()
    assert process.wait(SOON) == 143
    process.communicate()
    assert ended(ranks)
    assert len(events(values, "stopped")) == 1


@pytest.mark.slow
@pytest.mark.alone
def test_errors_are_told_once_and_end_all(job, trainer, tmp_path):
    runtime = {"processes": 2, "sample_at": [], "validate_every": 0}
    diverging = {"lr": 1e20, "muon_lr": 1e20, "schedule": "constant", "warmup": 0, "grad_clip": None, "steps": 50}
    cases = [
        (job("diverges", runtime=runtime, **diverging), 1, "training diverged"),
        (job("no-data", runtime=runtime) | {"tokens": str(tmp_path / "none")}, 1, str(tmp_path / "none")),
        (job("mps", runtime=runtime | {"device": "mps"}), 2, "cannot share this machine's one mps device"),
    ]
    for values, code, what in cases:
        done = trainer(values)
        assert done.returncode == code, done.err
        error = json.loads((work(values) / "error.json").read_text())
        assert what in error["what"]
        assert error["exit_code"] == code
        assert done.err.count("error: ") == 1, done.err
        assert "Traceback" not in done.err


@pytest.mark.slow
@pytest.mark.alone
def test_the_probe_times_shares_beside_each_other(job, trainer):
    values = job(
        precision="auto", attention="auto", micro_batch=None, batch=9, steps=3, runtime={"processes": 2, "threads": 0}
    )
    done = trainer(values)
    assert done.returncode == 0, done.err
    how = json.loads((work(values) / "plan.json").read_text())
    assert (how["processes"], how["threads"]) == (2, 1)
    assert how["micro_batch"] in (1, 2, 4, 5)
    assert how["reasons"]["threads"].endswith("cores for 2 processes")
    assert "processes   2" in done.out
    assert done.out.count("the plan of this run:") == 1


@pytest.mark.slow
@pytest.mark.alone
def test_minutes_are_the_same_for_all(job, trainer):
    values = job(minutes=0.05, runtime={"processes": 2})
    assert trainer(values).returncode == 0
    training = json.loads((work(values) / "out" / "provenance" / "training.json").read_text())
    timings = pq.read_table(work(values) / "out" / "provenance" / "timings.parquet")["seconds"].to_pylist()
    assert 3.0 <= training["seconds"] <= 3.0 + max(timings)
