"""A real tokenizer, model and corpus, small enough to make in a second."""

from __future__ import annotations

import functools
import hashlib
import json
import random

import model_checks
import pytest

from lmcore.documents import CURATED, make_table, record_id
from lmcore.models.config import DecoderConfig
from lmcore.models.io import save_model
from lmcore.models.mu_config import MuConfig
from lmcore.tokenizer import ByteBPE
from storage.parquet import write_parquet

WORDS = ["the", "a", "hero", "went", "home", "again,", "and", "sang", "őszi", "szél;", "ሰላም!", "[1, 2]", "<|end|>\n"]


def babble(seed, words):
    source = random.Random(seed)
    return " ".join(source.choice(WORDS) for _ in range(words))


@pytest.fixture(scope="session")
def tokenizer():
    texts = [babble(seed, 200) for seed in range(20)]
    return ByteBPE.train(texts, vocab_size=300, split="llama3", min_frequency=2, max_token_length=64)


shaken = functools.partial(model_checks.shaken, seed=1, spread=0.2)


@pytest.fixture(scope="session")
def make_model():
    return shaken


@pytest.fixture(scope="session")
def make_row():
    return curated_row


@pytest.fixture(scope="session")
def model(tokenizer):
    return shaken(DecoderConfig(n_layers=2, d_model=32, n_heads=2, context=16), tokenizer.vocab_size)


@pytest.fixture(scope="session")
def mu(tokenizer):
    """A model of another family."""
    return shaken(MuConfig(n_layers=2, matrix=(4, 4), n_heads=4, context=16), tokenizer.vocab_size)


@pytest.fixture(scope="session")
def trained(model, tokenizer, tmp_path_factory):
    """A folder laid out like a train artifact."""
    folder = tmp_path_factory.mktemp("train")
    save_model(folder, model)
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    return folder


def curated_row(text, source, kind, lang):
    name = record_id(source, text, text)
    return {
        "record_id": name,
        "text_id": hashlib.sha256(text.encode()).hexdigest()[:32],
        "text": text,
        "n_bytes": len(text.encode()),
        "source": source,
        "url": f"file:{name}",
        "title": "",
        "kind": kind,
        "lang": lang,
        "license": "unknown",
        "synthetic": False,
        "page_of_origin": name,
        "turns": None,
        "quality": 50.0,
        "complexity": 50.0,
        "cluster_id": name,
        "cluster_size": 1,
    }


def write_split(folder, split, rows, rows_per_file=30):
    rows = sorted(rows, key=lambda row: row["record_id"])
    for number, start in enumerate(range(0, max(len(rows), 1), rows_per_file)):
        table = make_table(rows[start : start + rows_per_file], CURATED)
        write_parquet(folder / split / f"{number:05}.parquet", table)


@pytest.fixture(scope="session")
def curated(tmp_path_factory):
    """A folder laid out like a curate artifact: 300 training and 2 x 40 held-out documents of 5 to 60 words."""
    folder = tmp_path_factory.mktemp("curate")
    for split, count, first in (("train", 300, 0), ("val", 40, 1000), ("test", 40, 2000)):
        rows = [
            curated_row(
                babble(first + i, 5 + i % 56),
                source=("web", "files")[i % 2],
                kind=("prose", "code", "dialogue")[i % 3],
                lang=("en", "hu")[i // 20 % 2],
            )
            for i in range(count)
        ]
        write_split(folder, split, rows)
    return folder


@pytest.fixture
def read_json():
    return lambda path: json.loads(path.read_text(encoding="utf-8"))
