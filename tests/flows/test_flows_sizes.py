"""`params A B`, `autosize` and `diagnose` as a person types them."""

from __future__ import annotations

import json
from pydoc_data.topics import topics

import pytest
import yaml
from helpers_flows import collect, write_recipe
from helpers_runs import keepers
from test_flows_start import publish

from flows.compare_params import training_tokens
from flows.trial import document_projection
from lmcore.recipe import load_recipe, packaged_recipes
from lmcore.tokens.meta import read_meta
from storage.errors import UserError
from storage.store import Store

KEY = "a" * 24


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_two_recipes_side_by_side(store, tmp_path):
    path = tmp_path / "wider.yaml"
    path.write_text(yaml.safe_dump({"extends": "quickstart", "name": "wider", "model": {"d_model": 192, "n_heads": 3}}))
    done = collect("params", "quickstart", str(path), "--set", "train.steps=50", store=store.root)
    cells = [line.split("│") for line in done.out.splitlines() if line.startswith("│")]
    rows = {line[1].strip(): [cell.strip() for cell in line[2:4]] for line in cells}
    assert rows["parameters"] == ["1,377,920", "2,558,144"]
    assert rows["tokens a step"] == ["2,048", "2,048"]
    assert rows["steps"] == ["50", "50"]
    assert all("tokens/s in" in cell for cell in rows["speed here"])
    assert all(cell.endswith("minutes") for cell in rows["training time here"])


def test_families_side_by_side_and_a_step_of_each(store, tmp_path):
    """A decoder and an MU model: each has the parts of its own ledger, and a claim that is in range or not."""
    model = {"family": "mu", "n_layers": 2, "matrix": [4, 4], "block": [2, 2], "n_heads": 2, "context": 64}
    claim = {"metric": "parameters", "range": [1, 100_000], "source": "line 1"}
    path = tmp_path / "matrices.yaml"
    recipe = {
        "extends": "quickstart",
        "name": "matrices",
        "model": model,
        "tokenizer": {"vocab_size": 400},
        "export": {"hf": False},
    }
    path.write_text(yaml.safe_dump(recipe | {"train": {"steps": 20, "batch": 2}, "expect": [claim]}))
    done = collect("params", "quickstart", str(path), store=store.root, env={"COLUMNS": "150"})
    cells = [line.split("│") for line in done.out.splitlines() if line.startswith("│")]
    rows = {line[1].strip(): [cell.strip() for cell in line[2:4]] for line in cells}
    assert rows["shape"] == ["4 x 128, 2 heads, context 256", "2 x 16 (4 x 4 in blocks of 2 x 2), 2 heads, context 64"]
    assert [bool(cell) for cell in rows["attention"]] == [True, False]
    assert [bool(cell) for cell in rows["block attention"]] == [False, True]
    assert rows["claims of its document"] == ["", "1 of 1 in range"]
    done = collect("params", "quickstart", str(path), "--step", "--set", "train.batch=2", store=store.root)
    cells = [line.split("│") for line in done.out.splitlines() if line.startswith("│")]
    steps = {line[1].strip(): [c[2].strip() for c in cells if c[1] == line[1]] for line in cells}
    assert steps["parameters"] == rows["parameters"]
    assert [float(told.split()[0]) for told in steps["loss before it"]] == pytest.approx([8.318, 5.991], abs=0.3)
    assert steps["the whole run"][1].startswith("20 steps: about")


TAKEN = {  # steps of the whole training by the document's own count, and their time when a step takes 2 seconds
    "soma": "228,900 steps, about 5.3 days: 30 epochs of about 125,000,000 tokens (an estimate; line 184: 1M examples",
    "lai": "7,820 steps, about 4 h 20 min: 10 epochs of 25,000 sequences (lines 41 and 114",
    "cllm": "43,620 steps, about 24 h 14 min: 30 epochs of 5,952,986 tokens (the counts in its own vocab.txt",
    "mu": "1,310 steps, about 43 min 40 s: 5 epochs of 8,366 sequences (line 61",
    "amharic": "5,961 steps, about 3 h 18 min: 3 epochs of about 16,274,432 tokens (an estimate; line 5: 31,786",
    "amharic-lora": "1,250 steps, about 41 min 40 s: 2 epochs of 1,280,000 tokens (its program: 5,000 texts",
    "amharic-smart": "1,413 steps, about 47 min 06 s: 3 epochs of about 1,925,632 tokens (an estimate; line 79",
}


@pytest.mark.parametrize("name", TAKEN)
def test_the_time_of_as_much_text_as_the_document_has(name):
    assert document_projection(load_recipe(name), 2.0).startswith(TAKEN[name])


def test_an_amount_of_the_document_is_told_of_epochs_alone():
    assert document_projection(load_recipe("cllm", ["train.epochs=3"]), 2.0).startswith("4,362 steps, about 2 h 25 min")
    assert document_projection(load_recipe("cllm", ["train.epochs=null", "train.steps=50"]), 2.0) == ""
    assert document_projection(load_recipe("quickstart", ["train.steps=null", "train.epochs=3"]), 2.0) == ""
    told = [name for name in packaged_recipes() if document_projection(load_recipe(name), 2.0)]
    assert not [name for name in told if name.endswith("-small") or name in ("cllm-bpe", "soma-finetune")]


def test_an_amount_is_of_tokens_or_of_sequences():
    for amount in ("{tokens: 5, sequences: 5, source: line 1}", "{source: line 1, tokens: null}"):
        with pytest.raises(UserError, match=r"document_epoch: .*tokens or in sequences: write one of the two"):
            load_recipe("quickstart", [f"document_epoch={amount}"])
    amount = "{sequences: 33, source: line 1}"
    recipe = load_recipe("quickstart", ["train.epochs=1.5", "train.batch=8", f"document_epoch={amount}"])
    assert document_projection(recipe, 1.0) == "8 steps, about 8.0 s: 1.5 epochs of 33 sequences (line 1)"


def test_an_epoch_is_not_known_where_nothing_tells(store):
    recipe = load_recipe("quickstart")
    assert training_tokens(store, recipe) is None
    tokens = publish(store, "tokens", "abc")
    assert training_tokens(store, recipe) is None, "no meta.json, no plan"
    assert tokens.manifest.provenance.run == ""


@pytest.mark.slow
def test_an_epoch_is_known_from_what_was_collected_last(store, shared_server, tmp_path):
    """Two real runs up to the tokens, of the same recipe with more text the second time."""
    documents = [text for text in topics.values() if len(text) > 1000]
    source = {"name": "topics", "kind": "files", "paths": [str(tmp_path / "texts" / "*.txt")], "license": "PSF-2.0"}
    path = write_recipe(tmp_path, source, train={"steps": None, "epochs": 3})
    recipe = load_recipe(path)
    sizes = []
    for number in (20, 60):
        for n, text in enumerate(documents[:number]):
            (tmp_path / "texts").mkdir(exist_ok=True)
            (tmp_path / "texts" / f"{n}.txt").write_text(text)
        collect("run", path, "--until", "tokens", "--edition", f"of-{number}", store=store.root, env=shared_server)
        newest = max(store.artifacts("tokens"), key=lambda artifact: artifact.manifest.provenance.finished)
        sizes.append(read_meta(newest.path).splits["train"].tokens)
        assert training_tokens(store, recipe) == sizes[-1]
    assert sizes[0] < sizes[1]
    assert training_tokens(store, recipe.model_copy(update={"name": "another"})) is None
    done = collect("params", path, "quickstart", store=store.root)
    cells = [line.split("│") for line in done.out.splitlines() if line.startswith("│")]
    rows = {line[1].strip(): line[2].strip() for line in cells}
    epoch = -(-sizes[1] // (recipe.training.batch * recipe.model.context))
    assert rows["steps an epoch"] == f"{epoch:,}"
    assert rows["steps"] == f"{3 * epoch:,}"


def test_autosize_prints_a_piece_of_a_recipe(store, tmp_path):
    done = collect("autosize", "--minutes", "1", "--vocab-size", "512", "--context", "64", store="")
    found = yaml.safe_load(done.out)
    assert found["train"]["minutes"] == 1.0
    path = tmp_path / "sized.yaml"
    path.write_text(yaml.safe_dump(found | {"extends": "quickstart", "name": "sized"}))
    sized = load_recipe(str(path))
    assert (sized.model.d_model, sized.train.batch) == (found["model"]["d_model"], found["train"]["batch"])
    assert "tokens/s measured with this shape" in done.out
    for wrong in ([], ["--minutes", "1", "--flops", "1e12"]):
        assert "autosize needs a budget" in collect("autosize", *wrong, code=2).err


def test_diagnose_finds_the_training_of_a_run_that_goes_on(store):
    work = store.work("train", KEY)
    with keepers(store.root) as keep:
        run = keep("run-1")
        run.attempt()
        assert "has not come to training" in collect("diagnose", store=store.root, code=2).err
        run.write("started", stage="train", key=KEY)
        with open(work / "progress.jsonl", "w") as file:
            for step in range(1, 41):
                line = {"step": step, "progress": step / 100, "loss": 8.0, "bits_per_byte": 6.0, "tokens": step * 64}
                file.write(json.dumps(line | {"seconds": step * 0.1, "tokens_per_second": 640.0, "lr": 0.1}) + "\n")
            skipped = {"event": "skipped", "text": "", "step": 41, "loss": None, "grad_norm": None}
            file.write(json.dumps(skipped) + "\n")
        done = collect("diagnose", "run-1", store=store.root)
        keep("run-2").attempt()
        later = collect("diagnose", store=store.root).out
        assert "run-2 has not come to training" in collect("diagnose", "run-2", store=store.root, code=2).err
    assert later == "of run run-1: no newer one has come to training\n" + done.out
    assert "flat loss: 8.000 nats a token at the beginning, 8.000 after 40 steps" in done.out
    assert "NaN: 1 of 40 steps were skipped for numbers that are not finite, the first at step 41" in done.out
    assert "  change: train.lr" in done.out
