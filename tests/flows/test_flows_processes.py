"""Whole runs whose training is shared by two processes: stopped, killed, told; they leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import signal
import time
import uuid

import psutil
import pytest
from held import every, goes_on_when_told, until_held
from helpers_flows import (
    MARK,
    collect,
    digests,
    finish,
    frozen_site,
    marked,
    start,
    unfinished,
    web_source,
    write_recipe,
)

from storage.atomic import FAULT_VARIABLE
from storage.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.alone]

SOON = 25.0  # seconds: torchrun kills after 30 what does not end when told to
HOLD = 21  # steps after which a training stands still
TRAIN = {"steps": 60, "batch": 8, "micro_batch": 4}
HELD = {FAULT_VARIABLE: every(HOLD)}
TWO = ("--set", "runtime.train.processes=2")


def trainers(process):
    """Training processes below a run, torchrun's agent among them."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "lmcore.train" in child.cmdline():
                found.append(child)
    return found


def held_ranks(process):
    """Wait until both processes that train stand still; told to stop, they go on."""

    def ranks():
        return [one for one in trainers(process) if "RANK" in one.environ()]

    found = until_held(ranks, 2, process.poll)
    goes_on_when_told(*found)
    return found


def test_a_run_stopped_and_killed_ends_as_one_of_one_process(tmp_path, shared_server):
    with frozen_site() as site:
        recipe = write_recipe(tmp_path, web_source(site.url), train=TRAIN)
        alone, store = tmp_path / "alone", tmp_path / "store"
        collect("run", recipe, store=alone, env=shared_server)

        for how in (signal.SIGINT, signal.SIGKILL):
            mark = uuid.uuid4().hex
            process = start("run", recipe, *TWO, store=store, env={**shared_server, MARK: mark, **HELD})
            held_ranks(process)
            assert len(trainers(process)) == 3
            asked = time.monotonic()
            process.send_signal(how)
            finish(process, patience=SOON)
            while marked(mark):
                assert time.monotonic() - asked < SOON, marked(mark)
                time.sleep(0.1)
            saved = max(int(path.name[5:]) for path in store.glob(".work/train-*/checkpoints/step-*"))
            events = next(store.glob(".work/train-*/progress.jsonl")).read_text()
            assert f"stopped after step {saved:,}" in events

        collect("run", recipe, *TWO, store=store, env=shared_server)
    assert not unfinished(store)
    (model,) = Store(store).artifacts("train")
    assert json.loads(model.file("provenance/training.json").read_text())["resumes"] == 2
    # Two ranks of one micro-batch each add up as one process does.
    assert digests(store)["train"] == digests(alone)["train"]


def test_a_lost_process_is_named(tmp_path, shared_server):
    with frozen_site() as site:
        recipe = write_recipe(tmp_path, web_source(site.url), train=TRAIN)
        process = start("run", recipe, *TWO, store=tmp_path / "store", env=shared_server | HELD)
        (last,) = [one for one in held_ranks(process) if one.environ()["RANK"] == "1"]
        last.kill()
        what, mend = finish(process, patience=2 * SOON).error
        assert what == "training process 2 of 2 was ended by SIGKILL, and the others with it"
        assert "run again to continue" in mend
        refused = collect("run", recipe, "--set", "runtime.train.processes=9", store=tmp_path / "store", code=2)
        assert "9 training processes share train.batch=8 sequences" in refused.error[0]
