"""Mixtures by weight and curricula by stage: exact shares, every row once a pass, and any batch again from integers."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import shutil
from collections import Counter
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from curated_texts import run_python, write_curated
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lmcore.documents import CURATED
from lmcore.progress import silent
from lmcore.tokenizer import ByteBPE
from lmcore.tokens import Loader
from lmcore.tokens.mixture import Shares
from lmcore.tokens.params import BLOCK, BatchSettings, check_stages, check_steps, rows_of
from lmcore.tokens.permutation import permute
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
from lmcore.tokens.stream import Pick, TokenStream
from storage.errors import RunError, UserError

SOURCES, LANGS, KINDS = ("a", "b", "c"), ("am", "hu"), ("chat", "prose")


def random_texts(seed, count):
    """Texts without repetition, so that no row is in two of them."""
    draw = np.random.default_rng(seed)
    return ["".join(draw.choice(list("abcdefgh \n"), draw.integers(100, 900))) for _ in range(count)]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """Tokens of 60 texts: sources a, b, c and both languages in turn, kinds by halves, complexity 0, 1, ... 59."""
    folder = tmp_path_factory.mktemp("tokens")
    texts = {"train": random_texts(3, 60), "val": random_texts(4, 4), "test": []}
    tokenizer = ByteBPE.train(texts["train"], vocab_size=400, split="gpt2", min_frequency=2, max_token_length=64)
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    for path in write_curated(folder / "curated", texts).rglob("*.parquet"):
        rows = pq.read_table(path).to_pylist()
        for number, row in enumerate(rows):
            row |= {"source": SOURCES[number % 3], "lang": LANGS[number % 2], "kind": KINDS[number >= 30]}
            row["complexity"] = float(number)
        pq.write_table(pa.Table.from_pylist(rows, schema=CURATED), path)
    params, runtime = TokensParams(shard_tokens=5_000), TokensRuntime(workers=1)
    make_tokens(folder, folder / "curated", folder, params=params, runtime=runtime, report=silent)
    return folder / "out"


def loader(tokens, batch=4, context=16, seed=1, split="train", **settings):
    return Loader(
        tokens,
        split,
        batch=batch,
        context=context,
        seed=seed,
        tokenizer_bytes=None,
        settings=BatchSettings.model_validate(settings),
    )


def row_texts(batch):
    return [tuple(row) for row in batch.ids.tolist()]


def test_documents_say_what_they_are(tokens):
    meta = json.loads((tokens / "meta.json").read_text())
    assert (meta["sources"], meta["langs"], meta["kinds"]) == (list(SOURCES), list(LANGS), list(KINDS))
    table = pq.read_table(tokens / "train" / "documents.parquet")
    assert [SOURCES[number] for number in table["source"].to_pylist()] == [SOURCES[n % 3] for n in range(60)]
    assert [LANGS[number] for number in table["lang"].to_pylist()] == [LANGS[n % 2] for n in range(60)]
    assert [KINDS[number] for number in table["kind"].to_pylist()] == [KINDS[n >= 30] for n in range(60)]
    assert table["complexity"].to_pylist() == list(range(60))


@pytest.mark.parametrize(
    ("mixture", "by", "share", "belongs"),
    [
        ({"a": 3, "c": 1}, "source", {0: 0.75, 2: 0.25}, lambda n: n % 3),
        ({"hu": 0.125, "am": 0.875}, "lang", {0: 0.875, 1: 0.125}, lambda n: n % 2),
        ({"chat": 1, "prose": 9}, "kind", {0: 0.1, 1: 0.9}, lambda n: int(n >= 30)),
    ],
)
def test_rows_come_by_weight(tokens, mixture, by, share, belongs):
    source = loader(tokens, batch=100, mixture=mixture, mixture_by=by)
    for first in (0, 10, 730):  # each ten batches are a block
        found = Counter()
        for number in range(first, first + 10):
            documents = source.batch(number).doc_ids
            owners = [{belongs(document) for document in row} for row in documents.tolist()]
            assert all(len(owner) == 1 for owner in owners), "a row is of one part"
            found.update(owner.pop() for owner in owners)
        assert {part: count / BLOCK for part, count in found.items()} == share


def test_each_part_is_read_once_before_anything_twice(tokens):
    source = loader(tokens, batch=50, mixture={"a": 3, "b": 1}, packing="stride", stride=16)
    rows = [row for number in range(200) for row in row_texts(source.batch(number))]
    for name in ("a", "b"):
        part = TokenStream(tokens, "train", Pick(name))
        n_rows = (part.n_tokens - 17) // 16 + 1
        every = Counter(tuple(part.read(16 * n, 16).tolist()) for n in range(n_rows))
        mine = [row for row in rows if row in every]
        assert len(mine) > 2 * n_rows
        for epoch in range(len(mine) // n_rows):
            here = Counter(mine[epoch * n_rows : (epoch + 1) * n_rows])
            assert here == every


def test_the_order_of_the_names_does_not_matter(tokens):
    one, other = (loader(tokens, mixture=dict(names)) for names in itertools.permutations([("a", 2.0), ("b", 1.0)]))
    assert torch.equal(one.batch(9).ids, other.batch(9).ids)


@given(weights=st.lists(st.floats(0.01, 1), min_size=1, max_size=9), rows=st.integers(0, 5000))
def test_what_was_drawn_is_counted(weights, rows):
    shares = Shares(weights, "label ")
    part, before = shares.locate(np.arange(rows))
    assert np.bincount(part, minlength=len(weights)).tolist() == shares.drawn(rows).tolist()
    for number in range(len(weights)):
        assert before[part == number].tolist() == list(range(int((part == number).sum())))
    again, _ = shares.locate(np.arange(rows)[::-1])
    assert again.tolist() == part[::-1].tolist()


@given(weights=st.lists(st.floats(0.01, 1), min_size=1, max_size=9))
def test_shares_are_those_of_the_weights_to_the_thousandth(weights):
    counts = rows_of(weights)
    assert sum(counts) == BLOCK
    assert np.abs(np.array(counts) / BLOCK - np.array(weights) / sum(weights)).max() < 1 / BLOCK


STAGES = [
    {"share": 0.25, "complexity": [0, 20], "context": 8, "lr_factor": 0.5},
    {"share": 0.5, "mixture": {"a": 1, "b": 1}},
    {"share": 0.25, "mixture": {"b": 3, "c": 1}},
]


def test_stages_follow_the_budget(tokens):
    source = loader(tokens, stages=STAGES)
    starts, seen = [0], []
    for step in range(40):
        starts = source.begun(starts, step / 40, step)
        batch = source.batch(step, starts)
        documents = batch.doc_ids.unique().numpy()
        seen.append((len(starts), source.lr_factor(starts), tuple(batch.ids.shape)))
        assert batch.ids.numel() == 64, "every step has equally many tokens"
        if len(starts) == 1:
            assert documents.max() < 20
        else:
            assert set(documents % 3) <= ({0, 1} if len(starts) == 2 else {1, 2})
    assert starts == [0, 10, 30]
    assert seen == [(1, 0.5, (8, 8))] * 10 + [(2, 1, (4, 16))] * 20 + [(3, 1, (4, 16))] * 10
    assert source.begun([0], 1.0, 77) == [0, 77, 77]
    assert len(source.describe().splitlines()) == 3


def test_a_stage_goes_on_where_another_left_a_part(tokens):
    stages = [{"share": 0.5, "mixture": {"a": 1, "b": 1}}, {"share": 0.5, "mixture": {"a": 1}}]
    source = loader(tokens, batch=8, stages=stages, packing="stride", stride=16)
    part = TokenStream(tokens, "train", Pick("a"))
    n_rows = (part.n_tokens - 17) // 16 + 1
    every = Counter(tuple(part.read(16 * n, 16).tolist()) for n in range(n_rows))
    change = 5
    first = [row for number in range(change) for row in row_texts(source.batch(number)) if row in every]
    assert 0 < len(first) < n_rows
    second = []
    for number in range(change, change + n_rows):
        second += row_texts(source.batch(number, [0, change]))
    assert Counter((first + second)[:n_rows]) == every


@pytest.mark.parametrize(("contexts", "longest"), [((8, 16), 16), ((16, 8), 16), ((4, 8, 16), 16), ((4, 6), 12)])
@pytest.mark.parametrize("mixture", [None, {"a": 1}, {"a": 2, "b": 1}], ids=["all", "a", "a and b"])
def test_windows_go_on_in_a_stage_of_another_context(tokens, contexts, longest, mixture):
    """Every window of the longest context is read once before any of it is read again."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    stages = [{"share": 1 / len(contexts), "context": context} for context in contexts]
    source = loader(tokens, batch=3, context=48, seed=seed, stages=stages, mixture=mixture)
    names = sorted(mixture) if mixture else [None]
    parts = {name: TokenStream(tokens, "train", Pick(name)) for name in names}
    steps = [draw.randint(1, 9) for _ in contexts]
    starts, read = [], {name: [] for name in names}  # tokens in the order they are read, in pieces
    for stage, count in enumerate(steps):
        starts.append(sum(steps[:stage]))
        for number in range(starts[-1], starts[-1] + count):
            batch = source.batch(number, starts)
            assert batch.ids.shape == (3 * 48 // contexts[stage], contexts[stage])
            for row, documents in zip(batch.ids.tolist(), batch.doc_ids.tolist(), strict=True):
                owner = next((name for name in names if documents[0] in parts[name].documents), None)
                read[owner].append((stage, row))
    for name, stream in parts.items():
        rows = read[name]
        label = f"loader {seed} " + (f"{Pick(name)} {longest} " if name or longest != 48 else "")
        drawn = np.frombuffer(hashlib.shake_256(f"{label}0".encode()).digest(72), dtype="<u8")
        windows = permute(np.arange(stream.n_tokens // longest), stream.n_tokens // longest, drawn[1:])
        order = [stream.read(int(longest * place + drawn[0] % stream.n_tokens), longest).tolist() for place in windows]
        at = 0  # tokens read of this epoch
        for stage, context in enumerate(contexts):
            at = -(-at // context) * context  # what a stage had not ended of a row is left out
            for _, row in (found for found in rows if found[0] == stage):
                assert row == order[at // longest][at % longest : at % longest + context]
                at += context


def test_an_epoch_of_stages_is_as_many_tokens_as_there_are(tokens):
    whole = loader(tokens, batch=3, context=48)
    assert whole.n_rows == whole.n_tokens // 48
    for stages in ([{"share": 1, "context": 8}], [{"share": 0.5, "context": 16}, {"share": 0.5}]):
        staged = loader(tokens, batch=3, context=48, stages=stages)
        assert (staged.n_rows, staged.steps_per_epoch) == (whole.n_rows, whole.steps_per_epoch)


@pytest.mark.parametrize("packing", ["best_fit", "stride"])
def test_other_rows_go_on_at_the_same_share_of_the_epoch(tokens, packing):
    stages = [{"share": 0.5, "context": 8}, {"share": 0.5, "context": 16}]
    source = loader(tokens, batch=4, stages=stages, packing=packing)
    short, long = (loader(tokens, batch=4 * 16 // T, context=T, packing=packing) for T in (8, 16))
    change = short.n_rows // 8 * 3 // 4  # three quarters of an epoch
    begun = -(-change * 8 * long.n_rows // short.n_rows)
    assert 0.7 < begun / long.n_rows < 0.8
    assert torch.equal(source.batch(change, [0, change]).ids, long.rows(np.arange(begun, begun + 4)).ids)


@pytest.mark.parametrize("steps", [10, 999_999, 5_000_000, 10**9])
def test_a_stage_begins_at_its_step_in_short_and_long_runs(tokens, steps):
    """0.1 + 0.2 of ten steps are three, and no step of a billion is early."""
    source = loader(tokens, stages=[{"share": 0.1}, {"share": 0.2}, {"share": 0.7}])
    for share, number in ((0.1, 2), (0.3, 3)):
        first = math.ceil(Fraction(str(share)) * steps)
        for step, there in ((first - 1, number - 1), (first, number)):
            assert len(source.begun([0], step / steps, step, steps)) == there, (share, step)


def test_a_batch_of_a_stage_is_made_again_from_integers(tokens):
    code = """
import hashlib, json, sys
from pathlib import Path
from lmcore.tokens import Loader
from lmcore.tokens.params import BatchSettings
settings = BatchSettings.model_validate(json.loads(sys.argv[2]))
source = Loader(Path(sys.argv[1]), "train", batch=4, context=16, seed=1, tokenizer_bytes=None, settings=settings)
batch = source.batch(33, [0, 10, 30])
print(hashlib.sha256(batch.ids.numpy().tobytes() + batch.doc_ids.numpy().tobytes()).hexdigest())
"""
    source = loader(tokens, stages=STAGES)
    for number in range(40):  # what was read before leaves no trace
        source.batch(number)
    batch = source.batch(33, [0, 10, 30])
    here = hashlib.sha256(batch.ids.numpy().tobytes() + batch.doc_ids.numpy().tobytes()).hexdigest()
    done = run_python(code, tokens, json.dumps({"stages": STAGES}))
    assert done.stdout.strip() == here, done.stderr


def test_without_a_mixture_the_order_is_what_it_always_was(tokens):
    """Weights that were trained before mixtures existed can be trained again."""
    source, stream = loader(tokens, seed=9), TokenStream(tokens, "train")
    for epoch in (0, 2):
        drawn = np.frombuffer(hashlib.shake_256(f"loader 9 {epoch}".encode()).digest(72), dtype="<u8")
        places = permute(np.arange(4), source.n_rows, drawn[1:])
        wanted = [stream.read(int(16 * place + drawn[0] % stream.n_tokens), 16).tolist() for place in places]
        assert source.rows(np.arange(4) + epoch * source.n_rows).ids.tolist() == wanted
    same = loader(tokens, seed=9, stages=[{"share": 0.5}, {"share": 0.5, "lr_factor": 0.1}])
    for number in (0, 3, 50):
        assert torch.equal(same.batch(number, [0, 3][: 1 + (number >= 3)]).ids, source.batch(number).ids)


def test_another_seed_is_another_order(tokens):
    assert not torch.equal(
        loader(tokens, stages=STAGES).batch(3).ids, loader(tokens, stages=STAGES, seed=2).batch(3).ids
    )


def test_what_does_not_fit_is_said(tokens):
    with pytest.raises(UserError, match="has no source 'd'") as caught:
        loader(tokens, mixture={"a": 1, "d": 1})
    assert "(a, b, c)" in caught.value.mend
    with pytest.raises(
        UserError, match=r"has no text in split 'train' with source 'a', complexity 80 to 100"
    ) as caught:
        loader(tokens, mixture={"a": 1}, stages=[{"share": 1, "complexity": [80, 100]}])
    assert "0.0 to 57.0, half of them below 28.5" in caught.value.mend
    with pytest.raises(UserError, match=r"weight 0.0001 of a mixture is less than a thousandth of all 1.0001"):
        loader(tokens, mixture={"a": 1, "b": 0.0001})
    with pytest.raises(RunError, match=r"source 'a' has [\d,]+ tokens, one window of context 100,000 needs 100,001"):
        loader(tokens, context=100_000, mixture={"a": 1})
    with pytest.raises(UserError, match=r"weight 0.0001 of a mixture is less than a thousandth of all 1.0001"):
        check_stages(BatchSettings(mixture={"a": 1, "b": 0.0001}), 16)
    strides = BatchSettings(packing="stride", stride=12, stages=[{"share": 0.5}, {"share": 0.5, "context": 8}])
    with pytest.raises(UserError, match=r"train\.stride 12 is longer than the context of 8"):
        check_stages(strides, 16)
    stages = BatchSettings.model_validate({"stages": [{"share": 0.99}, {"share": 0.01, "context": 12}]})
    with pytest.raises(UserError, match=r"train\.stages 2 has a context of 12, which does not divide the model's 16"):
        check_stages(stages, 16)
    with pytest.raises(UserError, match=r"train\.stages 2 has 0.01 of 50 steps, which is none"):
        check_steps(stages, 50)
    check_steps(stages, 100)
    check_steps(BatchSettings(), 1)
    with pytest.raises(ValidationError, match=r"shares of the stages add up to 0.75"):
        BatchSettings.model_validate({"stages": STAGES[:2]})
    with pytest.raises(ValidationError, match="holds no text: the lower bound comes first"):
        BatchSettings.model_validate({"stages": [{"share": 1, "complexity": [40, 20]}]})
    with pytest.raises(ValidationError, match="mixture_by lang has no meaning without a mixture"):
        BatchSettings(mixture_by="lang")
    with pytest.raises(ValidationError, match="a mixture without a name"):
        BatchSettings(mixture={})


def test_tokens_of_an_older_version_cannot_be_picked_by_what_they_lack(tokens, tmp_path):
    old = shutil.copytree(tokens, tmp_path / "old")
    meta = json.loads((old / "meta.json").read_text())
    for name in ("tokenizer", "sources", "langs", "kinds"):
        del meta[name]
    (old / "meta.json").write_text(json.dumps(meta))
    assert loader(old).batch(0).ids.shape == (4, 16)
    with pytest.raises(UserError, match="has no lang 'hu'") as caught:
        loader(old, mixture={"hu": 1}, mixture_by="lang")
    assert "made before the lang was noted" in caught.value.mend
    with pytest.raises(UserError, match="made before the complexity of texts was noted"):
        loader(old, stages=[{"share": 1, "complexity": [0, 50]}])
