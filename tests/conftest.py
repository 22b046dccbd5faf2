"""Shared by every test: one torch thread, a printed seed, no fault left armed."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import settings

settings.register_profile("any-machine", deadline=None)  # a loaded machine is no fault of the code
settings.load_profile("any-machine")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["COLLECT_TRAIN_DATA"] = "none"  # recipes read the samples, whatever a developer has fetched


@pytest.fixture(autouse=True)
def _no_fault(monkeypatch):
    monkeypatch.delenv("COLLECT_TRAIN_FAULT", raising=False)


@pytest.fixture
def seed(request):
    """A fresh seed each run, printed with a failure; SEED=n repeats one."""
    value = int(os.environ.get("SEED", random.randrange(2**31)))
    print(f"SEED={value}")
    return value
