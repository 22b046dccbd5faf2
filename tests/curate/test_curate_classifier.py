"""The learned quality: what it learns, what it refuses, and its AUC against counting pairs."""

import json
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.curate import classifier as room
from lmcore.curate.classifier import Classifier, train_classifier
from lmcore.curate.labelled import ClassifierParams, read_labelled
from lmcore.curate.ranks import auc, auc_interval
from storage.errors import RunError, UserError
from storage.parquet import write_parquet

PARAMS = ClassifierParams(bits=14, min_examples=50)


@pytest.fixture(scope="session")
def examples(docstrings):
    """Documentation is good; the same words in a random order, in pieces, are bad."""
    pick = random.Random(1)
    return [
        *((text, True) for text in docstrings),
        *((" ".join(pick.sample(text.split(), 50)), False) for text in docstrings[::2]),
    ]


@pytest.fixture(scope="session")
def learned(examples):
    return train_classifier(examples, PARAMS)


def test_it_tells_good_from_bad_texts_that_it_has_not_seen(learned, examples):
    figures = learned.figures
    assert figures.auc > 0.9
    assert figures.auc_low < figures.auc <= figures.auc_high <= 1
    assert figures.good + figures.held_out_good == len({text for text, good in examples if good})
    assert 0.1 < figures.held_out_good / figures.good < 0.45
    quality = learned.quality([text for text, _ in examples])
    assert ((quality >= 0) & (quality <= 100)).all()
    good = np.array([good for _, good in examples])
    assert quality[good].mean() > 65 > 35 > quality[~good].mean()
    empty = learned.quality(["", "  "])
    assert empty[0] == empty[1]
    assert not len(learned.quality([]))


def test_order_changes_nothing_and_equal_texts_give_equal_bytes(tmp_path, learned, examples, seed):
    learned.save(tmp_path / "a")
    shuffled = [*examples, *examples]
    random.Random(seed).shuffle(shuffled)
    train_classifier(iter(shuffled), PARAMS).save(tmp_path / "b")
    for name in (room.WEIGHTS, room.FACTS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    again = Classifier.load(tmp_path / "a")
    texts = [text for text, _ in examples[:30]]
    assert again.figures == learned.figures
    assert again.quality(texts).tolist() == learned.quality(texts).tolist()
    assert [learned.quality([text])[0] for text in texts] == learned.quality(texts).tolist()


def test_texts_with_both_labels_are_left_out(learned, examples):
    odd = train_classifier([*examples, (examples[0][0], False)], PARAMS)
    assert odd.figures.contradictory == 1
    assert odd.figures.good + odd.figures.held_out_good == learned.figures.good + learned.figures.held_out_good - 1


def test_too_few_examples_and_labels_that_say_nothing_are_refused(docstrings, seed):
    with pytest.raises(UserError, match=r"50 different texts called bad, there are 1\b"):
        train_classifier([*((text, True) for text in docstrings), *[("one bad text", False)] * 99], PARAMS)
    pick = random.Random(seed)
    coins = [(text, pick.random() < 0.5) for text in docstrings]
    with pytest.raises(UserError, match="AUC"):
        train_classifier(coins, PARAMS.model_copy(update={"min_auc": 0.9}))
    body = docstrings[0] + " "  # near copies share their sketch: all learned from, or all held out
    copies = [(body * 3 + f"{i}", i % 2 == 0) for i in range(200)]
    with pytest.raises(UserError, match="near copies"):
        train_classifier(copies, PARAMS)


def test_memory_is_bounded_by_characters(docstrings):
    params = ClassifierParams(max_chars=20_000, min_examples=10)
    texts, good, _ = room._sample(((text * 50, i % 2 == 0) for i, text in enumerate(docstrings)), params)
    assert sum(len(text) for text, yes in zip(texts, good, strict=True) if yes) <= 20_000
    assert max(map(len, texts)) <= room.TEXT_CHARS


@settings(deadline=None)
@given(rows=st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=40))
def test_auc_against_every_pair(rows):
    scores, positive = np.array([s for s, _ in rows], float), np.array([p for _, p in rows], bool)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    area = auc(scores, positive)
    assert area == pytest.approx(float(np.mean(pairs)) if pairs else 0.5)
    if pairs:
        low, high = auc_interval(area, int(positive.sum()), int((~positive).sum()))
        assert 0 <= low <= area <= high <= 1


def test_damaged_models_are_named(tmp_path, learned):
    with pytest.raises(RunError, match="no quality classifier"):
        Classifier.load(tmp_path)
    learned.save(tmp_path)
    facts = json.loads((tmp_path / room.FACTS).read_text())
    for odd in ({**facts, "version": 0}, {**facts, "figures": {}}, [], {}):
        (tmp_path / room.FACTS).write_text(json.dumps(odd))
        with pytest.raises(RunError, match="no quality classifier"):
            Classifier.load(tmp_path)
    learned.save(tmp_path)
    (tmp_path / room.WEIGHTS).write_bytes((tmp_path / room.WEIGHTS).read_bytes()[:-2])
    with pytest.raises(RunError, match="no quality classifier"):
        Classifier.load(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [{"good": ["a"]}, {"good": ["a"], "bad": ["a"]}, {"labelled": "x", "good": ["a"], "bad": ["b"]}, {"epochs": 0}],
)
def test_settings_that_contradict_each_other_are_refused(settings):
    with pytest.raises(ValueError):
        ClassifierParams(**settings)


def test_it_is_off_unless_there_is_something_to_learn_from():
    assert not ClassifierParams().wanted
    assert ClassifierParams(labelled="x.jsonl").wanted
    assert ClassifierParams(good=("a",), bad=("b",)).wanted


def test_labelled_files_are_read_as_a_stream(tmp_path):
    rows = [
        ("one", "good", True),
        ("two", "Bad", False),
        ("three", 1, True),
        ("four", 0.0, False),
        ("five", True, True),
    ]
    lines = [json.dumps({"body": text, "mark": label, "more": 1}) for text, label, _ in rows]
    (tmp_path / "x.jsonl").write_text("\n\n".join(lines) + "\n")
    found = list(read_labelled(tmp_path / "x.jsonl", text_field="body", label_field="mark"))
    assert found == [(text, good) for text, _, good in rows]
    write_parquet(tmp_path / "x.parquet", pa.table({"text": ["a", "b"], "label": [1, 0], "other": [None, None]}))
    assert list(read_labelled(tmp_path / "x.parquet")) == [("a", True), ("b", False)]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"text": "x"}', "row 2 .* label 'none'"),
        ('{"text": "x", "label": "fair"}', "row 2 .*'fair'"),
        ('{"text": 3, "label": 1}', "row 2 .* no text"),
        ("[1]", "row 2 .* no text"),
        ("{", "line 2 .* no JSON"),
        ("[" * 100_000, "line 2 .* no JSON"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path, line, what):
    (tmp_path / "x.jsonl").write_text('{"text": "x", "label": 1}\n' + line)
    with pytest.raises(UserError, match=what):
        list(read_labelled(tmp_path / "x.jsonl"))


def test_files_that_cannot_be_used_are_named(tmp_path):
    (tmp_path / "x.txt").write_text("x")
    write_parquet(tmp_path / "x.parquet", pa.table({"text": ["a"]}))
    for name, what in (("x.txt", "neither"), ("no.jsonl", "cannot read"), ("x.parquet", "no column 'label'")):
        with pytest.raises(UserError, match=what):
            list(read_labelled(tmp_path / name))
