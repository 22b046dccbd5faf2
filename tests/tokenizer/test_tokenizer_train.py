"""The tokenizer stage: equal bytes whatever the threads and interruptions; a text that is too small is said."""

from __future__ import annotations

import hashlib
import json
import signal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curated_texts import documentation, mixed_texts, run_python, tree, write_curated
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lmcore.progress import silent
from lmcore.tokenizer import load_tokenizer
from lmcore.tokenizer.curated import copies
from lmcore.tokenizer.train import TokenizerParams, TokenizerRuntime, train_tokenizer
from lmcore.tokens.shards import TokensParams, TokensRuntime, make_tokens
from storage.errors import RunError
from storage.parquet import write_parquet

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
    told = f"{reachable} tokens, capped: 4,096 asked for; models have as many rows as there are tokens"
    assert notes[-1] == (1, 1, told)


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
        {"chat_tags": True},
        {"kind": "char_bpe", "chat_tags": True, "cross_words": False},
        {"kind": "char_bpe", "chat_tags": True, "vocab_size": 304},
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


@pytest.mark.parametrize(
    ("settings", "beside"),
    [
        ({"kind": "bytes"}, []),
        ({"kind": "char_bpe", "vocab_size": 800}, ["vocab.bin"]),
        ({"kind": "word_bpe", "vocab_size": 800}, []),
        ({"kind": "words", "vocab_size": 800}, ["vocab.txt"]),
    ],
)
def test_every_kind_leaves_its_files_and_a_report(curated, tmp_path, settings, beside):
    params = TokenizerParams(**settings)
    metrics = train(tmp_path, curated, params)
    assert sorted(tree(tmp_path / "out")) == sorted(["tokenizer.json", "tokenizer_report.json", *beside])
    tokenizer = load_tokenizer(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "tokenizer_report.json").read_text())
    assert report["vocab_size"] == tokenizer.vocab_size == params.vocab_size
    assert (report["kind"], report["lossy"]) == (params.kind, tokenizer.lossy)
    ids = [token for text in documentation()[40:50] for token in tokenizer.encode(text)]
    measured = report["measured"]["val"]
    assert measured["tokens"] == len(ids)
    unknown = 0 if tokenizer.unk_id is None else ids.count(tokenizer.unk_id)
    assert measured["unknown_share"] == round(unknown / len(ids), 4)
    assert metrics.get("unknown_share_val") == (None if tokenizer.unk_id is None else measured["unknown_share"])
    if params.kind == "bytes":
        assert measured["bytes_per_token"] == 1
    if params.kind == "words":
        assert unknown > 0
        assert measured["tokens_per_word"] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("kind", ["char_bpe", "word_bpe", "words"])
def test_every_kind_that_learns_says_when_the_text_is_too_small(tmp_path, kind):
    curated = write_curated(tmp_path / "curated", {"train": ["the cat sat on the mat"] * 3, "val": ["the cat"]})
    with pytest.raises(RunError, match=r"fill a vocabulary of \d+ tokens, not 4,096"):
        train(tmp_path / "work", curated, TokenizerParams(kind=kind, min_frequency=1))
    assert train(tmp_path / "work", curated, TokenizerParams(kind=kind, min_frequency=1, cap=True))["capped"] is True


def test_more_characters_than_tokens_is_an_error(tmp_path):
    letters = " ".join(chr(0x4E00 + number) for number in range(400))
    curated = write_curated(tmp_path / "curated", {"train": [letters]})
    with pytest.raises(RunError, match="so many characters that a vocabulary of kind word_bpe has 804 tokens"):
        train(tmp_path / "work", curated, TokenizerParams(kind="word_bpe", vocab_size=300))
    train(tmp_path / "work", curated, TokenizerParams(kind="char_bpe", vocab_size=300, min_frequency=1))


HUNGARIAN = [f"Az {number}. árvíztűrő tükörfúrógép a kertben áll, és szépen fütyörészik." for number in range(40)]
ENGLISH = [f"{number}: {documentation()[number % 70][200:500]}" for number in range(400)]


@pytest.fixture(scope="module")
def bilingual(tmp_path_factory):
    """Ten times as much English as Hungarian, of which every document is another."""
    langs = dict.fromkeys(HUNGARIAN, "hu") | dict.fromkeys(ENGLISH, "en")
    splits = {"train": HUNGARIAN[4:] + ENGLISH[40:], "val": HUNGARIAN[:4] + ENGLISH[:40]}
    return write_curated(tmp_path_factory.mktemp("bilingual"), splits, 100, langs)


def by_language(work):
    report = json.loads((work / "out" / "tokenizer_report.json").read_text())
    return {name: found["bytes_per_token"] for name, found in report["measured"]["val"]["by"]["lang"].items()}


def test_weights_give_a_small_language_more_of_the_vocabulary(bilingual, tmp_path):
    found = {}
    for name, more in {"plain": {}, "weights": {"weights": {"hu": 8.0}}, "alpha": {"alpha": 0.0}}.items():
        train(tmp_path / name, bilingual, TokenizerParams(vocab_size=330, **more))
        found[name] = by_language(tmp_path / name)
    assert sorted(found["plain"]) == ["en", "hu"]
    assert found["weights"]["hu"] > found["plain"]["hu"]
    assert found["alpha"]["hu"] > found["plain"]["hu"]
    report = json.loads((tmp_path / "alpha" / "out" / "tokenizer_report.json").read_text())
    sizes = [sum(len(text.encode()) for text in texts) for texts in (ENGLISH[40:], HUNGARIAN[4:])]
    assert report["language_weights"] == {"en": 1.0, "hu": pytest.approx(sizes[0] / sizes[1], abs=1e-5)}


def test_a_weight_of_one_changes_nothing_and_of_two_is_the_text_twice(bilingual, tmp_path):
    plain = learn_json(tmp_path / "plain", bilingual)
    assert learn_json(tmp_path / "one", bilingual, weights={"hu": 1.0, "en": 1.0}) == plain
    langs = dict.fromkeys(HUNGARIAN, "hu") | dict.fromkeys(ENGLISH, "en")
    twice = write_curated(tmp_path / "twice", {"train": HUNGARIAN[4:] * 2 + ENGLISH[40:], "val": ["x"]}, langs=langs)
    assert learn_json(tmp_path / "two", bilingual, weights={"hu": 2.0}) == learn_json(tmp_path / "written", twice)


def learn_json(work, curated, **settings):
    train(work, curated, TokenizerParams(vocab_size=330, **settings))
    return (work / "out" / "tokenizer.json").read_text()


def test_weighted_texts_do_not_depend_on_their_order(bilingual, tmp_path):
    """The rows are moved to other files and places: record ids and the vocabulary stay."""
    tables = [pq.read_table(path) for path in sorted((bilingual / "train").glob("*.parquet"))]
    rows = pa.concat_tables(tables)
    turned = rows.take(pa.array(range(len(rows) - 1, -1, -1)))
    write_parquet(tmp_path / "turned" / "train" / "00000.parquet", turned)
    settings = {"weights": {"hu": 2.5, "en": 0.3}}
    assert learn_json(tmp_path / "a", bilingual, **settings) == learn_json(
        tmp_path / "b", tmp_path / "turned", **settings
    )


@settings(max_examples=50)
@given(weight=st.floats(0.01, 20))
def test_documents_are_taken_as_often_as_their_weight_says(weight):
    digests = [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(2000)]
    taken = [copies(digest, weight) for digest in digests]
    assert set(taken) <= {int(weight), int(weight) + 1}
    assert sum(taken) / len(taken) == pytest.approx(weight, abs=0.06)


def test_a_weight_of_a_language_that_is_not_there_is_an_error(bilingual, tmp_path):
    with pytest.raises(RunError, match="weights names am, a language the training text does not have: it has en, hu"):
        train(tmp_path, bilingual, TokenizerParams(vocab_size=330, weights={"am": 2.0}))


@pytest.mark.parametrize("kind", ["bytes", "char_bpe", "word_bpe", "words"])
def test_token_shards_are_made_with_every_kind(curated, tmp_path, kind):
    train(tmp_path / "tokenizer", curated, TokenizerParams(kind=kind, cap=True))
    out = tmp_path / "tokenizer" / "out"
    make_tokens(
        tmp_path / "tokens", curated, out, params=TokensParams(), runtime=TokensRuntime(workers=1), report=silent
    )
    tokenizer = load_tokenizer(out)
    rows = pq.read_table(tmp_path / "tokens" / "out" / "val" / "documents.parquet").to_pylist()
    ids = np.fromfile(tmp_path / "tokens" / "out" / "val" / "00000.bin", dtype="<u2")
    first = pq.read_table(curated / "val" / "00000.parquet")["text"][0].as_py()
    assert ids[: rows[0]["n_tokens"]].tolist() == [tokenizer.bos_id, *tokenizer.encode(first)]
