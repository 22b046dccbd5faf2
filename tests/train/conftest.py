"""Real token shards and a real tokenizer, made once by the rooms that make them, and a tiny job on them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest
from helpers_texts import row

from lmcore.documents import CURATED, make_table
from lmcore.progress import silent
from lmcore.tokenizer.train import TokenizerParams, TokenizerRuntime, train_tokenizer
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
from storage.digest import digest_file
from storage.parquet import write_parquet

MODEL = {"n_layers": 2, "d_model": 32, "n_heads": 2, "context": 32}
PARAMS = {
    "model": MODEL,
    "batch": 4,
    "steps": 12,
    "precision": "fp32",
    "attention": "sdpa",
    "micro_batch": 2,
    "prompts": ["The"],
}
RUNTIME = {"device": "cpu", "threads": 1, "compile": "off", "sample_tokens": 5, "validation_tokens": 500}
WORDS = ["the", "a", "river", "mountain", "walks", "sings", "under", "over", "old", "bird", "and", "while", "stone"]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Folders `tokens` and `tokenizer` of a small made-up language: 40 training documents, 4 for validation."""
    root = tmp_path_factory.mktemp("train-data")
    for split, documents, numbers in (("train", 40, 1), ("val", 4, 2), ("test", 1, 3)):
        text = random.Random(numbers)
        rows = [row(f"{numbers:016d}{n:016d}", _prose(text)) for n in range(documents)]
        write_parquet(root / "curated" / split / "00000.parquet", make_table(rows, CURATED))
    train_tokenizer(
        root / "a",
        root / "curated",
        params=TokenizerParams(vocab_size=320),
        runtime=TokenizerRuntime(workers=1),
        report=silent,
    )
    make_tokens(
        root / "b",
        root / "curated",
        root / "a" / "out",
        params=TokensParams(),
        runtime=TokensRuntime(workers=1),
        report=silent,
    )
    return {"tokens": str(root / "b" / "out"), "tokenizer": str(root / "a" / "out")}


def _prose(text):
    sentences = (" ".join(text.choices(WORDS, k=text.randint(4, 9))).capitalize() for _ in range(30))
    return ". ".join(sentences) + ".\n"


@pytest.fixture
def job(data, tmp_path):
    """Values of a job with the tiny model; `params` and `runtime` are changed by keyword, `work` names the folder."""

    def make(work="work", *, start_from=None, runtime=None, **params):
        chosen = PARAMS | params
        if {"tokens", "epochs", "minutes"} & params.keys():
            del chosen["steps"]
        return {
            "work": str(tmp_path / work), **data, "start_from": start_from,
            "params": chosen, "runtime": RUNTIME | (runtime or {}),
        }  # fmt: skip

    return make


@pytest.fixture
def trainer(tmp_path):
    """Runs `python -m lmcore.train` on a job, with a fault armed when asked; gives the finished process."""

    def run(values, fault="", *, wait=True):
        path = tmp_path / "JOB.json"
        path.write_text(json.dumps(values))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLLECT_TRAIN_FAULT": fault}
        process = subprocess.Popen(
            [sys.executable, "-m", "lmcore.train", str(path)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if not wait:
            return process
        process.out, process.err = process.communicate(timeout=120)
        return process

    return run


@pytest.fixture
def content():
    """sha256 of every content file of `work/out`: all but what is under provenance/."""

    def digests(values):
        from pathlib import Path

        out = Path(values["work"]) / "out"
        files = (path for path in sorted(out.rglob("*")) if path.is_file())
        return {
            str(path.relative_to(out)): digest_file(path)
            for path in files
            if path.relative_to(out).parts[0] != "provenance"
        }

    return digests
