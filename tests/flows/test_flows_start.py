"""What a warm start finds and refuses, when there is nothing to learn, and what a model has learnt before."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime

import pytest

from flows.plan import Edition, Plan, Start
from flows.start import has_learnt, learnt_before, started_from, warm_start
from lmcore.recipe import parse_recipe
from storage.errors import RunError, UserError
from storage.manifest import InputEntry, Provenance
from storage.registry import RegistryState
from storage.store import Store

SCRATCH = "--set train.init_from=scratch"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def recipe(**changes):
    values = {
        "name": "tiny",
        "sources": [{"name": "texts", "kind": "files", "paths": ["*.txt"]}],
        "model": {"n_layers": 2, "d_model": 32, "n_heads": 2},
        "tokenizer": {"vocab_size": 400},
        "train": {"steps": 3, "init_from": "champion"},
    }
    return parse_recipe(values | changes, "the test")


def publish(store, stage, key, params=None, text="", **inputs):
    """A finished artifact of one file, made from other artifacts."""
    out = store.work(stage, key) / "out"
    out.mkdir()
    (out / "data.txt").write_text(text or f"{stage} {key}")
    entries = [InputEntry(name=name, stage=a.stage, key=a.key, digest=a.digest) for name, a in inputs.items()]
    provenance = Provenance(
        params=params or {}, stage_version=1, pure=True, inputs=entries, metrics={}, started="", finished="", seconds=0,
        attempts=1, host="", environment={}, code={}, run="",
    )  # fmt: skip
    return store.publish(stage, key, out, provenance)


def trained(store, number, made=None, start=None, tokenizer=None):
    """The chain of artifacts behind a model: (corpus, tokenizer, tokens, model)."""
    made = made or recipe()
    corpus = publish(store, "curate", f"{number}a")
    tokenizer = tokenizer or publish(store, "tokenizer", f"{number}b", made.tokenizer.key_values(), corpus=corpus)
    tokens = publish(store, "tokens", f"{number}c", corpus=corpus, tokenizer=tokenizer)
    inputs = {"tokens": tokens, "tokenizer": tokenizer} | ({"start": start} if start else {})
    return corpus, tokenizer, tokens, publish(store, "train", f"{number}d", made.training.key_values(), **inputs)


def plan(model=None, digest=""):
    start = model and Start(release=3, model_key=model.key, model_digest=digest or model.digest)
    edition = Edition(name="night", created=datetime.now(UTC).isoformat(), parents={}, start=start)
    return Plan(run="run", created="", recipe={}, edition=edition, registry=RegistryState())


def test_from_scratch_nothing_is_looked_at(store):
    assert warm_start(store, plan(), recipe(train={"steps": 3}), pytest.fail) is None


def test_the_first_night_begins_from_scratch_and_says_so(store):
    told = []
    assert warm_start(store, plan(), recipe(), told.append) is None
    assert told == ["edition night was begun without a champion of tiny: training begins from scratch"]


def test_the_champion_of_the_edition_and_its_vocabulary(store):
    _, tokenizer, _, model = trained(store, 1)
    found = warm_start(store, plan(model), recipe(), pytest.fail)
    assert (found.release, found.model, found.tokenizer) == ("tiny@3", model, tokenizer)


def test_a_shape_may_be_written_in_several_ways(store):
    *_, model = trained(store, 1)
    written_out = recipe(model={"n_layers": 2, "d_model": 32, "n_heads": 2, "n_kv_heads": 2, "head_dim": 16})
    assert warm_start(store, plan(model), written_out, pytest.fail).model == model


def test_another_shape_is_refused_naming_both(store):
    *_, model = trained(store, 1)
    other = recipe(model={"n_layers": 4, "d_model": 64, "n_heads": 2})
    with pytest.raises(UserError) as error:
        warm_start(store, plan(model), other, pytest.fail)
    assert error.value.what == (
        "train.init_from is champion, but the recipe asks for model.n_layers 4, model.d_model 64 and tiny@3 has 2, 32"
    )
    assert "(--set model.n_layers=2 --set model.d_model=32)" in error.value.mend
    assert SCRATCH in error.value.mend


def test_another_vocabulary_is_refused_naming_both(store):
    *_, model = trained(store, 1)
    with pytest.raises(UserError) as error:
        warm_start(store, plan(model), recipe(tokenizer={"vocab_size": 800, "split": "gpt2"}), pytest.fail)
    assert 'asks for tokenizer.vocab_size 800, tokenizer.split "gpt2" and tiny@3 has 400, "llama3"' in error.value.what
    assert "--set tokenizer.vocab_size=400" in error.value.mend
    assert "--set train.grow_vocabulary=true" in error.value.mend
    assert SCRATCH in error.value.mend


def test_a_vocabulary_of_its_own_is_no_obstacle_where_it_grows_nor_is_a_lost_one(store):
    _, tokenizer, _, model = trained(store, 1)
    train = {"steps": 3, "init_from": "champion", "grow_vocabulary": True}
    other = recipe(tokenizer={"vocab_size": 800, "split": "gpt2"}, train=train)
    store.set_aside("tokenizer", tokenizer.key, "a test")
    told = []
    found = warm_start(store, plan(model), other, told.append)
    assert (found.model, found.tokenizer) == (model, None)
    assert told == [
        "the vocabulary is the recipe's own: tokens that tiny@3 does not have begin as the mean of its pieces"
    ]


def test_other_settings_of_training_are_no_obstacle(store):
    *_, model = trained(store, 1)
    other = recipe(train={"minutes": 5, "lr": 1e-3, "init_from": "champion"}, curate={"split": {"val": 0.1}})
    assert warm_start(store, plan(model), other, pytest.fail).model == model


@pytest.mark.parametrize("lost", ["model", "tokenizer"])
@pytest.mark.parametrize("how", ["gone", "damaged", "rebuilt"])
def test_a_champion_that_is_lost_or_damaged_is_never_silently_done_without(store, lost, how):
    _, tokenizer, _, model = trained(store, 1)
    asked = plan(model)
    artifact = {"model": model, "tokenizer": tokenizer}[lost]
    if how == "damaged":
        (artifact.path / "data.txt").write_text("x")
    else:
        store.set_aside(artifact.stage, artifact.key, "a test")
    if how == "rebuilt":
        publish(store, artifact.stage, artifact.key, text="other bytes")
    with pytest.raises(RunError) as error:
        warm_start(store, asked, recipe(), pytest.fail)
    assert f"{artifact.stage}/{artifact.key}" in error.value.what
    assert ("vocabulary of tiny@3" if lost == "tokenizer" else "tiny@3, the champion") in error.value.what
    problem = {"gone": "is not in the store any more", "damaged": "is damaged (data.txt", "rebuilt": "not the same one"}
    assert problem[how] in error.value.what
    assert SCRATCH in error.value.mend


def rewrite(artifact):
    """Give an artifact other content, as `forget` does when it takes a text out."""
    path = artifact.path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["provenance"]["rewritten"] = [manifest["content"]["digest"]]
    manifest["content"]["digest"] = "f" * 64
    path.write_text(json.dumps(manifest))


def test_texts_that_were_taken_out_since_are_told(store):
    one, tokenizer, _, first = trained(store, 1)
    _, _, _, second = trained(store, 2, start=first, tokenizer=tokenizer)
    rewrite(one)
    told = []
    assert warm_start(store, plan(second), recipe(), told.append).model == second
    assert told == [
        "tiny@3 has learnt texts that were taken out of the store since; begin anew without them: " + SCRATCH
    ]


class TestNothingNew:
    def test_the_same_tokens_and_settings_are_nothing_new(self, store):
        _, _, tokens, model = trained(store, 1)
        assert has_learnt(model, tokens, recipe())

    def test_whatever_it_was_started_from(self, store):
        _, tokenizer, _, first = trained(store, 1)
        _, _, tokens, second = trained(store, 2, start=first, tokenizer=tokenizer)
        assert has_learnt(second, tokens, recipe())
        assert has_learnt(second, tokens, recipe(train={"steps": 3})), "where it starts is no setting of training"

    def test_other_tokens_or_settings_are(self, store):
        _, _, tokens, model = trained(store, 1)
        *_, others, _ = trained(store, 2)
        assert not has_learnt(model, others, recipe())
        assert not has_learnt(model, tokens, recipe(train={"steps": 4, "init_from": "champion"}))
        assert not has_learnt(model, tokens, recipe(train={"steps": 3, "seed": 2, "init_from": "champion"}))

    def test_tokens_without_a_text_that_was_taken_out_are_new(self, store):
        _, _, tokens, model = trained(store, 1)
        rewrite(tokens)
        assert not has_learnt(model, tokens, recipe())

    def test_equal_tokens_under_another_key_are_the_same(self, store):
        _, _, tokens, model = trained(store, 1)
        again = publish(store, "tokens", "9c", text="tokens 1c")
        assert again.digest == tokens.digest
        assert has_learnt(model, again, recipe())


class TestLearntBefore:
    def test_of_its_own_corpus_a_model_has_learnt_nothing_else(self, store):
        corpus, *_, model = trained(store, 1)
        assert learnt_before(store, model, corpus, pytest.fail) == []

    def test_every_corpus_of_the_chain(self, store):
        one, tokenizer, _, first = trained(store, 1)
        two, _, _, second = trained(store, 2, start=first, tokenizer=tokenizer)
        three, _, _, third = trained(store, 3, start=second, tokenizer=tokenizer)

        def known(model, corpus):
            return {artifact.key for artifact in learnt_before(store, model, corpus, pytest.fail)}

        assert known(third, three) == {one.key, two.key}
        assert known(second, three) == {one.key, two.key}, "the champion, on the corpus of tonight"
        assert known(first, one) == set()
        digests = [artifact.digest for artifact in learnt_before(store, third, three, pytest.fail)]
        assert digests == sorted(digests), "in an order of its own: it is in a key"

    def test_an_equal_corpus_under_another_key_is_the_same(self, store):
        one, *_, model = trained(store, 1)
        again = publish(store, "curate", "9a", text=f"curate {one.key}")
        assert again.digest == one.digest
        assert learnt_before(store, model, again, pytest.fail) == []

    def test_a_corpus_that_a_text_was_taken_out_of_still_counts(self, store):
        one, tokenizer, tokens, first = trained(store, 1)
        two, _, _, second = trained(store, 2, start=first, tokenizer=tokenizer)
        rewrite(one)
        rewrite(tokens)
        assert learnt_before(store, second, two, pytest.fail) == [one]

    @pytest.mark.parametrize("stage", ["curate", "tokens", "train"])
    def test_what_is_gone_is_told(self, store, stage):
        _, tokenizer, _, first = trained(store, 1)
        corpus, _, _, second = trained(store, 2, start=first, tokenizer=tokenizer)
        (gone,) = (artifact for artifact in store.artifacts(stage) if artifact.key.startswith("1"))
        store.set_aside(stage, gone.key, "a test")
        told = []
        assert learnt_before(store, second, corpus, told.append) == []
        assert len(told) == 1
        assert told[0].startswith(f"{stage}/{gone.key}, which ")
        assert "held-out texts" in told[0]


def test_what_a_model_started_from_is_measured_before_it(store):
    first, told = trained(store, 1)[-1], []
    second = trained(store, 2, start=first)[-1]
    assert [found.digest for found in started_from(store, second, pytest.fail)] == [first.digest]
    assert started_from(store, first, told.append) == []
    assert "began with random weights" in told[0]
    shutil.rmtree(first.path)
    with pytest.raises(RunError, match="not in the store any more"):
        started_from(store, second, pytest.fail)
