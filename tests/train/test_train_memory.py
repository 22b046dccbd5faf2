"""What fits into memory: halved micro-batches, activations made anew, and the loss scale of fp16."""

from __future__ import annotations

import json
import math
import os
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
from lmcore.train.guard import Guard
from lmcore.train.journal import read_lines
from lmcore.train.loop import train
from lmcore.train.params import Job, TrainParams
from lmcore.train.scale import GROWTH_STEPS, LossScale
from storage.errors import UserError


def run(values, **options):
    return train(Job.model_validate(values), **options)


def limited(values, tmp_path, mebibytes, fault=""):
    """Run the trainer's own process with so much memory and no more; (exit code, error.json or None)."""
    path = tmp_path / "JOB.json"
    path.write_text(json.dumps(values))
    limit = mebibytes * 2**20
    done = subprocess.run(
        [sys.executable, "-m", "lmcore.train", str(path)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLLECT_TRAIN_FAULT": fault},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    return done


def events(values, name):
    lines = read_lines(Path(values["work"]) / "progress.jsonl")
    return [line for line in lines if line.get("event") == name]


# A pass over 64 sequences keeps about 1.2 GiB, one over 16 a quarter of that.
WIDE = {
    "model": {"n_layers": 2, "d_model": 64, "n_heads": 8, "context": 256}, "attention": "plain",
    "batch": 64, "micro_batch": 64, "steps": 3,
}  # fmt: skip
QUIET = {"validate_every": 0, "sample_at": []}


@pytest.mark.slow
def test_try(job, tmp_path):
    for mib in (300, 500, 700, 900, 1200, 2000):
        values = job(f"w{mib}", **WIDE, on_oom="halve", runtime=QUIET)
        done = limited(values, tmp_path, mib)
        print(mib, done.returncode, done.stderr[-300:], [e["text"] for e in events(values, "out-of-memory")],
              done.stdout[:900] if mib>600 else "", done.stdout[-200:])
    assert 0
