"""Loss by position: against a count by hand, whole windows only, and a model that does use its context."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from model_checks import learn_by_heart
from pydantic import ValidationError

from lmcore.documents import CURATED, read_documents
from lmcore.evaluate.params import EvaluateParams
from lmcore.evaluate.probes.positions import by_position
from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.recipe import parse_recipe
from lmcore.tokenizer.plain_bytes import PlainBytes
from storage.errors import RunError, UserError

DRAWS = {"draws": 100, "seed": 0}
RECIPE = {
    "name": "mine",
    "sources": [{"name": "a", "kind": "files", "paths": ["*.txt"]}, {"name": "b", "kind": "files", "paths": ["*.md"]}],
    "model": {"context": 64},
    "train": {"steps": 1},
}


def test_each_bucket_is_what_a_count_by_hand_gives(model, tokenizer, curated_texts):
    found = by_position(model, tokenizer, curated_texts, (4, 9), **DRAWS)
    context, nats, n_bytes, windows = 16, np.zeros(16), np.zeros(16), 0
    long = 0
    for text in curated_texts:
        ids = tokenizer.encode(text)
        long += len(ids) >= context
        for start in range(0, len(ids) - context + 1, context):
            run = ids[start : start + context]
            with torch.inference_mode():
                logits = model(torch.tensor([[tokenizer.bos_id, *run[:-1]]]))[0]
            nats += -torch.log_softmax(logits, -1)[torch.arange(context), torch.tensor(run)].double().numpy()
            n_bytes += tokenizer.byte_length(np.array(run))
            windows += 1
    assert (found["windows"], found["documents"]) == (windows, long)
    assert windows > long > 5
    assert [(bucket["from"], bucket["to"]) for bucket in found["buckets"]] == [(0, 4), (4, 9), (9, 16)]
    for bucket in found["buckets"]:
        part = slice(bucket["from"], bucket["to"])
        assert bucket["loss"] == pytest.approx(nats[part].sum() / windows / (part.stop - part.start), rel=1e-5)
        assert bucket["bits_per_byte"] == pytest.approx(nats[part].sum() / math.log(2) / n_bytes[part].sum(), rel=1e-5)
        low, high = bucket["interval"]
        assert low < bucket["bits_per_byte"] < high
    short = sum(in_short(model, tokenizer, text, begin=9, most=4) for text in curated_texts)
    last = n_bytes[9:].sum() * math.log(2)
    assert found["gain"] == pytest.approx((short - nats[9:].sum()) / last, rel=1e-4)
    assert found["gain_interval"][0] < found["gain"] < found["gain_interval"][1]


def in_short(model, tokenizer, text, begin, most):
    """Nats of the tokens of a text's runs from `begin` on, chunk by chunk with `most` tokens before its last one."""
    ids, nats = tokenizer.encode(text), 0.0
    for first in range(0, len(ids) - 15, 16):
        run = ids[first : first + 16]
        for start in range(begin, 16, most // 2):
            end = min(16, start + most // 2)
            with torch.inference_mode():
                logits = model(torch.tensor([run[end - 1 - most : end - 1]]))[0]
            expected = torch.log_softmax(logits, -1)[start - end :]
            nats -= expected[torch.arange(end - start), torch.tensor(run[start:end])].double().sum().item()
    return nats


@pytest.fixture(scope="module")
def curated_texts(curated):
    files = sorted((curated / "test").glob("*.parquet"))
    return [text for path in files for text in read_documents(path, CURATED)["text"].to_pylist()]


def test_without_a_long_text_there_is_nothing(model, tokenizer):
    found = by_position(model, tokenizer, ["the", "hero went"], (4,), **DRAWS)
    assert (found["documents"], found["buckets"], found["gain"]) == (0, [], None)
    one = by_position(model, tokenizer, ["the hero went home again, and sang " * 3], (4, 16, 90), **DRAWS)
    assert [(bucket["from"], bucket["to"]) for bucket in one["buckets"]] == [(0, 4), (4, 16)], "the context ends at 16"


def learnt(texts, steps):
    """A model that knows these texts of 16 bytes."""
    tokenizer = PlainBytes()
    model = build(DecoderConfig(n_layers=1, d_model=32, n_heads=2, context=16), tokenizer.vocab_size, 0)
    learn_by_heart(model, tokenizer, texts, steps)
    return model, tokenizer


def test_who_needs_the_token_before_only_gains_nothing():
    """Texts of one letter each: the first is a guess among eight, and all others are known from the one before."""
    texts = [letter * 16 for letter in "abcdefgh"]
    found = by_position(*learnt(texts, 60), texts, (1, 8), **DRAWS)
    first, _, last = (bucket["bits_per_byte"] for bucket in found["buckets"])
    assert first == pytest.approx(3, abs=0.15)
    assert last < 0.2
    assert abs(found["gain"]) < 0.2


def test_who_has_to_look_far_back_gains():
    """Texts whose last letter is not z: when it comes can only be counted from the beginning."""
    texts = [f"{letter}{'z' * 14}{letter}" for letter in "abcdefgh"]
    found = by_position(*learnt(texts, 100), texts, (4, 14), **DRAWS)
    assert found["gain_interval"][0] > 0.7


def test_a_diverged_model_is_named(make_model, tokenizer):
    model = make_model(DecoderConfig(n_layers=1, d_model=16, n_heads=2, context=8), tokenizer.vocab_size)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(RunError, match="NaN"):
        by_position(model, tokenizer, ["the hero went home " * 5], (4,), **DRAWS)


def test_settings():
    for wrong in ([0], [4, 4], [8, 4], [-1]):
        with pytest.raises(ValidationError):
            EvaluateParams(positions=tuple(wrong))
    parse_recipe(RECIPE | {"evaluate": {"positions": [16, 63]}}, "mine")
    with pytest.raises(UserError, match=r"positions ends at 64, and the model's context is 64"):
        parse_recipe(RECIPE | {"evaluate": {"positions": [16, 64]}}, "mine")
