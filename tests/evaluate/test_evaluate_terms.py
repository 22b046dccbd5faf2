"""Terminology recall: which occurrences there are, which tokens are theirs, and which words are a domain's own."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from model_checks import learn_by_heart

from lmcore.documents import CURATED, make_table
from lmcore.evaluate.params import EvaluateParams
from lmcore.evaluate.probes.mining import distinctive, mine
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


def test_the_words_of_a_domain_come_first():
    own = Counter({"mangaka": 30, "chapter": 40, "with": 300, "rare": 1})
    others = Counter({"with": 3000, "chapter": 60, "parliament": 50})
    assert distinctive(own, others, 10, 5)[:2] == ["mangaka", "chapter"]
    assert "rare" not in distinctive(own, others, 10, 2)
    assert "parliament" not in distinctive(own, others, 10, 0)
    assert distinctive(own, others, 1, 5) == ["mangaka"]
    assert "chapter" not in distinctive(own, others | Counter({"chapter": 120}), 10, 5), "not four times as frequent"


def test_mining_reads_the_training_split(tmp_path, make_row):
    rows = [make_row(f"the mangaka drew chapter {n}", "manga", "prose", "en") for n in range(9)]
    rows += [make_row(f"the parliament read chapter {n}", "news", "prose", "en") for n in range(9)]
    write_parquet(tmp_path / "00000.parquet", make_table(sorted(rows, key=lambda row: row["record_id"]), CURATED))
    assert mine([tmp_path / "00000.parquet"], ["manga"], 5, 5) == ["drew", "mangaka"]
    assert mine([tmp_path / "00000.parquet"], ["news"], 5, 5) == ["parliament", "read"]


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ({}, "has no terms"),
        ({"mined": 5}, "needs sources of the domain"),
        ({"mined": 5, "domain": ("a", "b")}, "needs sources of the domain"),
    ],
)
def test_what_cannot_be_mined_is_refused(terms, told):
    with pytest.raises(UserError, match=told):
        check_probes(EvaluateParams(terms=Terms(**terms)), ["a", "b"], 64)


def test_what_can_be_asked_for():
    check_probes(EvaluateParams(terms=Terms(mined=5, domain=("a",))), ["a", "b"], 64)
    check_probes(EvaluateParams(terms=Terms(words=("x",))), ["a"], 64)
