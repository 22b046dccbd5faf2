"""What the worker's job variables say about a training, and what the recipe says over it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from lmcore.train.params import TrainParams, TrainRuntime
from storage.errors import UserError
from tasks.environment import RESOURCES_VARIABLE, resources
from tasks.train import with_resources

PARAMS = TrainParams(steps=1, batch=4)


def given(monkeypatch, **variables):
    """What deploy/launch.py hands on."""
    asked = {"cpus": 0, "threads": 0, "memory": 2**20, "gpus": "all", "processes": 1, "nodes": 1} | variables
    monkeypatch.setenv(RESOURCES_VARIABLE, json.dumps(asked))


@pytest.mark.parametrize(
    ("variables", "recipe", "processes", "threads"),
    [
        ({}, {}, 1, 0),
        ({"processes": 2}, {}, 2, 0),
        ({"processes": 2}, {"processes": 1}, 1, 0),
        ({"processes": 2}, {"processes": 3}, 3, 0),
        ({"processes": 2, "threads": 2}, {}, 2, 2),
        ({"processes": 2, "threads": 2}, {"threads": 1}, 2, 1),
        ({"threads": 2}, {}, 1, 0),  # one process reads the thread variable itself
    ],
)
def test_the_recipe_is_above_the_worker(monkeypatch, variables, recipe, processes, threads):
    given(monkeypatch, **variables)
    found = with_resources(PARAMS, TrainRuntime(**recipe))
    assert (found.processes, found.threads) == (processes, threads)


def test_without_a_worker_it_is_one_process(monkeypatch):
    monkeypatch.delenv(RESOURCES_VARIABLE, raising=False)
    assert with_resources(PARAMS, TrainRuntime()).processes == 1


def test_more_processes_than_sequences(monkeypatch):
    given(monkeypatch, processes=5)
    with pytest.raises(UserError) as error:
        with_resources(PARAMS, TrainRuntime())
    assert error.value.what.startswith("5 training processes share train.batch=4 sequences")


@pytest.mark.parametrize(
    ("variables", "what"),
    [({"nodes": 2}, "the job variable nodes is 2"), ({"processes": 0}, RESOURCES_VARIABLE)],
)
def test_what_cannot_be_is_refused(monkeypatch, variables, what):
    given(monkeypatch, **variables)
    with pytest.raises(UserError) as error:
        resources()
    assert error.value.what.startswith(what)
    assert error.value.mend


def test_what_the_launcher_cannot_give_is_told_by_the_run():
    told = "from tasks.environment import resources; resources()"
    command = [sys.executable, "-m", "deploy.launch", "--cpus", "4096", "--", sys.executable, "-c", told]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    cores = len(os.sched_getaffinity(0))
    said = f"UserError: the job variable cpus is 4096, but this worker may use {cores}\n  to mend: lower it"
    assert said in done.stderr, done.stderr
