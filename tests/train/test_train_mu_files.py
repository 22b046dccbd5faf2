"""MU's run: what is told at the end of every epoch, its three prompts, the best checkpoint, and the files of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from helpers_texts import make_data
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy

from lmcore import load
from lmcore.export.mu_layout import write_layout
from lmcore.models import load_model
from lmcore.tokenizer import load_tokenizer
from lmcore.tokens import sequential
from lmcore.train.checkpoint import BEST, load_step
from lmcore.train.journal import read_lines
from lmcore.train.loop import Stopped, train
from lmcore.train.params import Job
from storage.errors import UserError

PROMPTS = ["The quick brown", "Once upon a time", "In the beginning"]
SAMPLING = {"temperature": 0.8, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.2}  # of MU's document
MODEL = {"family": "mu", "n_layers": 2, "matrix": [4, 4], "n_heads": 4, "context": 32}
EPOCHS = {
    "each_epoch": True, "validate_every": 0, "sample_at": [], "sample_tokens": 30, "validation_tokens": 10**9,
    **{f"sample_{name}": value for name, value in SAMPLING.items()},
}  # fmt: skip
KEEP = {"keep_best": True, "keep_checkpoints": 1}
# The rate rises all the time, to far too much: the last epoch is not the best.
RISING = {"optimizer": "adamw", "lr": 3.0, "schedule": "one_cycle", "warmup": 0.99, "final_lr_share": 1.0}
LINES = [
    "The quick brown fox jumps over a lazy dog.",
    "Once upon a time an old king lived there, and nobody knew him.",
    "In the beginning all was dark; then somebody lit a lamp.",
    "A bird sings under the bridge while the river walks on.",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Tokens and a vocabulary of MU's kind, in the place of the bytes of the other tests."""
    texts = [" ".join(LINES[(n + k * k) % 4] for k in range(20)) for n in range(24)]
    splits = {"train": texts[:20], "val": texts[20:23], "test": texts[23:]}
    return make_data(tmp_path_factory.mktemp("mu"), splits, kind="word_bpe", vocab_size=50_000, cap=True)


def make(job, work="work", runtime=None, **params):
    settings = {"model": MODEL, "epochs": 5.0, "batch": 16, "prompts": PROMPTS, "packing": "stride", "stride": 16}
    return job(work, runtime=EPOCHS | (runtime or {}), **settings | params)


def out(values):
    return Path(values["work"]) / "out"


def rows(values, name):
    return pq.read_table(out(values) / "provenance" / f"{name}.parquet").to_pylist()


def epoch_looks(values):
    return [line for line in read_lines(Path(values["work"]) / "progress.jsonl") if line.get("event") == "epoch-looks"]


def by_hand(model, tokens, split):
    """(mean nats, share of tokens guessed) of all windows of a split."""
    nats = guessed = count = 0.0
    with torch.no_grad():
        for batch in sequential(Path(tokens), split, 8, 32):
            logits, kept = model(batch.ids).flatten(0, 1), batch.loss_mask.flatten()
            targets = batch.targets.flatten().long()
            nats += float((cross_entropy(logits, targets, reduction="none") * kept).sum())
            guessed += int(((logits.argmax(-1) == targets) & kept).sum())
            count += int(kept.sum())
    return nats / count, guessed / count


@pytest.fixture(scope="module")
def made():
    return {}


@pytest.fixture
def straight(job, made):
    """A finished run that tells of its epochs; made once."""
    if not made:
        values = make(job, runtime=KEEP | {"keep_state": True}, **RISING)
        train(Job.model_validate(values))
        made["values"] = values
    return made["values"]


def test_every_epoch_is_told_on_both_splits(straight):
    found = epoch_looks(straight)
    assert [line["epoch"] for line in found] == [1, 2, 3, 4, 5]
    length = found[0]["step"]
    assert [line["step"] for line in found] == [n * length for n in range(1, 6)]
    for line in found:
        for part in ("train", "validation"):
            assert line[part]["perplexity"] == pytest.approx(math.exp(line[part]["loss"]))
            assert f"{part} loss {line[part]['loss']:.4f}, {line[part]['accuracy']:.2%} right" in line["text"]
    assert [row["step"] for row in rows(straight, "validation")] == [line["step"] for line in found]
    model = load_model(out(straight))
    for part, split in (("train", "train"), ("validation", "val")):
        loss, accuracy = by_hand(model, straight["tokens"], split)
        assert found[-1][part]["loss"] == pytest.approx(loss, rel=1e-5)
        assert found[-1][part]["accuracy"] == pytest.approx(accuracy, abs=1e-9)
    assert rows(straight, "fits")[-1]["accuracy"] == found[-1]["train"]["accuracy"]


def test_the_samples_of_every_epoch_are_kept_and_change(straight):
    samples = rows(straight, "samples")
    assert [row["prompt"] for row in samples] == PROMPTS * 5
    length = samples[0]["step"]
    first, fifth = ([row["text"] for row in samples if row["step"] == n * length] for n in (1, 5))
    assert len(first) == len(fifth) == 3
    assert first != fifth
    model = load(out(straight))
    for prompt, text in zip(PROMPTS, fifth, strict=True):
        assert model.generate(prompt, max_tokens=30, seed=1, **SAMPLING) == text


def test_telling_of_epochs_changes_no_weight_and_a_resumed_run_tells_each_once(job, content, straight):
    quiet, stopped = make(job, "quiet", {"each_epoch": False}, **RISING), make(job, "stopped", KEEP, **RISING)
    train(Job.model_validate(quiet))
    length = epoch_looks(straight)[0]["step"]
    calls = iter([False] * (2 * length) + [True])  # at the end of the second epoch
    with pytest.raises(Stopped):
        train(Job.model_validate(stopped), stopped=lambda: next(calls))
    train(Job.model_validate(stopped))
    assert content(quiet) == content(straight) == content(stopped)
    assert [line["epoch"] for line in epoch_looks(stopped)] == [1, 2, 3, 4, 5]
    assert rows(stopped, "validation") == rows(straight, "validation")
    assert rows(stopped, "fits") == rows(straight, "fits")


def test_the_looks_of_early_stopping_stay_its_own(job, content):
    early = {"early_stop": {"patience": 2, "every": 0.2}, **RISING}
    quiet, told = make(job, "quiet", {"each_epoch": False}, **early), make(job, "told", **early)
    for values in (quiet, told):
        train(Job.model_validate(values))
    assert content(quiet) == content(told)
    assert rows(quiet, "validation") == rows(told, "validation")


def test_the_best_checkpoint_comes_back_with_its_perplexity(straight, tmp_path):
    paths = write_layout(out(straight), tmp_path)
    assert [path.name for path in paths] == ["mu_sota_best.pt", "mu_sota_tokenizer.json"]
    found = torch.load(paths[0], weights_only=True)
    looks = rows(straight, "validation")
    best = min(looks, key=lambda row: row["bits_per_byte"])
    length = looks[0]["step"]
    assert (found["step"], found["epoch"]) == (best["step"], best["step"] // length)
    assert found["epoch"] < 5, "the last is not the best"
    assert found["perplexity"] == pytest.approx(min(math.exp(row["loss"]) for row in looks), rel=1e-12)
    assert found["config"]["train"]["batch"] == 16
    loss, _ = by_hand(load(paths[0]).model, straight["tokens"], "val")
    assert math.exp(loss) == pytest.approx(found["perplexity"], rel=1e-4)
    weights = found["model_state_dict"]
    assert found["optimizer_state_dict"].keys() == load_step(out(straight) / BEST, best["step"]).optimizer.keys()
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())
    last = load_model(out(straight)).state_dict()
    assert any(not torch.equal(last[name], tensor) for name, tensor in weights.items())


def test_without_the_best_it_is_the_last_one_with_what_is_known(job, tmp_path):
    values = make(job, runtime={"each_epoch": False, "validate_every": 0}, epochs=1.5)
    train(Job.model_validate(values))
    found = torch.load(write_layout(out(values), tmp_path, name="mine")[0], weights_only=True)
    assert (found["epoch"], found["perplexity"]) == (pytest.approx(1.5, abs=0.1), None)
    assert "optimizer_state_dict" not in found
    assert load(tmp_path / "mine_best.pt").info()["file"]["optimizer_inside"] is False


def test_a_vocabulary_smaller_than_asked_for_leaves_no_dead_rows(straight):
    """MU's own program gives a model of 50,000 rows to whatever vocabulary the text fills."""
    report = json.loads((Path(straight["tokenizer"]) / "tokenizer_report.json").read_text())
    assert report["requested_vocab_size"] == 50_000
    assert report["vocab_size"] == load_tokenizer(Path(straight["tokenizer"])).vocab_size < 500
    assert load_model(out(straight)).vocab_size == report["vocab_size"]


def test_the_tokenizer_file_is_for_the_stock_library(straight, tmp_path):
    stock = Tokenizer.from_file(str(write_layout(out(straight), tmp_path)[1]))
    assert [stock.token_to_id(name) for name in ("<PAD>", "<UNK>", "<BOS>", "<EOS>")] == [0, 1, 2, 3]
    assert stock.decode(stock.encode(LINES[1]).ids).replace(" ,", ",").replace(" .", ".") == LINES[1]


def test_a_file_is_not_laid_out_again(straight, tmp_path):
    path = write_layout(out(straight), tmp_path)[0]
    with pytest.raises(UserError, match="is one model"):
        write_layout(path, tmp_path / "again")
