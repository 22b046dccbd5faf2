"""The tokenizer stage: equal bytes whatever the threads and interruptions; a text that is too small is said."""

from __future__ import annotations

import json
import signal

import pytest
from curated_texts import documentation, mixed_texts, run_python, tree, write_curated
from pydantic import ValidationError

from lmcore.progress import silent
from lmcore.tokenizer import load_tokenizer
from lmcore.tokenizer.train import TokenizerParams, TokenizerRuntime, train_tokenizer
from storage.errors import RunError

SMALL = TokenizerParams(vocab_size=800)
STAGE = """
import sys
from pathlib import Path
from lmcore.progress import silent
from lmcore.tokenizer.train import TokenizerParams, TokenizerRuntime, train_tokenizer
work, curated, workers = sys.argv[1:]
train_tokenizer(Path(work), Path(curated), params=TokenizerParams(vocab_size=800),
                runtime=TokenizerRuntime(workers=int(workers)), report=silent)
"""


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    texts = documentation()
    return write_curated(
        tmp_path_factory.mktemp("curated"), {"train": list(texts[:40]), "val": list(texts[40:50]), "test": []}, 15
    )


def train(work, curated, params=SMALL, workers=1, report=silent):
    return train_tokenizer(work, curated, params=params, runtime=TokenizerRuntime(workers=workers), report=report)


def test_it_leaves_a_tokenizer_and_a_report(curated, tmp_path):
    metrics = train(tmp_path, curated)
    assert sorted(tree(tmp_path / "out")) == ["tokenizer.json", "tokenizer_report.json"]
    tokenizer = load_tokenizer(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "tokenizer_report.json").read_text())
    assert report["vocab_size"] == report["requested_vocab_size"] == tokenizer.vocab_size == 800
    assert metrics["vocab_size"] == 800
    for split, texts in {"train": documentation()[:40], "val": documentation()[40:50]}.items():
        n_bytes = sum(len(text.encode()) for text in texts)
        tokens = sum(len(tokenizer.encode(text)) for text in texts)
        found = report["measured"][split]
        assert (found["documents"], found["bytes"], found["tokens"]) == (len(texts), n_bytes, tokens)
        assert found["unknown_share"] == 0
        assert report["bytes_per_token"][split] == pytest.approx(n_bytes / tokens, abs=1e-4)
    seen = {token for text in documentation()[:40] for token in tokenizer.encode(text)}
    assert report["unused_tokens"] == metrics["unused_tokens"] == 800 - 6 - len(seen)
    longest = report["longest_tokens"][0]
    assert longest["bytes"] == max(tokenizer.byte_length(range(800)))
    assert tokenizer.encode(longest["text"]) == [longest["id"]]
    assert metrics["capped"] is False


def test_a_large_corpus_is_measured_on_a_sample(curated, tmp_path, monkeypatch):
    monkeypatch.setattr("lmcore.tokenizer.report.MEASURED_BYTES", 50_000)
    train(tmp_path, curated)
    measured = json.loads((tmp_path / "out" / "tokenizer_report.json").read_text())["measured"]["train"]
    assert 1 <= measured["documents"] < 20
    assert measured["tokens"] < measured["bytes"] < 200_000


def test_the_llama3_split_needs_fewer_tokens_than_the_gpt2_one(curated, tmp_path):
    ratio = {
        split: train(tmp_path / split, curated, TokenizerParams(vocab_size=2000, split=split))["bytes_per_token_val"]
        for split in ("gpt2", "llama3")
    }
    assert ratio["llama3"] > ratio["gpt2"] > 2


def test_equal_bytes_for_any_number_of_threads_and_processes(curated, tmp_path):
    train(tmp_path / "here", curated)
    environments = [
        {"TOKENIZERS_PARALLELISM": "false"},
        {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "1"},
        {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "3"},
    ]
    for workers, environment in enumerate(environments, 1):
        found = run_python(STAGE, tmp_path / f"{workers}", curated, workers, **environment)
        assert found.returncode == 0, found.stderr
        assert tree(tmp_path / f"{workers}" / "out") == tree(tmp_path / "here" / "out")


@pytest.mark.parametrize("point", ["tokenizer.before-save", "atomic.write.before-rename:2"])
def test_killed_and_run_again_it_leaves_equal_bytes(curated, tmp_path, point):
    train(tmp_path / "whole", curated)
    killed = run_python(STAGE, tmp_path / "killed", curated, 1, COLLECT_TRAIN_FAULT=point)
    assert killed.returncode == -signal.SIGKILL
    assert "tokenizer_report.json" not in tree(tmp_path / "killed")
    train(tmp_path / "killed", curated)
    assert tree(tmp_path / "killed" / "out") == tree(tmp_path / "whole" / "out")


def test_a_vocabulary_the_text_cannot_fill_says_how_far_it_reaches(tmp_path):
    curated = write_curated(tmp_path / "curated", {"train": ["the cat sat on the mat"] * 3, "val": ["the cat"]})
    large = TokenizerParams(vocab_size=4096)
    with pytest.raises(RunError, match=r"fill a vocabulary of \d+ tokens, not 4,096 \(min_frequency 2\)") as caught:
        train(tmp_path / "work", curated, large)
    assert str(curated) in caught.value.what
    reachable = int(caught.value.mend.split("vocab_size to ")[1].split()[0])
    assert train(tmp_path / "work", curated, TokenizerParams(vocab_size=reachable))["vocab_size"] == reachable
    notes = []
    metrics = train(
        tmp_path / "work", curated, large.model_copy(update={"cap": True}), report=lambda *say: notes.append(say)
    )
    assert metrics["capped"] is True
    assert (metrics["vocab_size"], metrics["requested_vocab_size"]) == (reachable, 4096)
    assert notes[-1] == (1, 1, f"{reachable} tokens, capped: 4,096 asked for")


def test_no_text_is_an_error(tmp_path):
    for number, splits in enumerate([{"val": ["text"]}, {"train": []}, {"train": [""]}]):
        curated = write_curated(tmp_path / f"{number}", splits)
        with pytest.raises(RunError, match=f"no training text in {curated}/train"):
            train(tmp_path / "work", curated)


def test_no_validation_text_is_no_error(tmp_path, seed):
    curated = write_curated(tmp_path / "curated", {"train": mixed_texts(seed, 60)})
    assert train(tmp_path / "work", curated, TokenizerParams(vocab_size=300))["bytes_per_token_val"] is None


def test_a_damaged_input_is_named(curated, tmp_path):
    texts = write_curated(tmp_path / "curated", {"train": list(documentation()[:9])}, 5)
    file = texts / "train" / "00001.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(RunError, match=str(file)):
        train(tmp_path / "work", texts)
    write_other = run_python(
        "import sys, pyarrow as pa; from pathlib import Path; from storage.parquet import write_parquet; "
        "write_parquet(Path(sys.argv[1]), pa.table({'n_bytes': [9]}))",
        file,
    )
    assert write_other.returncode == 0
    with pytest.raises(RunError, match=rf"{file} is not a valid curated table"):
        train(tmp_path / "work", texts)


def test_progress_only_grows_and_is_named(curated, tmp_path):
    said = []
    train(tmp_path, curated, report=lambda done, total, note="": said.append((done, total, note)))
    reading = [done for done, _, note in said if note == "reading words"]
    assert reading == sorted(reading)
    assert reading[-1] == sum(len(text.encode()) for text in documentation()[:40])
    assert said[-1] == (1, 1, "800 tokens")


@pytest.mark.parametrize(
    "wrong",
    [
        {"vocab_size": 261},
        {"split": "gpt4"},
        {"min_frequency": 0},
        {"kind": "letters"},
        {"size": 5},
        {"kind": "bytes", "vocab_size": 300},
        {"cross_words": False},
        {"order": "first_seen"},
        {"alpha": 1.1},
        {"weights": {"hu": 0.0}},
        {"weights": {"hu": 2.0}, "alpha": 0.5},
        {"kind": "bytes", "alpha": 0.5},
        {"kind": "words", "order": "first_seen", "weights": {"hu": 2.0}},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        TokenizerParams(**wrong)
