"""Batches: every window once an epoch, reproducible from the seed and the step alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import fields

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from curated_texts import SCRIPTS, run_python, write_curated

from lmcore.progress import silent
from lmcore.tokenizer import ByteBPE
from lmcore.tokens import Loader, TokenBatch, sequential
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
from storage.errors import RunError, UserError


def random_texts(seed, count):
    """Texts without repetition, so that the place of a row in the split can be told from its tokens."""
    draw = np.random.default_rng(seed)
    return ["".join(draw.choice(list("abcdé漢 \n"), draw.integers(0, 900))) for _ in range(count)]


TEXTS = {"train": random_texts(7, 90), "val": random_texts(8, 20), "test": []}


@pytest.fixture(scope="module")
def tokenizer():
    return ByteBPE.train(TEXTS["train"], vocab_size=500, split="gpt2", min_frequency=2, max_token_length=64)


@pytest.fixture(scope="module")
def tokens(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    curated = write_curated(folder / "curated", TEXTS)
    make_tokens(
        folder,
        curated,
        folder,
        params=TokensParams(shard_tokens=20_000),
        runtime=TokensRuntime(workers=1),
        report=silent,
    )
    return folder / "out"


@pytest.fixture(scope="module")
def table(tokenizer):
    return tokenizer.byte_length(np.arange(tokenizer.vocab_size))


def stream_of(tokens, split="train"):
    return np.concatenate([np.fromfile(path, dtype="<u2") for path in sorted((tokens / split).glob("*.bin"))])


def loader(tokens, **changes):
    settings = {"batch": 4, "context": 64, "seed": 1, "tokenizer_bytes": None}
    return Loader(tokens, changes.pop("split", "train"), **(settings | changes))


def starts_of(batch, stream):
    """Where each row lies in the ring; unique because the rows are long."""
    ring = np.concatenate([stream, stream[: batch.ids.shape[1]]]).astype(np.uint16).tobytes()
    found = []
    for row in batch.ids.numpy().astype(np.uint16):
        place = ring.find(row.tobytes())
        while place % 2:
            place = ring.find(row.tobytes(), place + 1)
        found.append(place // 2)
    return found


def equal(one, other):
    return all(torch.equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(TokenBatch))


def test_shapes_and_types(tokens, table):
    batch = loader(tokens, tokenizer_bytes=table).batch(0)
    types = {"ids": torch.int64, "targets": torch.int64, "loss_mask": torch.bool, "doc_ids": torch.int32}
    for name, dtype in (types | {"n_bytes": torch.int32}).items():
        assert getattr(batch, name).shape == (4, 64)
        assert getattr(batch, name).dtype == dtype
        assert getattr(batch, name).is_contiguous()


def test_targets_are_the_next_tokens_with_their_bytes_and_documents(tokens, table):
    stream = stream_of(tokens)
    documents = pq.read_table(tokens / "train" / "documents.parquet")
    owner = np.repeat(np.arange(documents.num_rows), documents["n_tokens"])
    for step in range(12):
        batch = loader(tokens, tokenizer_bytes=table).batch(step)
        assert torch.equal(batch.ids[:, 1:], batch.targets[:, :-1])
        for row, start in enumerate(starts_of(batch, stream)):
            places = (start + np.arange(65)) % len(stream)
            assert batch.ids[row].tolist() == stream[places[:-1]].tolist()
            assert batch.targets[row].tolist() == stream[places[1:]].tolist()
            assert batch.doc_ids[row].tolist() == owner[places[:-1]].tolist()
            assert batch.n_bytes[row].tolist() == table[stream[places[1:]]].tolist()
        assert batch.loss_mask.all()


@pytest.mark.parametrize("batch", [1, 4, 7, 5000])
def test_every_window_comes_exactly_once_an_epoch(tokens, batch):
    stream = stream_of(tokens)
    source = loader(tokens, batch=batch)
    windows = len(stream) // 64
    assert source.n_rows == windows
    assert source.steps_per_epoch == -(-windows // batch)
    steps = -(-3 * windows // batch)
    starts = [start for step in range(steps) for start in starts_of(source.batch(step), stream)][: 3 * windows]
    epochs = [starts[windows * epoch : windows * (epoch + 1)] for epoch in range(3)]
    for epoch in epochs:
        offset = min((start % len(stream) for start in epoch), default=0)
        taken = np.concatenate([(np.arange(64) + start) % len(stream) for start in epoch])
        assert len(np.unique(taken)) == 64 * windows  # no token is an input twice
        assert offset < 64
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert len({tuple(sorted(epoch)) for epoch in epochs}) == 3  # other windows, not only another order


def test_the_order_is_shuffled(tokens):
    stream = stream_of(tokens)
    source = loader(tokens, batch=8)
    starts = [start for step in range(20) for start in starts_of(source.batch(step), stream)]
    assert abs(np.corrcoef(np.arange(len(starts)), starts)[0, 1]) < 0.5
    assert (np.diff(starts) == 64).mean() < 0.1


def test_a_batch_is_reproducible_from_nothing(tokens, table):
    source = loader(tokens, tokenizer_bytes=table)
    kept = {step: source.batch(step) for step in (0, 1, 250, 7, 10**12)}
    for step, batch in reversed(kept.items()):
        assert equal(loader(tokens, tokenizer_bytes=table).batch(step), batch)
    assert not equal(kept[0], kept[1])
    assert not equal(loader(tokens, seed=2).batch(0), loader(tokens, seed=1).batch(0))


def test_a_batch_is_the_same_in_another_process(tokens):
    code = """
import sys, hashlib
from pathlib import Path
from lmcore.tokens import Loader
batch = Loader(Path(sys.argv[1]), "train", batch=4, context=64, seed=9, tokenizer_bytes=None).batch(77)
print(hashlib.sha256(batch.ids.numpy().tobytes()).hexdigest())
"""
    here = loader(tokens, seed=9).batch(77).ids.numpy().tobytes()
    assert run_python(code, tokens).stdout.strip() == hashlib.sha256(here).hexdigest()


def test_golden_bytes(tmp_path):
    # Other shards: raise the version of the stage. Another order: runs resumed by the new program would repeat text.
    tokenizer = ByteBPE.train(["a"], vocab_size=262, split="llama3", min_frequency=2, max_token_length=64)  # bytes only
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    curated = write_curated(tmp_path / "curated", {"train": list(SCRIPTS.values())})
    make_tokens(tmp_path, curated, tmp_path, params=TokensParams(), runtime=TokensRuntime(), report=silent)
    source = Loader(tmp_path / "out", "train", batch=4, context=50, seed=11, tokenizer_bytes=None)
    batches = b"".join(source.batch(step).ids.numpy().astype("<i8").tobytes() for step in (0, 1, 1000))
    assert source.n_tokens == 1160
    assert (
        hashlib.sha256((tmp_path / "out" / "train" / "00000.bin").read_bytes()).hexdigest()[:16] == "f093cce74aa85435"
    )
    assert hashlib.sha256(batches).hexdigest()[:16] == "f42bcc720ae2a874"


def test_totals_are_those_of_the_split(tokens):
    source = loader(tokens)
    assert source.n_tokens == len(stream_of(tokens))


@pytest.mark.parametrize(("batch", "context"), [(1, 64), (3, 50), (1000, 7), (2, 10**6)])
def test_sequential_passes_over_the_split_once(tokens, table, batch, context):
    stream = stream_of(tokens, "val")
    targets, documents, n_bytes = [], [], 0
    for part in sequential(tokens, "val", batch, context, tokenizer_bytes=table):
        assert part.ids.shape[1] == context
        assert part.ids.shape[0] <= batch
        targets += part.targets[part.loss_mask].tolist()
        documents += part.doc_ids[part.loss_mask].tolist()
        n_bytes += int(part.n_bytes.sum())
        assert int(part.n_bytes[~part.loss_mask].sum()) == 0
    assert targets == stream[1:].tolist()
    assert documents == sorted(documents)
    assert n_bytes == sum(len(text.encode()) for text in TEXTS["val"])


def test_sequential_without_a_table_counts_no_bytes(tokens):
    assert all(int(part.n_bytes.sum()) == 0 for part in sequential(tokens, "val", 8, 100))


def test_a_split_too_small_for_a_window_says_the_numbers(tokens):
    size = len(stream_of(tokens, "val"))
    assert loader(tokens, split="val", context=size - 1).batch(0).ids.shape == (4, size - 1)
    with pytest.raises(RunError, match=rf"split 'val' of {tokens} has {size:,} tokens, .* context {size:,} needs"):
        loader(tokens, split="val", context=size)
    with pytest.raises(RunError, match=r"split 'test' of .* has 0 tokens"):
        loader(tokens, split="test")
    with pytest.raises(RunError, match=r"split 'test' of .* has 0 tokens"):
        next(sequential(tokens, "test", 1, 8))


def test_a_batch_larger_than_the_split_begins_the_next_epoch(tokens):
    source = loader(tokens, split="val", batch=1000, context=2000)
    assert source.n_rows < 20
    assert source.steps_per_epoch == 1
    assert source.batch(0).ids.shape == (1000, 2000)


def test_another_tokenizer_is_refused(tokens):
    with pytest.raises(RunError, match="was made with 500 tokens, this tokenizer has 501"):
        loader(tokens, tokenizer_bytes=np.ones(501, dtype=np.int32))


def test_an_unknown_split_is_refused(tokens):
    with pytest.raises(UserError, match="has no split 'dev'") as caught:
        loader(tokens, split="dev")
    assert caught.value.mend == "choose one of test, train, val"


def test_damaged_files_are_named(tokens, tmp_path):
    def damaged(change, name):
        folder = shutil.copytree(tokens, tmp_path / "damaged", dirs_exist_ok=True)
        change(folder / name)
        with pytest.raises(RunError, match=f"{folder}/{name}"):
            loader(folder)

    def cut(path):
        path.write_bytes(path.read_bytes()[:-2])

    def other_totals(path):
        meta = json.loads(path.read_text())
        path.write_text(json.dumps(meta | {"dtype": "float32"}))

    damaged(cut, "train/00001.bin")
    damaged(lambda path: path.unlink(), "train/00000.bin")
    damaged(cut, "meta.json")
    damaged(lambda path: path.unlink(), "meta.json")
    damaged(other_totals, "meta.json")
    damaged(cut, "train/documents.parquet")
    damaged(lambda path: pq.write_table(pq.read_table(path).slice(1), path), "train/documents.parquet")
    damaged(
        lambda path: pq.write_table(pq.read_table(path).take([1, 0, *range(2, 90)]), path), "train/documents.parquet"
    )
    loader(shutil.copytree(tokens, tmp_path / "whole"))


def test_micro_batches_are_the_rows_in_order(tokens):
    batch = loader(tokens, batch=7).batch(0)
    parts = batch.split(3)
    assert [len(part.ids) for part in parts] == [3, 3, 1]
    for field in fields(TokenBatch):
        assert torch.equal(torch.cat([getattr(part, field.name) for part in parts]), getattr(batch, field.name))
    assert equal(batch.to("cpu"), batch)
    assert batch.to("meta").doc_ids.device.type == "meta"


def test_a_batch_has_one_shape():
    good = {field.name: torch.zeros(2, 3) for field in fields(TokenBatch)}
    TokenBatch(**good)
    with pytest.raises(AssertionError, match="one shape"):
        TokenBatch(**(good | {"targets": torch.zeros(2, 4)}))
    with pytest.raises(AssertionError, match=r"\(B, T\)"):
        TokenBatch(**{name: torch.zeros(3) for name in good})
