"""Terminology recall: which occurrences there are, which tokens are theirs, and which words are a domain's own."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from model_checks import learn_by_heart

from lmcore.documents import CURATED, make_table
from lmcore.evaluate.params import EvaluateParams
from lmcore.evaluate.probes.mining import Counts, mine, terms_among
from lmcore.evaluate.probes.settings import Terms, check_probes
from lmcore.evaluate.probes.terms import find_terms, recall_terms
from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.tokenizer.words import Words
from storage.errors import UserError
from storage.parquet import write_parquet


def found_in(text, *terms):
    return [text[start:stop] for start, stop in find_terms(terms, text)]


def test_terms_are_whole_words_without_regard_to_case():
    assert found_in("Manga and mangaka; MANGA.", "manga") == ["Manga", "MANGA"]
    assert found_in("light novel, light novels", "light novel") == ["light novel"]
    assert found_in("a light novel", "light", "light novel") == ["light novel"], "the longer one"
    assert found_in("C++ and C", "C++") == ["C++"]
    assert found_in("ሰላም ነው።", "ነው") == ["ነው"]
    assert found_in("今日は主人公です", "主人公") == ["主人公"], "no blanks between words"
    assert found_in("anything") == []


def test_an_occurrence_is_recalled_when_all_its_tokens_are_the_first_choice(model, tokenizer):
    texts = ["the hero went home again, and sang", "the the hero", "nothing of it"]
    found = recall_terms(model, tokenizer, texts, ["hero", "the", "again", "absent"])
    expected = {"hero": [], "the": [], "again": []}
    for text in texts:
        ids = tokenizer.encode(text)
        assert len(ids) <= 16, "one window"
        with torch.inference_mode():
            best = model(torch.tensor([[tokenizer.bos_id, *ids[:-1]]]))[0].argmax(-1)
        hits = (best.numpy() == np.array(ids)).tolist()
        offsets = tokenizer.encode_batch([text])[0].offsets
        for term in expected:
            for start, stop in find_terms([term], text):
                expected[term].append(
                    all(hit for hit, (a, b) in zip(hits, offsets, strict=True) if a < stop and b > start)
                )
    every = [recalled for of_term in expected.values() for recalled in of_term]
    assert found["occurrences"] == len(every) == 6
    assert found["terms_found"] == 3
    assert found["recall"] == sum(every) / 6
    assert found["term_recall"] == pytest.approx(np.mean([np.mean(of_term) for of_term in expected.values()]))
    assert [(row["term"], row["occurrences"]) for row in found["frequent"]] == [("the", 3), ("hero", 2), ("again", 1)]


def test_a_model_that_knows_the_text_recalls_all(tokenizer):
    """A stand-in for a perfect model is one trained to say one sentence."""
    text = "the hero went home again, and sang"
    model = build(DecoderConfig(n_layers=1, d_model=32, n_heads=2, context=16), tokenizer.vocab_size, 0)
    learn_by_heart(model, tokenizer, [text])
    assert recall_terms(model, tokenizer, [text], ["hero", "went home", "sang"])["recall"] == 1
    assert recall_terms(model, tokenizer, [text[::-1]], ["oreh"])["recall"] == 0


def test_long_texts_are_read_in_windows(model, tokenizer):
    text = "the hero went home again, and sang " * 20
    found = recall_terms(model, tokenizer, [text], ["hero"])
    assert found["occurrences"] == 20


def test_without_terms_there_is_nothing(model, tokenizer):
    for terms in ([], ["absent"]):
        found = recall_terms(model, tokenizer, ["the hero"], terms)
        assert (found["occurrences"], found["recall"], found["term_recall"]) == (0, None, None)


def test_an_unknown_word_is_never_right():
    settings = {"vocab_size": 16, "order": "frequency", "min_frequency": 1, "max_token_length": 16}
    words = Words.train(["a hero went home"] * 3, **settings)
    model = build(DecoderConfig(n_layers=1, d_model=16, n_heads=2, context=16), words.vocab_size, 0)
    ids = words.encode("a manga")
    assert ids[-1] == words.unk_id
    learn_by_heart(model, words, ["a manga"])
    read = torch.tensor([[words.bos_id, *ids[:-1]]])
    assert model(read)[0].argmax(-1).tolist() == ids, "it expects the sign for unknown words"
    assert recall_terms(model, words, ["a manga"], ["manga"])["recall"] == 0


def counted(words, spread, texts):
    return Counts(texts, Counter(words), Counter(spread))


def test_terms_are_rare_in_general_text_and_dense_in_the_texts_about_them():
    """By value: of 100 texts with 1,000 words, and 1,000 words of general text."""
    own = counted(
        {"mangaka": 30, "isekai": 20, "haha": 60, "chapter": 40, "once": 50, "rare": 4, "other": 796},
        {"mangaka": 5, "isekai": 4, "haha": 45, "chapter": 10, "once": 2, "rare": 3, "other": 100},
        100,
    )
    general = counted({"chapter": 5, "mangaka": 1, "plain": 994}, {"chapter": 5, "mangaka": 1, "plain": 50}, 50)
    asked = Terms(mined=10, domain=("a",), general=("b",), ratio=8.0)
    assert terms_among(own, general, asked) == ["mangaka", "isekai"]
    # haha: by chance in 45.1 texts of 100; once: in two texts only; rare: 4 times only
    assert own.residual("haha") == pytest.approx(0.004, abs=1e-3)
    assert own.residual("mangaka") == pytest.approx(math.log2(100 * (1 - math.exp(-0.3)) / 5))
    assert terms_among(own, general, asked.model_copy(update={"ratio": 6.0})) == ["chapter", "mangaka", "isekai"]
    assert terms_among(own, general, asked.model_copy(update={"ratio": 16.0})) == ["isekai"], "1 + 1 in 1,001 there"
    assert terms_among(own, general, asked.model_copy(update={"mined": 1})) == ["mangaka"]
    assert terms_among(own, general, asked, ["mangaka"]) == ["isekai"]
    few = own.words | {"rare": 9}
    assert "rare" in terms_among(Counts(100, few, own.spread), general, asked)
    assert terms_among(own, counted({}, {}, 0), asked) == [], "without general text nothing is known to be rarer there"


def test_kanji_and_katakana_are_words_by_their_own_share():
    """A run of Latin words in general text says nothing of how rare a Japanese term is."""
    own, general = Counts(), Counts()
    for number in range(20):
        own.read(f"転生したら{'必殺技とマンガ' * 3 if number < 4 else 'ねこ'} 今日は")
    for _ in range(40):
        general.read("今日は雨です。明日は雪です。多分")
    asked = Terms(mined=9, domain=("a",), general=("b",), ratio=8.0)
    assert own.words["必殺技"] == own.words["マンガ"] == 12
    assert terms_among(own, general, asked) == ["マンガ", "必殺技"], "転生 is in all texts, 今日 in both sides"
    general.read("plain words " * 5_000)
    assert terms_among(own, general, asked) == ["マンガ", "必殺技"]


def test_mining_reads_what_is_said_in_the_training_split(tmp_path, make_row):
    def row(text, source, turns=None):
        return make_row(text, source, "prose", "en") | {"turns": turns}

    rows = [row(f"the mangaka drew, the mangaka slept, no mangaka {n}", "manga") for n in range(4)]
    rows += [row(f"nothing happened {n}", "manga") for n in range(16)]
    said = "calculus here, calculus there, and calculus"
    turns = [{"role": "student", "text": said}]
    rows += [row(f"Student: {said}\nTutor: {n}", "manga", turns) for n in range(4)]
    rows += [row(f"the parliament read its chapter with care {n}", "news") for n in range(20)]
    rows += [row(f"mangaka mangaka {n}", "unnamed") for n in range(20)]
    write_parquet(tmp_path / "00000.parquet", make_table(sorted(rows, key=lambda row: row["record_id"]), CURATED))
    asked = Terms(mined=5, domain=("manga",), general=("news",), ratio=4.0, min_count=5)
    assert mine([tmp_path / "00000.parquet"], asked) == ["calculus", "mangaka"], "no labels"
    assert "parliament" not in mine([tmp_path / "00000.parquet"], asked)


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ({}, "has no terms"),
        ({"mined": 5}, "needs sources of the domain"),
        ({"mined": 5, "domain": ("a",)}, "needs sources of the domain and of general text"),
        ({"mined": 5, "domain": ("a", "b"), "general": ("b",)}, "names 'b' as domain and as general"),
    ],
)
def test_what_cannot_be_mined_is_refused(terms, told):
    with pytest.raises(UserError, match=told):
        check_probes(EvaluateParams(terms=Terms(**terms)), ["a", "b"], 64)


def test_another_way_of_mining_is_another_key():
    """Words mined against all other sources, as before, were other words."""
    before = Terms(mined=5, domain=("a",)).key_values()
    assert before == {"words": [], "mined": 5, "domain": ["a"], "min_count": 5}
    assert Terms(mined=5, domain=("a",), general=("b",)).key_values() != before


def test_what_can_be_asked_for():
    check_probes(EvaluateParams(terms=Terms(mined=5, domain=("a",), general=("b",))), ["a", "b"], 64)
    check_probes(EvaluateParams(terms=Terms(words=("x",))), ["a"], 64)
