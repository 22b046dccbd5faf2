"""Before and after: the model that training started from, on the same texts and prompts."""

from __future__ import annotations

import shutil

import pytest

from lmcore.documents import CURATED, read_documents
from lmcore.evaluate.likelihood import score_documents, summarise
from lmcore.evaluate.stage import EvaluateParams, EvaluateRuntime, evaluate
from lmcore.generate.load import load
from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.models.io import save_model
from lmcore.progress import silent
from lmcore.tokenizer import ByteBPE
from storage.atomic import write_json

ASKED = EvaluateParams(
    before=True,
    bootstrap_draws=100,
    baselines=(),
    splits=("test",),
    prompts=("the hero", "ሰላም"),
    sampling={"max_tokens": 8},
    text_scores=("amharic", "amharic_original"),
    positions=(4, 8),
)


@pytest.fixture(scope="module")
def start(make_model, tmp_path_factory):
    """Another model, with a vocabulary and a context of its own."""
    folder = tmp_path_factory.mktemp("start")
    other = ByteBPE.train(
        ["the hero went home " * 50], vocab_size=280, split="llama3", min_frequency=2, max_token_length=8
    )
    save_model(
        folder, make_model(DecoderConfig(n_layers=1, d_model=16, n_heads=2, context=12), other.vocab_size, seed=7)
    )
    (folder / "tokenizer.json").write_text(other.to_json(), encoding="utf-8")
    return folder, other


@pytest.fixture(scope="module")
def done(trained, curated, start, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    runtime = EvaluateRuntime(device="cpu")
    metrics = evaluate(work, trained, curated, (), start[0], params=ASKED, runtime=runtime, report=silent)
    return work, metrics


def test_both_are_measured_on_the_same_texts(done, start, curated, read_json):
    found = read_json(done[0] / "out" / "evaluation.json")
    before = found["before"]
    files = sorted((curated / "test").glob("*.parquet"))
    texts = [text for path in files for text in read_documents(path, CURATED)["text"].to_pylist()]
    earlier = load(start[0])
    scores = score_documents(earlier.model, earlier.tokenizer, texts, context=12)
    assert before["bits_per_byte"] == pytest.approx(summarise(scores)["bits_per_byte"], rel=1e-6)
    assert before["bytes"] == found["headline"]["bytes"]
    assert before["vocab_size"] == start[1].vocab_size
    assert before["groups"].keys() == found["groups"].keys()
    assert {name: of.keys() for name, of in before["groups"].items()} == {
        name: of.keys() for name, of in found["groups"].items()
    }
    assert done[1]["before"] == before["bits_per_byte"]


def test_further_measurements_are_of_both(done, read_json):
    found = read_json(done[0] / "out" / "evaluation.json")
    for probes in (found["probes"], found["before"]["probes"]):
        assert probes.keys() == {"positions", "text_scores"}
        assert probes["text_scores"].keys() == {"amharic", "amharic_original"}
    assert found["probes"]["positions"]["context"] == 16
    assert found["before"]["probes"]["positions"]["context"] == 12


def test_samples_stand_side_by_side(done, read_json, start):
    samples = read_json(done[0] / "out" / "samples.json")
    assert [(one["prompt"], one["greedy"]) for one in samples][:2] == [("the hero", True), ("the hero", False)]
    greedy = load(start[0]).generate("the hero", max_tokens=8, temperature=0.0)
    assert samples[0]["before"] == greedy
    assert all(one["text"] != one["before"] for one in samples)


@pytest.fixture
def fresh(trained, tmp_path):
    """The trained model with the note that its training left of its seed."""
    folder = tmp_path / "fresh"
    shutil.copytree(trained, folder)
    write_json(folder / "provenance" / "training.json", {"data": {"settings": {"seed": 5}}})
    return folder


def test_the_random_weights_of_its_seed_where_it_began_with_these(fresh, curated, tmp_path, read_json):
    runtime, asked = EvaluateRuntime(device="cpu"), ASKED.model_copy(update={"untrained": True})
    evaluate(tmp_path / "one", fresh, curated, params=asked, runtime=runtime, report=silent)
    found, samples = (read_json(tmp_path / "one" / "out" / name) for name in ("evaluation.json", "samples.json"))
    ours = load(fresh)
    texts = [
        text
        for path in sorted((curated / "test").glob("*.parquet"))
        for text in read_documents(path, CURATED)["text"].to_pylist()
    ]
    random = build(ours.model.config, ours.model.vocab_size, 5).eval()
    scores = score_documents(random, ours.tokenizer, texts, context=16)
    assert found["before"]["bits_per_byte"] == pytest.approx(summarise(scores)["bits_per_byte"], rel=1e-6)
    assert found["before"]["bits_per_byte"] != pytest.approx(found["headline"]["bits_per_byte"], rel=1e-3)
    assert found["before"]["probes"].keys() == found["probes"].keys() == {"positions", "text_scores"}
    assert all("before" in one for one in samples)


def test_another_model_to_begin_from_stands_before_random_weights(fresh, start, done, curated, tmp_path, read_json):
    runtime, asked = EvaluateRuntime(device="cpu"), ASKED.model_copy(update={"untrained": True})
    evaluate(tmp_path / "two", fresh, curated, (), start[0], params=asked, runtime=runtime, report=silent)
    before, same = (read_json(work / "out" / "evaluation.json")["before"] for work in (tmp_path / "two", done[0]))
    assert before == same


def test_nothing_new_without_it(trained, curated, tmp_path, read_json):
    plain = EvaluateParams(bootstrap_draws=100, baselines=(), prompts=("a",), sampling={"max_tokens": 2})
    evaluate(tmp_path, trained, curated, params=plain, runtime=EvaluateRuntime(device="cpu"), report=silent)
    assert read_json(tmp_path / "out" / "evaluation.json").keys() == {
        "headline",
        "splits",
        "groups",
        "baselines",
        "lossy",
    }
    assert read_json(tmp_path / "out" / "samples.json")[0].keys() == {"prompt", "text", "greedy"}
    asked = {
        "before",
        "untrained",
        "positions",
        "group_by",
        "genres",
        "terms",
        "dialogue",
        "translation",
        "text_scores",
    }
    assert not (asked | {"text_scores"}) & plain.key_values().keys()
    assert "before" in ASKED.key_values()
