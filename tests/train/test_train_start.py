"""A training that starts from a trained model: what is taken over, what begins anew, and that kills change nothing."""

from __future__ import annotations

import json
import math
import random
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers_texts import row

from lmcore.documents import CURATED, make_table
from lmcore.models.io import load_model
from lmcore.progress import silent
from lmcore.tokenizer.train import TokenizerParams, TokenizerRuntime, train_tokenizer
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
from lmcore.train.loop import Stopped, train
from lmcore.train.params import Job
from storage.errors import RunError, UserError
from storage.parquet import write_parquet

WORDS = ["the", "a", "river", "mountain", "walks", "sings", "under", "over", "old", "bird", "and", "while", "stone"]
MORE = [*WORDS, "kérem", "jöjjön", "kertbe", "madár", "énekel", "alatt", "régi", "folyó", "hegy"]
SMALL, LARGE = 300, 400
CADENCE = {"save_every_steps": 4}
POINTS = ["train.step:1", "train.step:7", "train.checkpoint.before-rename:2", "train.out.before-rename"]


def finish(values):
    return train(Job.model_validate(values))


def out(values):
    return Path(values["work"]) / "out"


def metrics(values, column):
    return pq.read_table(out(values) / "metrics.parquet")[column].to_pylist()


def first_look(values):
    """Nats a token of the validation split before the first step."""
    return pq.read_table(out(values) / "provenance" / "validation.parquet")["loss"][0].as_py()


@pytest.fixture
def champion(job):
    values = job("champion", steps=20)
    finish(values)
    return values


def test_weights_are_taken_over_and_schedule_and_optimizer_begin_anew(job, champion):
    warm, cold, again = (job(name, start_from=start) for name, start in [
        ("warm", str(out(champion))), ("cold", None), ("again", str(out(champion))),
    ])  # fmt: skip
    for values in (warm, cold, again):
        finish(values)
    assert metrics(warm, "loss")[0] < metrics(cold, "loss")[0] - 1, "it knows what the champion knew"
    assert metrics(warm, "lr") == metrics(cold, "lr"), "the learning rate rises and falls once more"
    assert metrics(warm, "step")[0] == 1
    assert metrics(warm, "loss") == metrics(again, "loss")
    # The champion's optimizer is not in its artifact: nothing of it can be taken over.
    assert not [path.name for path in out(champion).rglob("*optimizer*")]


def test_another_seed_changes_the_order_of_the_data_and_not_the_first_weights(job, champion):
    start = str(out(champion))
    losses = []
    for seed in (1, 2):
        values = job(f"seed-{seed}", start_from=start, seed=seed, lr=1e-12, muon_lr=1e-12, steps=2)
        finish(values)
        losses.append(metrics(values, "loss"))
    assert losses[0] != losses[1]
    assert max(map(max, losses)) < metrics(champion, "loss")[0] - 1


def test_stopped_and_resumed_it_ends_with_the_same_bytes(job, champion, content):
    straight, stopped = (job(name, start_from=str(out(champion))) for name in ("straight", "stopped"))
    finish(straight)
    calls = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        train(Job.model_validate(stopped), stopped=lambda: next(calls))
    assert finish(stopped)["resumes"] == 1
    assert content(stopped) == content(straight)


@pytest.mark.slow
def test_killed_at_any_point_it_ends_with_the_same_bytes(job, trainer, champion, content):
    straight = job("straight", start_from=str(out(champion)), runtime=CADENCE)
    finish(straight)
    for number, point in enumerate(POINTS):
        values = job(f"killed-{number}", start_from=str(out(champion)), runtime=CADENCE)
        assert trainer(values, point).returncode == -signal.SIGKILL, point
        finish(values)
        assert content(values) == content(straight), point


def test_another_vocabulary_is_refused_also_by_the_trainer(job, champion, tmp_path):
    """The flow says so first; this is for jobs that somebody else writes."""
    folder = out(champion)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 1}))
    with pytest.raises(RunError, match=r"does not fit config\.json"):
        finish(job("other", start_from=str(folder)))


def test_a_grown_start_knows_at_once_what_the_small_model_knew(job, champion, content):
    shape = {"n_layers": 3, "d_model": 64, "n_heads": 4, "d_ff": 256, "context": 32}
    values = job("grown", start_from=str(out(champion)), grow=True, model=shape, runtime=CADENCE)
    champions = job("same", start_from=str(out(champion)))
    for each in (values, champions):
        finish(each)
    assert metrics(values, "loss")[0] == pytest.approx(metrics(champions, "loss")[0], abs=1e-4)
    again = job("again", start_from=str(out(champion)), grow=True, model=shape)
    calls = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        train(Job.model_validate(again), stopped=lambda: next(calls))
    finish(again)
    assert content(again) == content(values), "grown again when resumed, by the same seed"
    with pytest.raises(UserError, match="has another shape"):
        finish(job("refused", start_from=str(out(champion)), model=shape))


@pytest.fixture(scope="module")
def two_languages(tmp_path_factory):
    """Tokens and tokenizers of text A (the tests' made-up language), and of A and B with a larger vocabulary."""
    return {
        name: corpus(tmp_path_factory.mktemp(name), words, size)
        for name, words, size in (("a", [WORDS], SMALL), ("ab", [WORDS, MORE], LARGE))
    }


def corpus(root, languages, size):
    rows = {"train": [], "val": [], "test": []}
    for number, words in enumerate(languages):
        for split, documents in (("train", 40), ("val", 4), ("test", 1)):
            text = random.Random(f"{number} {split}")
            for n in range(documents):
                sentences = (" ".join(text.choices(words, k=text.randint(4, 9))).capitalize() for _ in range(30))
                rows[split].append(row(f"{number}{n:031d}", ". ".join(sentences) + ".\n"))
    for split, documents in rows.items():
        write_parquet(root / "curated" / split / "00000.parquet", make_table(documents, CURATED))
    cut = {"params": TokenizerParams(vocab_size=size), "runtime": TokenizerRuntime(workers=1), "report": silent}
    train_tokenizer(root / "a", root / "curated", **cut)
    cut = {"params": TokensParams(), "runtime": TokensRuntime(workers=1), "report": silent}
    make_tokens(root / "b", root / "curated", root / "a" / "out", **cut)
    return {"tokens": str(root / "b" / "out"), "tokenizer": str(root / "a" / "out")}


@pytest.mark.parametrize("tied", [True, False])
def test_a_larger_vocabulary_begins_with_what_the_small_model_knew(job, two_languages, content, tied):
    """Trained on A, then on A and B with a vocabulary learnt from both: it does not begin at ln V."""
    shape = {"n_layers": 2, "d_model": 32, "n_heads": 2, "context": 32, "tie_embeddings": tied}
    small = job("small", steps=150, model=shape) | two_languages["a"]
    finish(small)
    options = {"steps": 12, "model": shape, "grow_vocabulary": True, "start_from": str(out(small))}
    grown, cold = job("grown", **options), job("cold", steps=12, model=shape)
    for values in (grown, cold):
        values |= two_languages["ab"]
        finish(values)
    model, start = load_model(out(grown)), load_model(out(small))
    assert (start.vocab_size, model.vocab_size) == (SMALL, LARGE)
    assert metrics(cold, "loss")[0] == pytest.approx(math.log(LARGE), abs=0.1)
    assert metrics(grown, "loss")[0] < math.log(LARGE) - 0.25, "also where half of the words are new to it"
    assert first_look(grown) < math.log(LARGE) - 1.5, "on text A, which the look begins with"
    assert first_look(cold) == pytest.approx(math.log(LARGE), abs=0.1)
    assert metrics(grown, "loss")[-1] < metrics(cold, "loss")[-1] - 0.5

    again = job("again", **options) | two_languages["ab"]
    calls = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        train(Job.model_validate(again), stopped=lambda: next(calls))
    finish(again)
    assert content(again) == content(grown)

    refused = job("refused", steps=12, model=shape, start_from=str(out(small))) | two_languages["ab"]
    with pytest.raises(UserError, match="another vocabulary") as error:
        finish(refused)
    assert "train.grow_vocabulary" in error.value.mend


def test_a_vocabulary_and_a_shape_may_grow_at_once(job, champion, two_languages):
    shape = {"n_layers": 3, "d_model": 64, "n_heads": 4, "d_ff": 256, "context": 32}
    values = job("both", start_from=str(out(champion)), grow=True, grow_vocabulary=True, model=shape, steps=3)
    finish(values | two_languages["ab"])
    assert first_look(values) < math.log(LARGE) - 0.5
