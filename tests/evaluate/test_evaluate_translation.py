"""chrF of translations: which pairs, asked how, and the figure itself against published examples."""

from __future__ import annotations

import pytest

from lmcore.conversation import pieces, translation_task
from lmcore.evaluate.probes.settings import Translation
from lmcore.evaluate.probes.translation import asked_in_form, chrf, pairs_in, translate
from lmcore.generate.load import LanguageModel
from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.progress import silent
from lmcore.tokenizer.plain_bytes import PlainBytes

TO_HU, TO_EN = translation_task("en", "hu"), translation_task("hu", "en")


def pair(task, given, wanted, kind="pair", template="tags"):
    said = (("system", task), ("user", given), ("assistant", wanted))
    text = "".join(piece for _, piece in pieces(said, template)) if template else f"{given} = {wanted}"
    return {"kind": kind, "text": text, "turns": [{"role": role, "text": text} for role, text in said]}


ROWS = [
    pair(TO_HU, "wind", "szél"),
    pair(TO_EN, "szél", "wind"),
    pair(TO_HU, "home", "otthon"),
    pair(TO_HU, "hero", "hős"),
    pair(TO_HU, "cat", "macska", kind="chat"),
    {"kind": "pair", "text": "wind", "turns": None},
]


def test_pairs_of_each_direction():
    found = pairs_in(ROWS, 2)
    assert [(one.direction, one.source, one.reference) for one in found] == [
        (TO_HU, "wind", "szél"),
        (TO_HU, "home", "otthon"),
        (TO_EN, "szél", "wind"),
    ]
    assert found[0].messages == [{"role": "system", "content": TO_HU}, {"role": "user", "content": "wind"}]


def test_the_model_is_asked_by_chat_and_answers_greedily(tmp_path):
    tokenizer = PlainBytes()
    network = build(DecoderConfig(n_layers=1, d_model=16, n_heads=2, context=64), tokenizer.vocab_size, 0)
    model = LanguageModel(network, tokenizer, tmp_path, None, chat_tuned=True)
    pairs = pairs_in(ROWS, 5)
    found = translate(model, pairs, Translation(max_tokens=8), silent)
    assert found["form"] == "markers"
    assert {task: one["pairs"] for task, one in found["directions"].items()} == {TO_HU: 3, TO_EN: 1}
    answer = model.chat(pairs[0].messages, max_tokens=8, temperature=0.0)
    hu = found["directions"][TO_HU]
    assert hu["examples"][0] == {"source": "wind", "reference": "szél", "answer": answer}
    assert hu["chrf"] == chrf([one["answer"] for one in hu["examples"]], ["szél", "otthon", "hős"])
    assert hu["copied"] == chrf(["wind", "home", "hero"], ["szél", "otthon", "hős"])
    assert translate(model, [], Translation(), silent)["directions"] == {}


@pytest.mark.parametrize(
    ("templates", "tuned", "form"),
    [
        (("tags", "tags"), False, "tags"),
        (("script", "script"), False, "script"),
        (("script", "tags", "tags"), False, "tags"),
        (("tags", "tags"), True, "markers"),
        (("tags", None), False, "script"),  # as a model of noise is asked, that expects neither
        ((), False, "script"),
    ],
)
def test_models_are_asked_in_the_form_of_the_documents(tmp_path, templates, tuned, form):
    tokenizer = PlainBytes()
    network = build(DecoderConfig(n_layers=1, d_model=16, n_heads=2, context=64), tokenizer.vocab_size, 0)
    own = "script" if not tuned else "markers"
    model = LanguageModel(network, tokenizer, tmp_path, None, chat_tuned=tuned)
    assert model.form == own
    pairs = pairs_in([pair(TO_HU, "wind", "szél", template=one) for one in templates], 9)
    assert [one.template for one in pairs] == list(templates)
    asked = asked_in_form(model, pairs)
    assert asked.form == form
    found = translate(model, pairs, Translation(max_tokens=4), silent)
    assert found["form"] == (form if pairs else None)
    if pairs:
        answer = asked.chat(pairs[0].messages, max_tokens=4, temperature=0.0)
        assert found["directions"][TO_HU]["examples"][0]["answer"] == answer


def test_before_and_after_are_asked_alike(tmp_path):
    """Of two models, one of which expects tags and the other nothing, each is asked as the documents are written."""
    tokenizer = PlainBytes()
    network = build(DecoderConfig(n_layers=1, d_model=16, n_heads=2, context=64), tokenizer.vocab_size, 0)
    both = [LanguageModel(network, tokenizer, tmp_path, None, False, template=one) for one in ("tags", None)]
    assert [model.form for model in both] == ["tags", "script"]
    pairs = pairs_in(ROWS, 5)
    assert [translate(model, pairs, Translation(max_tokens=2), silent)["form"] for model in both] == ["tags", "tags"]


def test_chrf_by_hand():
    """chrF2 averages precision and recall over the orders that both have, then F with recall counted twice."""
    assert chrf(["szél"], ["szél"]) == 100
    assert chrf(["xyz"], ["abc"]) == 0
    precision = (2 / 3 + 1 / 2 + 0) / 3  # of "abd" against "abc": letters a b, pair ab, no triple
    assert chrf(["abd"], ["abc"]) == pytest.approx(100 * precision)
