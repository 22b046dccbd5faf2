"""What `train.init_from` may name beside scratch and champion, and what that becomes in a plan."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from byte_engine import byte_engine
from test_flows_start import publish, recipe, trained

from flows.plan import make_plan, read_plan, resolve_start
from flows.start import warm_start
from lmcore.generate.load import load
from lmcore.recipe import check_settings, load_recipe, parse_recipe
from storage.errors import RunError, UserError
from storage.registry import Registry
from storage.store import Store

SHAPE = {"n_layers": 2, "d_model": 32, "n_heads": 2, "n_kv_heads": 1, "d_ff": 48, "context": 64, "qk_norm": False}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def folder(tmp_path):
    """A Llama that transformers made, with bytes for a vocabulary."""
    engine = byte_engine("<s>")
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=257, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=0,
        tie_word_embeddings=True,
    )  # fmt: skip
    path = tmp_path / "their-llama"
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    transformers.PreTrainedTokenizerFast(tokenizer_object=engine, bos_token="<s>").save_pretrained(path)
    return path


def starting_from(name, **changes):
    return recipe(train={"steps": 3, "init_from": str(name)}, **changes)


def test_a_folder_becomes_two_artifacts_once(store, folder):
    told = []
    asked = starting_from(folder, model=SHAPE)
    plan = make_plan(store, asked, "one", "run-1")
    found = warm_start(store, plan, asked, told.append)
    assert (found.model.digest, found.release) == (plan.start.model_digest, "the folder their-llama")
    assert told == ["the vocabulary is that of the folder their-llama; the recipe's `tokenizer` has no part in it"]
    assert [(a.stage, a.key) for a in store.artifacts()] == [
        ("tokenizer", found.tokenizer.key),
        ("train", found.model.key),
    ]
    loaded = load(found.model.path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.randint(0, 257, (2, 64))
    with torch.no_grad():
        assert (loaded.model(ids) - theirs(ids).logits).abs().max() < 1e-4
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("ሰላም 🦆")) == "ሰላም 🦆"
    assert store.verify() == []

    elsewhere = folder.rename(folder.with_name("moved"))
    assert resolve_start(store, starting_from(elsewhere)).model_digest == found.model.digest, "by its files"
    assert len(list(store.artifacts())) == 2


def test_a_run_keeps_the_folder_that_it_began_with(store, folder):
    asked = starting_from(folder, model=SHAPE)
    first = make_plan(store, asked, "one", "run-1")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        theirs.model.norm.weight += 1
    theirs.save_pretrained(folder)
    assert make_plan(store, asked, "one", "run-1") == first == read_plan(store, "run-1")
    assert make_plan(store, asked, "one", "run-2").start.model_digest != first.start.model_digest


def test_another_shape_than_the_folders_is_refused_with_what_to_set(store, folder):
    asked = starting_from(folder)
    plan = make_plan(store, asked, "one", "run-1")
    with pytest.raises(UserError) as error:
        warm_start(store, plan, asked, print)
    assert "asks for model.n_kv_heads null, model.d_ff null, model.qk_norm true" in error.value.what
    assert "--set model.n_kv_heads=1 --set model.d_ff=48 --set model.qk_norm=false" in error.value.mend


def test_dropout_and_a_shorter_context_are_free(store, folder):
    asked = starting_from(folder, model=SHAPE | {"dropout": 0.1, "context": 16})
    plan = make_plan(store, asked, "one", "run-1")
    assert warm_start(store, plan, asked, lambda _: None) is not None


def test_a_release_of_another_recipe_and_an_artifact(store):
    _, tokenizer, _, model = trained(store, 1)
    Registry(store.root).record(
        "other", release_key="a" * 24, digest="d", model_key=model.key, model_digest=model.digest, export_key=None,
        bits_per_byte=1.0, reason="",
    )  # fmt: skip
    for name, told in {
        "other@1": "other@1", f"train/{model.key}": f"train/{model.key}", model.digest[:10]: f"train/{model.key}",
    }.items():  # fmt: skip
        asked = starting_from(name)
        found = warm_start(store, make_plan(store, asked, "one"), asked, pytest.fail)
        assert (found.model, found.tokenizer, found.release) == (model, tokenizer, told)
    with pytest.raises(UserError, match="none was promoted"):
        resolve_start(store, starting_from("other"))
    Registry(store.root).promote("other", 1, expected=None)
    assert resolve_start(store, starting_from("other")).name == "other@1"


def test_what_names_nothing_is_refused(store, tmp_path):
    corpus = publish(store, "curate", "abc")
    for name, told in {
        "champoin": "no artifact 'champoin'", "other@1": "no artifact",
        f"curate/{corpus.key}": "an artifact of stage curate",
        corpus.digest[:12]: "an artifact of stage curate", "./nowhere": "no Hugging Face folder",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=told):
            resolve_start(store, starting_from(name))


def test_a_lost_start_is_named(store, folder):
    asked = starting_from(folder, model=SHAPE)
    plan = make_plan(store, asked, "one", "run-1")
    store.set_aside("train", plan.start.model_key, "test")
    with pytest.raises(RunError, match=r"the folder their-llama .* is not in the store any more"):
        warm_start(store, plan, asked, print)


@pytest.mark.parametrize("lost", [("tokenizer",), ("train",), ("tokenizer", "train")])
@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_what_is_lost_of_an_imported_model_is_read_again_from_the_folder(store, folder, lost, how):
    asked = starting_from(folder, model=SHAPE)
    before = warm_start(store, make_plan(store, asked, "one", "run-1"), asked, lambda _: None)
    for stage in lost:
        if how == "gone":
            store.set_aside(stage, before.model.key, "test")
        else:
            path = {
                "train": before.model.file("model.safetensors"),
                "tokenizer": before.tokenizer.file("tokenizer.json"),
            }
            path[stage].write_bytes(path[stage].read_bytes()[:-1])
    told = []
    after = warm_start(store, make_plan(store, asked, "one", "run-2", told.append), asked, told.append)
    assert (after.model.digest, after.tokenizer.digest) == (before.model.digest, before.tokenizer.digest)
    assert store.verify() == []


def test_a_vocabulary_that_is_another_when_it_is_read_again_has_its_model_made_with_it(store, folder):
    """As another version of the library would write it: the model names the vocabulary that it was made with."""
    asked = starting_from(folder, model=SHAPE)
    before = warm_start(store, make_plan(store, asked, "one", "run-1"), asked, lambda _: None)
    path = before.model.path / "manifest.json"
    path.write_text(path.read_text().replace(before.tokenizer.digest, "f" * 64))
    after = warm_start(store, make_plan(store, asked, "one", "run-2"), asked, lambda _: None)
    assert after.model.digest == before.model.digest
    (entry,) = after.model.manifest.provenance.inputs
    assert entry.digest == after.tokenizer.digest


def test_with_a_vocabulary_of_its_own_the_folders_is_not_taken(store, folder):
    asked = recipe(train={"steps": 3, "init_from": str(folder), "grow_vocabulary": True}, model=SHAPE)
    told = []
    found = warm_start(store, make_plan(store, asked, "one", "run-1"), asked, told.append)
    assert found.tokenizer is None
    assert told == [
        "the vocabulary is the recipe's own: tokens that the folder their-llama does not have begin as the mean of its "
        "pieces"
    ]


def test_a_path_is_that_of_the_recipe_and_not_for_strangers(tmp_path):
    values = {"name": "mine", "sources": [{"name": "t", "kind": "files", "paths": ["*.txt"]}], "train": {"steps": 1}}
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(values | {"train": {"steps": 1, "init_from": "./llama"}}))
    assert load_recipe(str(path)).train.init_from == str(tmp_path / "llama")
    assert parse_recipe(values, "here").train.init_from == "scratch"
    for free in ("scratch", "champion"):
        check_settings([f"train.init_from={free}"])
    with pytest.raises(UserError, match="cannot be changed"):
        check_settings(["train.init_from=/home/somebody/model"])
