"""Likelihood against slow, direct computation and against the edge cases of its windows."""

from __future__ import annotations

import math
import random
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmcore.evaluate import likelihood
from lmcore.evaluate.likelihood import Scores, bootstrap_interval, score_documents, summarise, windows
from lmcore.tokenizer.lossy import missing_bytes
from storage.errors import RunError

BOS = 0


def harness_windows(tokens, prefix, max_seq_len):
    """lm-evaluation-harness 0.4: get_rolling_token_windows with context_len 1, then make_disjoint_window."""
    if not tokens:
        return
    first = min(max_seq_len, len(tokens))
    yield [prefix], tokens[:first]
    predicted = first
    while predicted < len(tokens):
        length = min(len(tokens) - predicted, max_seq_len)
        end = predicted + length
        read, target = tokens[end - max_seq_len - 1 : end - 1], tokens[end - length : end]
        yield read[: len(read) - (len(target) - 1)], target  # context and continuation: they overlap no more
        predicted += length


@given(st.integers(0, 40), st.integers(2, 12))
def test_windows_are_those_of_the_harness(count, context):
    tokens = np.arange(1, count + 1)
    ours = list(windows(tokens, BOS, context))
    theirs = list(harness_windows(tokens.tolist(), BOS, context))
    assert len(ours) == len(theirs)
    for (read, predicted), (before, target) in zip(ours, theirs, strict=True):
        # The harness feeds (context + continuation)[-(n + 1):][:-1] and scores the continuation.
        assert read.tolist() == [*before, *target][-(context + 1) :][:-1]
        assert predicted.tolist() == target
        assert len(read) <= context
    assert np.concatenate([[], *(predicted for _, predicted in ours)]).tolist() == tokens.tolist()


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (1, [([0], [1])]),
        (3, [([0, 1, 2], [1, 2, 3])]),
        (4, [([0, 1, 2, 3], [1, 2, 3, 4])]),  # exactly the context
        (5, [([0, 1, 2, 3], [1, 2, 3, 4]), ([1, 2, 3, 4], [5])]),  # the last window is filled from the left
        (8, [([0, 1, 2, 3], [1, 2, 3, 4]), ([4, 5, 6, 7], [5, 6, 7, 8])]),
        (10, [([0, 1, 2, 3], [1, 2, 3, 4]), ([4, 5, 6, 7], [5, 6, 7, 8]), ([6, 7, 8, 9], [9, 10])]),
    ],
)
def test_windows_at_the_edges(count, expected):
    found = [(read.tolist(), predicted.tolist()) for read, predicted in windows(np.arange(1, count + 1), BOS, 4)]
    assert found == expected


def slow_score(model, tokenizer, text, context):
    """(nats, tokens, correct) one prediction at a time."""
    tokens = tokenizer.encode(text)
    nats, correct = 0.0, 0
    for place, token in enumerate(tokens):
        if place < context:
            read = [tokenizer.bos_id, *tokens[:place]]
        else:
            end = min((place // context + 1) * context, len(tokens))
            read = tokens[end - context - 1 : place]
        with torch.no_grad():
            logits = model(torch.tensor([read]))[0, -1].double()
        nats -= float(logits.log_softmax(-1)[token])
        correct += int(logits.argmax()) == token
    return nats, len(tokens), correct


def texts_of_every_length(tokenizer, context):
    """Shorter than the context, exactly as long, one more, several windows, and empty."""
    ids = tokenizer.encode("the hero went home again and sang of Budapest, őszi szél; ሰላም! " * 12)
    lengths = [1, 2, context - 1, context, context + 1, 2 * context, 2 * context + 3, 5 * context]
    texts = [tokenizer.decode(ids[:length]) for length in lengths]
    return [text for text in texts if "\ufffd" not in text] + ["", "<|end|> typed by a person", "x"]


@pytest.fixture(params=["model", "mu"])
def every(request):
    """A model of each family."""
    return request.getfixturevalue(request.param)


def test_scores_equal_slow_direct_computation(every, tokenizer):
    model = every
    context = model.config.context
    texts = texts_of_every_length(tokenizer, context)
    assert len(texts) >= 8
    scores = score_documents(model, tokenizer, texts, context=context)
    slow = [slow_score(model, tokenizer, text, context) for text in texts]
    assert np.allclose(scores.nll, [nats for nats, _, _ in slow], rtol=1e-6)
    assert scores.n_tokens.tolist() == [tokens for _, tokens, _ in slow]
    assert scores.n_correct.tolist() == [correct for _, _, correct in slow]
    assert scores.n_bytes.tolist() == [len(text.encode()) for text in texts]
    figures = summarise(scores)
    nats, tokens = sum(row[0] for row in slow), sum(row[1] for row in slow)
    n_bytes = sum(len(text.encode()) for text in texts)
    assert math.isclose(figures["bits_per_byte"], nats / math.log(2) / n_bytes, rel_tol=1e-6)
    assert math.isclose(figures["perplexity"], math.exp(nats / tokens), rel_tol=1e-5)
    assert figures["accuracy"] == sum(row[2] for row in slow) / tokens


def test_company_in_a_batch_changes_no_document(every, tokenizer, seed, monkeypatch):
    """Padding and neighbours do not leak: alone, together, in another order and in other batches."""
    model = every
    context = model.config.context
    texts = texts_of_every_length(tokenizer, context)
    together = score_documents(model, tokenizer, texts, context=context)
    for number, text in enumerate(texts):
        alone = score_documents(model, tokenizer, [text], context=context)
        assert math.isclose(alone.nll[0], together.nll[number], rel_tol=1e-6)
        assert alone.n_correct[0] == together.n_correct[number]
    order = list(range(len(texts)))
    random.Random(seed).shuffle(order)
    monkeypatch.setattr(likelihood, "_TOKENS_PER_BATCH", 3 * context)
    shuffled = score_documents(model, tokenizer, [texts[i] for i in order], context=context)
    assert np.allclose(shuffled.nll, together.nll[order], rtol=1e-6)


def test_what_comes_later_changes_no_earlier_document(model, tokenizer):
    """Changing one document leaves the figures of the others alone, to the last bit when the shapes are equal."""
    texts = ["the hero went home again", "the hero went home again", "őszi szél"]
    changed = [texts[0], "the hero went again home", texts[2]]
    assert len(tokenizer.encode(texts[1])) == len(tokenizer.encode(changed[1]))
    before = score_documents(model, tokenizer, texts, context=16)
    after = score_documents(model, tokenizer, changed, context=16)
    assert before.nll[0] == after.nll[0]
    assert before.nll[2] == after.nll[2]
    assert before.nll[1] != after.nll[1]


def test_the_models_mode_is_kept(model, tokenizer):
    model.train()
    score_documents(model, tokenizer, ["the"], context=16)
    assert model.training
    model.eval()


def test_groups_sum_to_the_whole(model, tokenizer):
    texts = texts_of_every_length(tokenizer, 16)
    scores = score_documents(model, tokenizer, texts, context=16)
    odd = np.arange(len(texts)) % 2 == 1
    joined = Scores.concatenate([scores.select(odd), scores.select(~odd)])
    for name in ("nll", "n_tokens", "n_correct", "n_bytes", "n_missing"):
        assert math.isclose(getattr(joined, name).sum(), getattr(scores, name).sum())
    assert math.isclose(summarise(joined)["bits_per_byte"], summarise(scores)["bits_per_byte"])


def made_up(bits, n_bytes):
    count = len(bits)
    zeros = np.zeros(count, dtype=np.int64)
    return Scores(np.array(bits) * math.log(2), zeros + 1, zeros, np.array(n_bytes), zeros)


def test_bootstrap_is_a_function_of_its_seed_and_holds_the_figure():
    source = np.random.default_rng(3)
    scores = made_up(source.normal(200, 40, 400), source.integers(50, 150, 400))
    low, high = bootstrap_interval(scores, 1000, seed=5)
    assert (low, high) == bootstrap_interval(scores, 1000, seed=5)
    assert (low, high) != bootstrap_interval(scores, 1000, seed=6)
    figure = summarise(scores)["bits_per_byte"]
    assert low < figure < high
    # Standard error of a ratio of sums, to first order.
    residuals = scores.bits - figure * scores.n_bytes
    error = residuals.std() * math.sqrt(400) / scores.n_bytes.sum()
    assert math.isclose((high - low) / (2 * 1.96), error, rel_tol=0.15)


def test_bootstrap_of_equal_documents_is_a_point():
    low, high = bootstrap_interval(made_up([80.0] * 10, [40] * 10), 100, seed=0)
    assert math.isclose(low, 2.0)
    assert math.isclose(high, 2.0)


class LowerCase:
    """A real tokenizer behind a lower-casing step, which loses which letters were capitals."""

    lossy = True

    def __init__(self, inner):
        self.inner = inner
        self.vocab_size, self.bos_id, self.pad_id, self.specials = inner.vocab_size, inner.bos_id, inner.pad_id, {}

    def encode_ids(self, texts):
        return self.inner.encode_ids([text.lower() for text in texts])

    def decode(self, ids, skip_specials=True):
        return self.inner.decode(ids, skip_specials)


def test_a_lossy_tokenizer_pays_a_byte_for_every_byte_it_loses(model, tokenizer):
    text = "The Hero went to Őrség"
    exact = score_documents(model, tokenizer, [text.lower()], context=16)
    lossy = score_documents(model, LowerCase(tokenizer), [text, text.lower()], context=16)
    assert lossy.n_missing.tolist() == [4, 0]  # T, H and the two bytes of Ő
    assert math.isclose(lossy.bits[0], exact.bits[0] + 8 * 4, rel_tol=1e-6)
    assert math.isclose(lossy.bits[1], exact.bits[0], rel_tol=1e-6)


@given(st.text(max_size=60), st.text(max_size=60))
def test_missing_bytes_lie_between_none_and_all(text, decoded):
    missing = missing_bytes(text, decoded)
    assert 0 <= missing <= len(text.encode())
    assert missing or all_in_order(text, decoded)
    assert missing_bytes(text, text) == 0


def all_in_order(text, decoded):
    rest = iter(decoded)
    return all(letter in rest for letter in text)


def test_missing_bytes_of_a_long_text_take_no_time():
    text = "The Hero went Home. " * 2000
    assert missing_bytes(text, text) == 0
    assert missing_bytes(text, text.lower()) == 3 * 2000
    assert missing_bytes(text, "") == len(text)


def test_a_diverged_model_is_a_clear_error(model, tokenizer):
    broken = deepcopy(model)
    with torch.no_grad():
        broken.norm.weight[0] = float("nan")
    with pytest.raises(RunError, match="NaN"):
        score_documents(broken, tokenizer, ["the hero"], context=16)
