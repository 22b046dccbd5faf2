"""Looks of a vocabulary that loses text: what is lost is charged as `evaluate` charges it; early stopping sees it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from helpers_texts import make_data
from torch.nn.functional import cross_entropy

from lmcore.evaluate.likelihood import score_documents, summarise
from lmcore.models.io import load_model
from lmcore.tokenizer import load_tokenizer
from lmcore.tokenizer.lossy import missing_bytes, missing_of
from lmcore.tokens import sequential
from lmcore.train.loop import train
from lmcore.train.params import Job

KNOWN = "The old river walks under a mountain. A bird sings, and the stone is still there.\n"
UNSEEN = "Zebras quarrel NEVER while xylophones hum. The old river walks under a mountain.\n"


@pytest.fixture(scope="module")
def texts():
    """Of the validation split: half of what they say no word of the vocabulary stands for."""
    return [KNOWN * 3 + UNSEEN * (2 + n) for n in range(4)]


@pytest.fixture(scope="module", params=["words", "word_bpe"])
def lossy(request, texts, tmp_path_factory):
    """Folders of tokens and of a vocabulary of words, or of merges within words."""
    root = tmp_path_factory.mktemp("lossy")
    splits = {"train": [KNOWN * 30] * 12, "val": texts, "test": [KNOWN]}
    return make_data(root, splits, kind=request.param, vocab_size=300, cap=True)


def finish(values):
    train(Job.model_validate(values))
    return Path(values["work"]) / "out"


def last_look(out):
    return pq.read_table(out / "provenance" / "validation.parquet").to_pylist()[-1]


def test_what_is_lost_is_in_the_table_of_the_validation_split(lossy, texts):
    tokenizer = load_tokenizer(Path(lossy["tokenizer"]))
    table = pq.read_table(Path(lossy["tokens"]) / "val" / "documents.parquet")
    expected = [missing_bytes(text, tokenizer.decode(tokenizer.encode(text))) for text in texts]
    assert table["n_missing"].to_pylist() == expected
    assert all(expected)
    assert "n_missing" not in pq.read_schema(Path(lossy["tokens"]) / "train" / "documents.parquet").names


def test_a_look_at_the_whole_split_costs_what_its_texts_cost(job, lossy, texts):
    """Nats of all tokens but the begin marks, 8 bits for each byte that is lost, divided by the original bytes."""
    out = finish(job(steps=20, runtime={"validation_tokens": 10**6}) | lossy)
    model, tokenizer = load_model(out).eval(), load_tokenizer(Path(lossy["tokenizer"]))
    nats = 0.0
    with torch.no_grad():
        for batch in sequential(Path(lossy["tokens"]), "val", 4, 32):
            each = cross_entropy(model(batch.ids).flatten(0, 1), batch.targets.flatten(), reduction="none")
            nats += float(each[(batch.loss_mask & (batch.targets != tokenizer.bos_id)).flatten()].double().sum())
    lost = sum(missing_bytes(text, tokenizer.decode(tokenizer.encode(text))) for text in texts)
    expected = (nats / math.log(2) + 8 * lost) / sum(len(text.encode()) for text in texts)
    assert last_look(out)["bits_per_byte"] == pytest.approx(expected, rel=1e-5)


def test_a_look_is_near_what_evaluate_says_of_the_same_texts(job, lossy, texts):
    out = finish(job(steps=40, runtime={"validation_tokens": 10**6}) | lossy)
    model, tokenizer = load_model(out).eval(), load_tokenizer(Path(lossy["tokenizer"]))
    judged = summarise(score_documents(model, tokenizer, texts, context=32))["bits_per_byte"]
    assert last_look(out)["bits_per_byte"] == pytest.approx(judged, rel=0.05)


def test_early_stopping_looks_at_the_charged_figure(job, lossy):
    values = job(steps=20, early_stop={"patience": 2, "every": 0.25, "tokens": 10**6}) | lossy
    out = finish(values)
    charged = last_look(out)["bits_per_byte"]
    plain = job("plain", steps=20, runtime={"validation_tokens": 10**6, "validate_every": 0.25}) | lossy
    assert last_look(finish(plain))["bits_per_byte"] == pytest.approx(charged, rel=1e-6)


def test_after_so_many_bytes_the_share_is_taken(lossy, texts):
    tokenizer = load_tokenizer(Path(lossy["tokenizer"]))
    exact = list(missing_of(tokenizer, texts, 10**9))
    size = [len(text.encode()) for text in texts]
    some = list(missing_of(tokenizer, texts, size[0] + 1))
    share = sum(exact[:2]) / sum(size[:2])
    assert some == [*exact[:2], round(size[2] * share), round(size[3] * share)]


def test_the_look_says_nothing_else_of_a_vocabulary_that_loses_nothing(job, data):
    out = finish(job(steps=4))
    table = pq.read_table(Path(data["tokens"]) / "val" / "documents.parquet")
    assert "n_missing" not in table.column_names
    assert json.loads((out / "provenance" / "training.json").read_text())["val_bits_per_byte"] > 0
