"""Scores stay within 0 to 100 and put real prose before templates, spam and soup."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.curate.normalise import normalise
from lmcore.curate.score import SCORES, scores
from lmcore.curate.signals import SIGNALS, signals

PROSE = """
It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a
wife. However little known the feelings or views of such a man may be on his first entering a neighbourhood, this
truth is so well fixed in the minds of the surrounding families, that he is considered the rightful property of some
one or other of their daughters.

"My dear Mr. Bennet," said his lady to him one day, "have you heard that Netherfield Park is let at last?" Mr.
Bennet replied that he had not. "But it is," returned she; "for Mrs. Long has just been here, and she told me all
about it." Mr. Bennet made no answer. "Do you not want to know who has taken it?" cried his wife impatiently. "You
want to tell me, and I have no objection to hearing it." This was invitation enough.
"""
NURSERY = (
    "The cat sat on the mat. The dog ran to the cat. The cat ran up. Up, up, up it ran. The dog sat by the tree. " * 2
)
LAW = """Everyone has the right to recognition everywhere as a person before the law, without discrimination of any kind
irrespective of jurisdictional, territorial or administrative classification, and notwithstanding constitutional
provisions concerning extraordinary circumstances, proportionate restrictions demonstrably necessitated by legitimate
considerations of international security shall nevertheless remain permissible under supervisory authorisation."""
SPAM = "Buy cheap watches now! Best price guaranteed, click here.\n" * 40
WORDS = "apple river stone cloud house tree bird sun moon sea hill road door lamp book fish wolf star"
TEMPLATE = "\n".join(
    f"What is {word}? {word} is a word that many people use every day in the language." for word in WORDS.split()
)
SOUP = "{}[]() $$$ ### == -> :: 0x00 &&& *** %%% ;;; // \\\\ " + " ".join(f"{i:x}#%{i * 7919}" for i in range(150))
RIGHTS = {
    "hu": "Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Az emberek, ésszel és "
    "lelkiismerettel bírván, egymással szemben testvéri szellemben kell hogy viseltessenek.",
    "am": "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው። የተፈጥሮ ማስተዋልና ሕሊና ስላለው አንዱ ሌላውን በወንድማማችነት መንፈስ መመልከት ይገባዋል።",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"
    "人間は、理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。",
}


def both(*texts):
    measured = scores(signals([normalise(text) for text in texts], ["en"] * len(texts), ["prose"] * len(texts)))
    return measured["quality"].tolist(), measured["complexity"].tolist()


def test_prose_before_template_before_spam_and_soup():
    prose, template, spam, soup = both(PROSE, TEMPLATE, SPAM, SOUP)[0]
    assert prose > 85
    assert 30 > template > spam
    assert spam < 2
    assert soup < 2


def test_repeating_a_text_lowers_its_quality():
    once, twice, often = both(PROSE, PROSE + "\n\n" + PROSE, "\n\n".join([PROSE] * 12))[0]
    assert once > twice + 20 > often + 20


def test_documentation_scores_between_soup_and_prose(docstrings):
    quality = both(*docstrings)[0]
    assert 55 < np.median(quality) < both(PROSE)[0][0]


@pytest.mark.parametrize("lang", RIGHTS)
def test_other_scripts_are_writing_too(lang):
    assert both(RIGHTS[lang])[0][0] > 60


def test_law_is_harder_than_a_nursery_tale():
    nursery, prose, law = both(NURSERY, PROSE, LAW)[1]
    assert nursery + 10 < prose < law - 10


def test_soup_is_not_hard_to_read():
    assert both(SOUP)[1][0] < 10


def test_empty_text_scores_nothing():
    assert both("") == ([0.0], [0.0])


shares = st.floats(0, 1)
counts = st.floats(0, 1e9)
SHAPES = {name: counts if name.startswith(("n_", "mean_")) else shares for name in SIGNALS} | {
    "compression_ratio": st.floats(0, 20)
}


@given(st.fixed_dictionaries(SHAPES))
def test_any_signals_give_0_to_100(values):
    for score, value in scores({name: np.array([v]) for name, v in values.items()}).items():
        assert score in SCORES
        assert 0 <= value[0] <= 100
        assert not math.isnan(value[0])


@settings(deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=5))
def test_any_text_gives_0_to_100(texts):
    for values in both(*texts):
        assert all(0 <= value <= 100 for value in values)


@given(st.fixed_dictionaries(SHAPES), shares)
def test_more_repetition_is_never_better(values, more):
    for name in ("duplicate_line_share", "duplicate_5_gram_share", "top_2_gram_share"):
        worse = values | {name: max(values[name], more)}
        first, second = (scores({n: np.array([v]) for n, v in row.items()})["quality"][0] for row in (values, worse))
        assert second <= first
