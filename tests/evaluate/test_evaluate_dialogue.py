"""Dialogue: each figure by hand, and the model beside the corpus."""

from __future__ import annotations

import pytest

from lmcore.evaluate.probes.dialogue import FIGURES, compare_dialogue, dialogue_figures, quotes
from lmcore.evaluate.probes.settings import Dialogue
from lmcore.generate.engine import generate
from lmcore.generate.many import generate_many
from lmcore.generate.sampling import Sampling
from lmcore.progress import silent


@pytest.mark.parametrize(
    ("paragraph", "opened", "closed"),
    [
        ('"Come!" he said. "Now."', 2, 2),
        ('"Come!" he said. "Now.', 2, 1),
        ("“Come!” he said, “and ‘now’.", 2, 1),
        ("„Gyere!” – mondta. „Most“", 2, 2),
        ("「来い」と言った。『今", 2, 1),
        ("«Viens»", 1, 1),
        ("”closed only", 0, 0),
        ("it's the hero's", 0, 0),
        ("「彼は『今』と言った」", 2, 2),
        ("「彼は『今と言った」", 2, 1),
    ],
)
def test_quotation_marks(paragraph, opened, closed):
    assert quotes(paragraph) == (opened, closed)


def test_a_paragraph_ends_a_quotation():
    assert dialogue_figures(['"One.\n\n"Two."'])["closed_quotes"] == 0.5


def test_speakers():
    assert dialogue_figures(["Anna: Hi.\nBela: Hello.\nBela: Come.\nAnna: Yes."])["alternation"] == pytest.approx(2 / 3)
    assert dialogue_figures(["<user>Hi</user><assistant>Hello</assistant><user>So</user>"])["alternation"] == 1
    assert dialogue_figures(["Anna: Hi.", "Bela: Hello."])["alternation"] is None, "two texts"
    assert dialogue_figures(["at 10:30 we went\nhttp://a.org"])["alternation"] is None


def test_words():
    found = dialogue_figures(["the hero and the hero and the hero"])
    assert found["distinct_2"] == pytest.approx(3 / 7)
    assert found["repeated_3"] == pytest.approx(3 / 6)
    apart = dialogue_figures(["the hero and", "the hero and"])
    assert apart["distinct_2"] == 0.5, "pairs over all texts"
    assert apart["repeated_3"] == 0, "triples within a text"
    assert dialogue_figures(["The hero. THE hero!"])["distinct_2"] == pytest.approx(2 / 3), "without regard to case"
    assert dialogue_figures(["主人公主人公"])["distinct_2"] == pytest.approx(3 / 5)
    assert dialogue_figures([""]) == dict.fromkeys(FIGURES)


def test_the_model_writes_as_much_as_the_corpus_has(model, tokenizer):
    texts = ["the hero went home again, and sang", "a", "home again, the hero sang and went"]
    asked = Dialogue(prompt_tokens=3, tokens=6, texts=5)
    how = Sampling(seed=4, top_p=0.9, stop=("hero",))
    found = compare_dialogue(model, tokenizer, texts, asked, how, silent)
    assert found["texts"] == 2, "one is too short"
    assert found["sampling"] == {"temperature": 0.8, "top_p": 0.9, "seed": 4}
    ids = [tokenizer.encode(text) for text in (texts[0], texts[2])]
    written = [
        generate(model, tokenizer, [tokenizer.bos_id, *one[:3]], Sampling(seed=4 + n, top_p=0.9, max_tokens=6))
        for n, one in enumerate(ids)
    ]
    assert [len(one.ids) for one in written] == [6, 6]
    assert found["tokens"] == 12
    assert found["corpus"] == dialogue_figures(tokenizer.decode(one[3:9]) for one in ids)
    assert found["model"] == dialogue_figures(one.text for one in written)
    few = compare_dialogue(model, tokenizer, texts, Dialogue(prompt_tokens=3, tokens=6, texts=1), how, silent)
    assert few["texts"] == 1
    none = compare_dialogue(model, tokenizer, texts, Dialogue(tokens=500), how, silent)
    assert (none["texts"], none["model"]) == (0, dict.fromkeys(FIGURES))


def test_where_the_model_ends_early_the_text_is_cut_there(model, tokenizer):
    texts = ["the hero and the hero and the hero and the hero went home", "the hero went home again, and sang and went"]
    ids = [tokenizer.encode(text) for text in texts]
    asked = Dialogue(prompt_tokens=3, tokens=10, texts=2)
    prompts = [[tokenizer.bos_id, *one[:3]] for one in ids]
    tried = (
        (seed, generate_many(model, tokenizer, prompts, [Sampling(seed=seed + n, max_tokens=10) for n in range(2)]))
        for seed in range(2000)
    )
    seed, written = next(
        (seed, found) for seed, found in tried if [one.finish_reason for one in found] == ["end", "length"]
    )
    lengths = [len(one.ids) for one in written]
    assert lengths[0] < lengths[1] == 10
    found = compare_dialogue(model, tokenizer, texts, asked, Sampling(seed=seed), silent)
    assert found["tokens"] == sum(lengths)
    own = [tokenizer.decode(one[3 : 3 + length]) for one, length in zip(ids, lengths, strict=True)]
    assert found["corpus"] == dialogue_figures(own)
    assert found["corpus"] != dialogue_figures(tokenizer.decode(one[3:13]) for one in ids)
    assert found["model"] == dialogue_figures(one.text for one in written)
