"""A training that stands still is noticed, says where it stood, is ended, and goes on from its checkpoint."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import psutil
import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from lmcore.documents import CURATED, make_table
from lmcore.progress import silent
from lmcore.tokenizer.train import TokenizerParams, TokenizerRuntime, train_tokenizer
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
from lmcore.train.params import Job, TrainParams, TrainRuntime
from storage.parquet import write_parquet
from storage.store import Store
from tasks import process, stall
from tasks.journal import LOG, RunJournal, recording
from tasks.process import run_process
from tasks.stall import Patience, Silence, Stalled
from tasks.step import step
from tasks.trainer import run_trainer

STEP = {"loss": 1.0, "step": 1}


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(stall, "time", found)
    return found


def wait(silence, clock, seconds):
    """Look every second, and hear nothing."""
    for _ in range(seconds):
        clock.now += 1
        silence.heard([])


def stepping(silence, clock, every, count=6):
    for _ in range(count):
        clock.now += every
        silence.heard([STEP])


def test_a_minute_or_twenty_times_the_usual_pace(clock):
    slow = Silence(Patience())
    stepping(slow, clock, 10)
    assert slow.limit == 200
    quick = Silence(Patience())
    stepping(quick, clock, 1)
    assert quick.limit == 60
    wait(quick, clock, 60)
    quick.check()
    wait(quick, clock, 1)
    with pytest.raises(Stalled, match=r"nothing was heard of its process for 61 s; before, a line came every 1\.0 s"):
        quick.check()


@pytest.mark.parametrize(
    "lines",
    [[], [{"event": "probe", "text": ""}], [STEP], [STEP, {"doing": "checkpoint"}], [STEP, {"event": "validation"}]],
)
def test_ten_minutes_before_the_first_steps_and_beside_them(clock, lines):
    silence = Silence(Patience())
    if lines and lines[0] is STEP and len(lines) > 1:
        stepping(silence, clock, 1)
    silence.heard(lines)
    wait(silence, clock, 600)
    silence.check()
    wait(silence, clock, 1)
    with pytest.raises(Stalled):
        silence.check()


def test_a_first_step_that_the_probe_says_is_long_has_its_time(clock):
    silence = Silence(Patience())
    silence.expect([{"event": "plan", "plan": {"step_seconds": 90.0}}])
    assert silence.limit == 1800


def test_who_was_frozen_as_well_has_not_waited(clock):
    silence = Silence(Patience())
    stepping(silence, clock, 1)
    clock.now += 100_000
    silence.heard([])
    silence.check()


def test_one_that_ignores_all_leaves_its_stacks_and_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(process, "TICK_SECONDS", 0.05)
    code = (
        "import faulthandler, os, signal, time\n"
        "faulthandler.register(signal.SIGUSR1, all_threads=True)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "def where_it_hangs():\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(60)\n"
        "where_it_hangs()\n"
    )
    log = tmp_path / "log"

    def tick():
        if log.read_text():
            raise Stalled("it stands still", "wait")

    with pytest.raises(Stalled):
        run_process([sys.executable, "-c", code], log=log, error_file=tmp_path / "error.json", tick=tick)
    pid, *stack = log.read_text().splitlines()
    assert "in where_it_hangs" in " ".join(stack)
    assert not psutil.pid_exists(int(pid))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Token shards and a tokenizer of a small made-up text."""
    root = tmp_path_factory.mktemp("stall")
    for split in ("train", "val", "test"):
        text = f"The {split} of words goes on and on, and then it begins again. " * 60
        row = {
            "record_id": split.encode().hex().ljust(32, "0"),
            "text_id": split, "text": text, "n_bytes": len(text), "source": "made",
            "url": "file:a", "title": "", "kind": "prose", "lang": "en", "license": "CC0-1.0", "synthetic": True,
            "page_of_origin": split, "turns": None, "quality": 50.0, "complexity": 50.0, "cluster_id": split,
            "cluster_size": 1,
        }  # fmt: skip
        write_parquet(root / "curated" / split / "00000.parquet", make_table([row], CURATED))
    tokenizer, tokens = root / "a", root / "b"
    train_tokenizer(
        tokenizer, root / "curated", params=TokenizerParams(vocab_size=300, cap=True),
        runtime=TokenizerRuntime(workers=1), report=silent,
    )  # fmt: skip
    make_tokens(
        tokens, root / "curated", tokenizer / "out", params=TokensParams(), runtime=TokensRuntime(workers=1),
        report=silent,
    )  # fmt: skip
    return {"tokens": tokens / "out", "tokenizer": tokenizer / "out"}


def trainer(work):
    """The training process of a work folder."""
    for found in psutil.process_iter():
        try:
            if "lmcore.train" in found.cmdline() and found.cmdline()[-1].startswith(str(work)):
                return found
        except psutil.Error:
            continue
    return None


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("stops", [1, 2])
def test_it_is_tried_once_more(tmp_path, data, task_states, stops):
    """`stops` attempts are brought to a stand by SIGSTOP, as soon as they have saved a step of their own."""

    @step("train", version=1)
    def train(work, *, params: TrainParams, runtime: TrainRuntime, report):
        job = Job(work=work, **data, params=params, runtime=runtime)
        run_trainer(job, report, patience=Patience(least=3.0, medians=1.0, other=90.0))
        return {}

    # One that has seconds to train, on whatever machine; or hours, where its second attempt is to be stopped too.
    minutes = 0.4 if stops == 1 else 600.0
    params = TrainParams(
        model={"n_layers": 1, "d_model": 32, "n_heads": 2, "context": 32}, batch=8, micro_batch=2, minutes=minutes,
        precision="fp32", attention="sdpa", optimizer="adamw", prompts=(),
    )  # fmt: skip
    # It saves when it is told to stop; while it saved before, nobody would expect steps of it for a while.
    runtime = TrainRuntime(
        device="cpu", threads=1, compile="off", save_every_steps=10**9, validate_every=0, sample_at=(),
    )  # fmt: skip
    store = Store(tmp_path / "store")
    over = threading.Event()

    def disturb():
        seen, written = set(), 0
        for _ in range(stops):
            while not over.is_set():
                logs = list(store.root.glob(".work/train-*/progress.jsonl"))
                lines = logs[0].read_text().count('"loss"') if logs else 0
                found = trainer(logs[0].parent) if lines > written + 4 else None
                if found and found.pid not in seen:
                    seen.add(found.pid)
                    os.kill(found.pid, signal.SIGSTOP)
                    written = lines
                    break
                time.sleep(0.05)

    @flow(persist_result=False)
    def night():
        with recording(RunJournal(tmp_path / "run", print)):
            return train(store, params=params, runtime=runtime)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    state = night(return_state=True)
    over.set()
    disturber.join()
    run = state.state_details.flow_run_id
    shown = task_states(run, 2)
    log = (tmp_path / "run" / LOG).read_text()
    assert trainer(store.root) is None, "nothing is left running"
    assert log.count("training stands still: nothing was heard of its process for") >= stops
    assert 'lmcore/train/loop.py", line' in log, "where it stood"
    if stops == 1:
        assert shown == [("train", "Stalled", "FAILED"), ("train", "Completed", "COMPLETED")]
        assert "resuming at step" in log
        assert state.result(raise_on_failure=False).metrics == {}
    else:
        assert shown == [("train", "Stalled", "FAILED"), ("train", "Stalled", "FAILED")]
        assert isinstance(state.result(raise_on_failure=False), Stalled)
    with get_client(sync_client=True) as client:
        first = min((t for t in client.read_task_runs() if t.flow_run_id == run), key=lambda t: t.start_time)
    assert first.state.message.startswith("training stands still: ")
    assert "; to mend: the stacks of its threads are at the end of its log" in first.state.message
