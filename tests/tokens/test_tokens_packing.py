"""Packing: best fit loses no token and begins every row with a document; strides overlap as they are told."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from curated_texts import documentation, mixed_texts, write_curated
from hypothesis import given
from hypothesis import strategies as st

from lmcore.progress import silent
from lmcore.tokenizer import ByteBPE
from lmcore.tokens import Loader
from lmcore.tokens.packing import BestFit, best_fit
from lmcore.tokens.params import BatchSettings
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
from lmcore.tokens.stream import TokenStream
from lmcore.train.team import Team
from storage.errors import RunError, UserError

TEXTS = {"train": [*mixed_texts(11, 80), documentation()[3], ""], "val": ["word " * 4, "more"], "test": []}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    tokenizer = ByteBPE.train(TEXTS["train"], vocab_size=400, split="gpt2", min_frequency=2, max_token_length=64)
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    curated = write_curated(folder / "curated", TEXTS)
    params = TokensParams(shard_tokens=20_000)
    make_tokens(folder, curated, folder, params=params, runtime=TokensRuntime(workers=1), report=silent)
    return folder / "out"


def loader(tokens, split="train", **changes):
    batches = BatchSettings(packing=changes.pop("packing", "best_fit"), stride=changes.pop("stride", None))
    settings = {"batch": 4, "context": 128, "seed": 1, "tokenizer_bytes": None, "settings": batches}
    return Loader(tokens, split, **(settings | changes))


@pytest.mark.parametrize("context", [1, 2, 127, 3000])
def test_best_fit_holds_every_token_once(tokens, context):
    stream = TokenStream(tokens, "train")
    rows = BestFit(stream, context)
    read = rows.read(np.arange(rows.n_rows), 0)
    assert (read.tokens[:, 0] == stream.bos_id).all(), "every row begins with a document"
    # a piece put together again: the tokens of each document without marks
    seen = Counter()
    full = np.full((rows.n_rows, 1), -1, dtype=np.int32)
    documents = np.concatenate([read.documents, full], axis=1)  # of the last token it is that of the one before
    documents[:, -1] = np.where(read.counts[:, -1] & (read.tokens[:, -1] != stream.bos_id), documents[:, -2], -1)
    for document, token in zip(documents.ravel().tolist(), read.tokens.ravel().tolist(), strict=True):
        if document >= 0 and token != stream.bos_id:
            seen[document, token] += 1
    expected = Counter()
    for document, (start, length) in enumerate(zip(stream.starts, stream.lengths, strict=True)):
        expected.update((document, token) for token in stream.read(int(start) + 1, int(length) - 1).tolist())
    assert seen == expected
    assert rows.n_cut == int((stream.lengths > context + 1).sum())
    if context == 127:
        assert 0 < rows.filling < 0.03
        assert f"{rows.n_cut} longer than a row" in rows.describe()


def test_best_fit_counts_text_and_the_ends_of_documents(tokens):
    source = loader(tokens)
    stream = TokenStream(tokens, "train")
    batches = [source.rows(np.array([number])) for number in range(source.n_rows)]
    ends = text = 0
    for batch in batches:
        inside = batch.doc_ids[0] >= 0
        assert inside[0]
        assert not bool((~inside[:-1] & inside[1:]).any()), "what fills up is at the end"
        mark = batch.targets[0] == stream.bos_id
        ends += int((batch.loss_mask[0] & mark).sum())
        text += int((batch.loss_mask[0] & ~mark).sum())
        same = batch.doc_ids[0, 1:] == batch.doc_ids[0, :-1]
        assert (same | (batch.ids[0, 1:] == stream.bos_id)).all(), "documents change at a begin mark only"
    assert text == stream.n_tokens - stream.n_documents, "each token of text is a target once"
    assert stream.n_documents * 0.5 < ends <= stream.n_documents


def test_rows_are_visited_once_an_epoch(tokens):
    source = loader(tokens)
    epochs = [
        [tuple(source.rows(np.array([e * source.n_rows + n])).ids[0].tolist()) for n in range(source.n_rows)]
        for e in range(2)
    ]
    assert Counter(epochs[0]) == Counter(epochs[1])
    assert epochs[0] != epochs[1]


def test_more_ranks_than_documents_still_divide_the_rows(tokens):
    whole = loader(tokens, "val", batch=8, context=4)
    assert TokenStream(tokens, "val").n_documents == 2
    shares = [Team(rank, 8).share(whole.batch(1)).ids for rank in range(8)]
    assert [len(share) for share in shares] == [1] * 8
    assert torch.equal(torch.cat(shares), whole.batch(1).ids)


def test_a_row_longer_than_every_document_holds_several(tokens):
    longest = int(TokenStream(tokens, "train").lengths.max())
    source = loader(tokens, context=longest + 50)
    assert "(0 longer than a row" in source.describe()
    assert all(len(source.rows(np.array([n])).doc_ids.unique()) > 1 for n in range(source.n_rows - 1))
    with pytest.raises(RunError, match="one window of context 100 needs 101"):
        loader(tokens, "val", context=100)


def naive(lengths, row):
    rooms = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        room = min(fitting, default=row)
        if fitting:
            rooms.remove(room)
        rooms.append(room - length)
    return sorted(rooms)


@given(data=st.data(), row=st.integers(2, 60))
def test_best_fit_is_best_fit(data, row):
    lengths = np.array(data.draw(st.lists(st.integers(1, row), min_size=1, max_size=120)), dtype=np.int32)
    found = best_fit(lengths, row)
    rooms = row - np.bincount(found, weights=lengths).astype(int)
    assert sorted(rooms.tolist()) == naive(lengths.tolist(), row)


def test_strides_are_those_of_mu(tokens):
    """MU: windows of 513 tokens every 256 (here 129 every 64), from the first token on; x = w[:-1], y = w[1:]."""
    stream = TokenStream(tokens, "train")
    source = loader(tokens, packing="stride", stride=64)
    assert source.n_rows == (stream.n_tokens - 129) // 64 + 1
    assert loader(tokens, packing="stride").n_rows == source.n_rows, "half the context is the default"
    whole = stream.read(0, stream.n_tokens)
    wanted = Counter(tuple(whole[64 * n : 64 * n + 128].tolist()) for n in range(source.n_rows))
    found = Counter(tuple(source.rows(np.array([n])).ids[0].tolist()) for n in range(source.n_rows))
    assert found == wanted
    with pytest.raises(UserError, match=r"train\.stride 129 is longer than the context of 128"):
        loader(tokens, packing="stride", stride=129)


def test_documents_of_packed_rows_are_those_of_the_table(tokens):
    stream = TokenStream(tokens, "train")
    lengths = pq.read_table(tokens / "train" / "documents.parquet")["n_tokens"].to_pylist()
    source = loader(tokens, context=400)
    for number in range(source.n_rows):
        batch = source.rows(np.array([number]))
        for document in batch.doc_ids[0].unique().tolist():
            if document >= 0 and lengths[document] <= 400:
                here = batch.ids[0][batch.doc_ids[0] == document].tolist()
                whole = stream.read(int(stream.starts[document]), lengths[document]).tolist()
                assert here in (whole, whole[:-1])  # the last token of a full row is a target only


@pytest.mark.parametrize("context", [8, 100, 4096])
def test_texts_are_a_row_each(tokens, context):
    stream = TokenStream(tokens, "train")
    source = loader(tokens, packing="texts", context=context, batch=5)
    pieces = sum(max(1, -(-(int(length) - 1) // context)) for length in stream.lengths)
    assert source.n_rows == pieces
    assert source.steps_per_epoch == -(-pieces // 5)
    learnt = 0
    for number in range(source.n_rows):
        batch = source.rows(np.array([number]))
        documents = set(batch.doc_ids.unique().tolist()) - {-1}
        assert len(documents) == 1
        learnt += int(batch.loss_mask.sum())
    # each document's tokens but its begin mark, and after it the mark of the next where the row has room
    room = sum(int(length) - 1 + ((int(length) - 1) % context != 0 or length == 1) for length in stream.lengths)
    assert learnt == room


def test_a_batch_of_texts_is_as_wide_as_its_longest_row_needs(tokens):
    source = loader(tokens, packing="texts", context=4096, batch=3)
    whole = BestFit(TokenStream(tokens, "train"), 4096, alone=True).read(np.arange(source.n_rows), 0)
    widths = set()
    for number in range(source.n_rows // 3):
        batch = source.batch(number)
        width = batch.ids.shape[1]
        widths.add(width)
        assert 4096 % width == 0
        assert (batch.loss_mask[:, width // 2 :]).any() or width == 1
    assert len(widths) > 1
    assert sum(int(source.batch(n).loss_mask.sum()) for n in range(source.n_rows // 3)) <= int(whole.counts.sum())
