"""`dataset.bin` byte for byte as CLLM's program writes it, and what is wrong with one is said."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from curated_texts import ROOT, write_curated
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from flows.dataset import write_dataset
from lmcore.progress import silent
from lmcore.tokenizer import load_tokenizer
from lmcore.tokenizer.words import Words
from lmcore.tokens import dataset_bin
from lmcore.tokens.dataset_bin import read_dataset_bin, write_dataset_bin
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
from storage.errors import RunError, UserError
from storage.manifest import Provenance
from storage.store import Store

TEXTS = {
    "train": ["The old River sings", "", "a bird and A stone", *(f"river number {n} sings" for n in range(300))],
    "val": ["a bird"],
    "test": [],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Tokens of CLLM's own kind of vocabulary."""
    folder = tmp_path_factory.mktemp("made")
    words = Words.train(TEXTS["train"], vocab_size=12, min_frequency=1, max_token_length=50, order="first_seen")
    for name, data in words.files().items():
        (folder / name).write_bytes(data)
    curated = write_curated(folder / "curated", TEXTS)
    params, runtime = TokensParams(shard_tokens=1024), TokensRuntime(workers=1)
    make_tokens(folder, curated, folder, params=params, runtime=runtime, report=silent)
    return folder


def expected(made, split="train"):
    """What CLLM's program would write: 8 bytes, then 4 for each token, without marks; with struct, document by doc."""
    tokenizer = load_tokenizer(made)
    rows = sorted((made / "curated" / split).glob("*.parquet"))
    texts = [text for path in rows for text in pq.read_table(path)["text"].to_pylist()]
    ids = [int(i) for some in tokenizer.encode_ids(texts) for i in some]
    return struct.pack("<Q", len(ids)) + b"".join(struct.pack("<I", i) for i in ids)


@pytest.mark.parametrize("chunk", [1, 7, 2**20])
def test_the_bytes_are_those_of_cllm(made, tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(dataset_bin, "CHUNK", chunk)
    assert len(list((made / "out" / "train").glob("*.bin"))) > 1, "several shards"
    for split in ("train", "val"):
        count = write_dataset_bin(made / "out", split, tmp_path / "dataset.bin")
        data = (tmp_path / "dataset.bin").read_bytes()
        assert data == expected(made, split)
        assert len(data) == 8 + 4 * count
        assert read_dataset_bin(tmp_path / "dataset.bin", 12).tobytes() == data[8:]


def test_a_split_without_text_is_refused(made, tmp_path):
    with pytest.raises(UserError, match=r"split 'test' of .* has no text"):
        write_dataset_bin(made / "out", "test", tmp_path / "dataset.bin")
    assert not list(tmp_path.iterdir())


@given(ids=st.lists(st.integers(0, 2**32 - 1), max_size=50), cut=st.integers(1, 12), extra=st.binary(max_size=9))
@settings(max_examples=60)
def test_any_file_is_read_or_refused(ids, cut, extra, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "dataset.bin"
    data = struct.pack("<Q", len(ids)) + np.array(ids, dtype="<u4").tobytes()
    path.write_bytes(data)
    assert read_dataset_bin(path).tolist() == ids
    path.write_bytes(data[:-cut])
    with pytest.raises(RunError, match=r"dataset\.bin has"):
        read_dataset_bin(path)
    if extra:
        path.write_bytes(data + extra)
        with pytest.raises(RunError, match=f"its header says {len(ids):,} tokens"):
            read_dataset_bin(path)


def test_what_is_wrong_is_named(made, tmp_path):
    path = tmp_path / "dataset.bin"
    with pytest.raises(RunError, match=f"cannot read {path}: No such file"):
        read_dataset_bin(path)
    write_dataset_bin(made / "out", "train", path)
    with pytest.raises(RunError, match="has a token 11, and the vocabulary only 5"):
        read_dataset_bin(path, 5)


@pytest.fixture(scope="module")
def store(made, tmp_path_factory):
    """A store with the tokens as its one artifact."""
    store = Store(tmp_path_factory.mktemp("store"))
    out = shutil.copytree(made / "out", store.work("tokens", "abc") / "out")
    now = "2026-01-01T00:00:00+00:00"
    facts = {"params": {}, "stage_version": 2, "pure": True, "inputs": [], "metrics": {}, "started": now}
    facts |= {"finished": now, "seconds": 1.0, "attempts": 1, "host": "", "environment": {}, "code": {}, "run": ""}
    store.publish("tokens", "abc", out, Provenance.model_validate(facts))
    return store


def collect(store, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "export-tokens", *map(str, arguments), "--store", str(store.root)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "300"},
        cwd=ROOT,
    )


def test_the_command_says_what_it_wrote(made, store, tmp_path):
    path = tmp_path / "dataset.bin"
    done = collect(store, "tokens", path)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == expected(made)
    n_tokens = (path.stat().st_size - 8) // 4
    assert f"{n_tokens:,} tokens of {len(TEXTS['train'])} documents of split train, {8 + 4 * n_tokens:,}" in done.stdout
    assert "ids 1 to 11 of a vocabulary of 12" in done.stdout
    done = collect(store, "tokens/abc", path, "--split", "dev")
    assert done.returncode == 2
    assert "has no split 'dev'" in done.stderr
    assert "choose one of test, train, val" in done.stderr
    assert path.read_bytes() == expected(made), "what was there is left"


def test_what_the_command_cannot_do_is_said(store, tmp_path):
    console = Console()
    with pytest.raises(UserError, match="is a folder"):
        write_dataset(store, "abc", tmp_path, "train", console)
    with pytest.raises(UserError, match="no artifact 'curate'"):
        write_dataset(store, "curate", tmp_path / "dataset.bin", "train", console)
    damaged = Store(shutil.copytree(store.root, tmp_path / "damaged"))
    shard = damaged.root / "tokens" / "abc" / "train" / "00000.bin"
    shard.chmod(0o644)
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(RunError, match=r"the token shard .* has"):
        write_dataset(damaged, "tokens", tmp_path / "dataset.bin", "train", console)
