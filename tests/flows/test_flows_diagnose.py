"""`collect-train diagnose` finds the training of a run, finished or not."""

from __future__ import annotations

import json

import pytest
from helpers_flows import collect
from test_flows_start import publish

from storage.parquet import write_parquet
from storage.store import Store
from tasks.journal import RunJournal


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def begun(store, key, *, stage="train"):
    """The journal of a run that came to a stage."""
    folder = store.root / "runs" / "run-1"
    folder.mkdir(parents=True)
    return folder, RunJournal


def test_no_run_is_told(store):
    ended = collect("diagnose", store=store.root)
    assert ended.returncode == 2
    assert "run" in ended.stderr
    assert json and publish and write_parquet
