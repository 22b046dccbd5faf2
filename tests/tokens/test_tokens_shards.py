"""The tokens stage: counts agree with the texts; equal bytes for any threads, and after a kill at any point."""

from __future__ import annotations

import json
import shutil
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
from curated_texts import SCRIPTS, documentation, mixed_texts, run_python, tree, write_curated
from hypothesis import given
from hypothesis import strategies as st

from lmcore.documents import SPLITS
from lmcore.progress import silent
from lmcore.tokenizer import ByteBPE, load_tokenizer
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens, plan_shards
from storage.errors import RunError

STAGE = """
import sys
from pathlib import Path
from lmcore.progress import silent
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
work, curated, tokenizer = map(Path, sys.argv[1:])
make_tokens(work, curated, tokenizer, params=TokensParams(shard_tokens=4_000), runtime=TokensRuntime(), report=silent)
"""
TEXTS = {
    "train": [*mixed_texts(5, 60), "", *SCRIPTS.values()],
    "val": list(documentation()[:2]),
    "test": [],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A curated artifact and a tokenizer."""
    folder = tmp_path_factory.mktemp("inputs")
    save(folder / "tokenizer", train(TEXTS["train"], 600))
    return write_curated(folder / "curated", TEXTS, rows_a_file=23), folder / "tokenizer"


def train(texts, vocab_size):
    return ByteBPE.train(texts, vocab_size=vocab_size, split="llama3", min_frequency=2, max_token_length=64)


def save(folder, tokenizer):
    folder.mkdir()
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")


def make(work, folders, workers=1, shard_tokens=4_000, report=silent):
    return make_tokens(
        work,
        *folders,
        params=TokensParams(shard_tokens=shard_tokens),
        runtime=TokensRuntime(workers=workers),
        report=report,
    )


def read(out, split):
    """The documents of a split as their table and shards tell: (record_id, ids, n_bytes)."""
    meta = json.loads((out / "meta.json").read_text())
    shards = [np.fromfile(path, dtype=meta["dtype"]) for path in sorted((out / split).glob("*.bin"))]
    assert [len(shard) for shard in shards] == meta["splits"][split]["shards"]
    for row in pq.read_table(out / split / "documents.parquet").to_pylist():
        ids = shards[row["shard"]][row["offset"] : row["offset"] + row["n_tokens"]]
        assert len(ids) == row["n_tokens"]
        yield row["record_id"], ids.tolist(), row["n_bytes"]


def test_documents_are_the_curated_texts_in_their_order(folders, tmp_path):
    metrics = make(tmp_path, folders)
    curated, tokenizer = folders[0], load_tokenizer(folders[1])
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert (meta["dtype"], meta["vocab_size"], meta["bos_id"]) == ("uint16", 600, 0)
    for split in SPLITS:
        rows = [row for path in sorted((curated / split).glob("*")) for row in pq.read_table(path).to_pylist()]
        found = list(read(tmp_path / "out", split))
        assert [name for name, _, _ in found] == [row["record_id"] for row in rows]
        assert [n_bytes for _, _, n_bytes in found] == [len(row["text"].encode()) for row in rows]
        for (_, ids, _), row in zip(found, rows, strict=True):
            assert ids[0] == tokenizer.bos_id
            assert ids[1:] == tokenizer.encode(row["text"])
        facts = meta["splits"][split]
        assert facts["documents"] == len(rows)
        assert facts["bytes"] == sum(row["n_bytes"] for row in rows)
        assert facts["tokens"] == sum(len(ids) for _, ids, _ in found) == metrics[f"tokens_{split}"]
    assert len(meta["splits"]["train"]["shards"]) > 3
    assert meta["splits"]["test"] == {"shards": [], "masks": [], "tokens": 0, "documents": 0, "bytes": 0}
    assert metrics["shards"] == sum(len(facts["shards"]) for facts in meta["splits"].values())


def test_equal_bytes_for_any_number_of_threads(folders, tmp_path):
    for workers in (1, 2, 5, 0):
        make(tmp_path / f"{workers}", folders, workers)
    whole = tree(tmp_path / "1" / "out")
    assert all(tree(tmp_path / f"{workers}" / "out") == whole for workers in (2, 5, 0))


@pytest.mark.parametrize(
    "point",
    ["tokens.shard:1", "tokens.shard:3", "tokens.before-meta", "atomic.write.before-rename:4", "parquet.write:2"],
)
def test_killed_and_run_again_it_leaves_equal_bytes(folders, tmp_path, point):
    make(tmp_path / "whole", folders)
    killed = run_python(STAGE, tmp_path / "killed", *folders, COLLECT_TRAIN_FAULT=point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed" / "out" / "meta.json").exists()
    finished = list((tmp_path / "killed" / "finished").rglob("*.json"))
    kept = {
        path: path.stat().st_ino
        for path in (tmp_path / "killed" / "out").rglob("*.bin")
        if any(mark.stem == path.stem and mark.parent.name == path.parent.name for mark in finished)
    }
    assert len(kept) == len(finished) >= (point != "tokens.shard:1")
    make(tmp_path / "killed", folders)
    assert tree(tmp_path / "killed" / "out") == tree(tmp_path / "whole" / "out")
    assert all(path.stat().st_ino == inode for path, inode in kept.items())  # finished shards were not made again


def test_a_full_disk_names_the_path_and_keeps_what_was_finished(folders, tmp_path):
    found = run_python(STAGE, tmp_path / "work", *folders, COLLECT_TRAIN_FAULT="atomic.write.before-rename:4=enospc")
    assert found.returncode == 1
    assert f"disk full while writing {tmp_path}/work/finished/train/00001.json" in found.stderr
    make(tmp_path / "work", folders)
    make(tmp_path / "whole", folders)
    assert tree(tmp_path / "work" / "out") == tree(tmp_path / "whole" / "out")


def test_writing_shards_needs_no_torch():
    code = "import sys, lmcore.tokens.shards; assert 'torch' not in sys.modules; assert 'prefect' not in sys.modules"
    found = run_python(code)
    assert found.returncode == 0, found.stderr


def test_progress_reaches_the_whole_also_when_resumed(folders, tmp_path):
    total = sum(len(text.encode()) for texts in TEXTS.values() for text in texts)
    for _ in range(2):
        said = []
        make(tmp_path, folders, report=lambda done, total, note="", said=said: said.append((done, total)))
        assert said == sorted(said)
        assert said[-1] == (total, total)


@pytest.mark.slow
def test_a_vocabulary_beyond_two_bytes_is_stored_in_four(tmp_path, seed):
    draw = np.random.default_rng(seed)
    words = draw.integers(ord("a"), ord("z") + 1, (14_000, 12), dtype=np.uint8)
    text = " ".join(bytes(word).decode() for word in words)
    tokenizer = train([text, text], 66_000)
    assert tokenizer.vocab_size == 66_000
    save(tmp_path / "tokenizer", tokenizer)
    curated = write_curated(tmp_path / "curated", {"train": [text, "ab"]})
    make(tmp_path, (curated, tmp_path / "tokenizer"), shard_tokens=2**20)
    assert json.loads((tmp_path / "out" / "meta.json").read_text())["dtype"] == "uint32"
    found = [ids for _, ids, _ in read(tmp_path / "out", "train")]
    assert max(max(ids) for ids in found) > 2**16
    assert sorted(tokenizer.decode(ids) for ids in found) == sorted([text, "ab"])


def test_no_documents_to_train_on_is_an_error(folders, tmp_path):
    curated = write_curated(tmp_path / "curated", {"train": [], "val": ["text"]})
    with pytest.raises(RunError, match=f"no training text in {curated}/train"):
        make(tmp_path / "work", (curated, folders[1]))


def test_damaged_inputs_are_named(folders, tmp_path):
    curated, tokenizer = (shutil.copytree(folder, tmp_path / folder.name) for folder in folders)
    file = curated / "train" / "00001.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=str(file)):
        make(tmp_path / "work", (curated, tokenizer))
    file.write_bytes(whole)
    table = pq.read_table(file)
    wrong = np.array(table["n_bytes"]) + (np.arange(table.num_rows) == 4)
    pq.write_table(table.set_column(3, table.schema.field(3), [wrong]), file)
    with pytest.raises(RunError, match=rf"document 27 of {curated}/train has n_bytes \d+, its text has \d+"):
        make(tmp_path / "work", (curated, tokenizer))
    (tokenizer / "tokenizer.json").write_text("{")
    with pytest.raises(RunError, match=f"{tokenizer}/tokenizer.json"):
        make(tmp_path / "work", (curated, tokenizer))


@given(sizes=st.lists(st.integers(0, 3000), max_size=60), limit=st.integers(1024, 4000))
def test_shards_are_full_but_never_too_full(sizes, limit):
    shards = plan_shards(np.array(sizes, dtype=np.int64), limit)
    assert [document for shard in shards for document in range(shard.start, shard.stop)] == list(range(len(sizes)))
    assert [shard.number for shard in shards] == list(range(len(shards)))
    for shard in shards:
        most = sum(size + 1 for size in sizes[shard.start : shard.stop])
        assert most <= limit or shard.stop == shard.start + 1
        if shard.stop < len(sizes):
            assert most + sizes[shard.stop] + 1 > limit
