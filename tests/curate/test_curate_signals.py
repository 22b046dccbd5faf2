"""The signals against a slow second opinion written one text and one word at a time."""

import itertools
import unicodedata
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.curate.normalise import normalise
from lmcore.curate.signals import SIGNALS
from lmcore.curate.signals import signals as measure_signals
from lmcore.curate.words import _classes

CJK = [(0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x323AF)]
ENDS = ".!?…。！？｡．።፧፨؟۔।॥\"'”’»«“‘」』"


def signals(texts):
    return measure_signals(texts, ["en"] * len(texts), ["prose"] * len(texts))


words = st.sampled_from(
    ["the", "The", "cat", "sat.", "x1", "42", "--", "日本語", "は。", "ሰላም፡ለሁሉ", "é", "İ", "a", "हिन्दी", "«no»", "!"]
)
lines = st.lists(words, max_size=8).map(" ".join)
texts = st.lists(st.one_of(lines, st.just("  the cat sat."), st.just("")), max_size=12).map("\n".join).map(normalise)


def split_words(line):
    found, current = [], ""
    for character in line:
        alone = character.isalpha() and any(low <= ord(character) <= high for low, high in CJK)
        if alone or character.isspace() or character == "፡":
            if current:
                found.append(current)
            current = ""
            if alone:
                found.append(character)
        else:
            current += character
    return [*found, current] if current else found


def is_letter(character):
    return character.isalpha() or unicodedata.category(character) in ("Mn", "Mc")


def slow(text):
    low = text.lower()
    rows = [line.strip(" \t\u3000፡") for line in low.split("\n")]
    rows = [line for line in rows if line]
    found = [word for line in low.split("\n") for word in split_words(line)]
    solid = "".join(found)
    total, count = max(1, len(solid)), max(1, len(found))
    seen, repeated = set(), 0
    for line in rows:
        repeated += len(line) if line in seen else 0
        seen.add(line)
    pairs = Counter(itertools.pairwise(found))
    top = max((len(a + b) * n for (a, b), n in pairs.items() if n > 1), default=0)
    covered, grams = set(), set()
    for i in range(len(found) - 4):
        gram = tuple(found[i : i + 5])
        if gram in grams:
            covered.update(range(i, i + 5))
        grams.add(gram)
    return {
        "n_chars": len(text),
        "n_words": len(found),
        "n_lines": len(rows),
        "mean_word_length": len(solid) / count,
        "alpha_word_share": sum(any(map(is_letter, word)) for word in found) / count,
        "unique_word_ratio": len(set(found)) / count,
        "duplicate_line_share": repeated / max(1, sum(map(len, rows))),
        "short_line_share": sum(len(line) <= 30 for line in rows) / max(1, len(rows)),
        "punctuation_line_share": sum(line[-1] in ENDS for line in rows) / max(1, len(rows)),
        "symbol_share": sum(not is_letter(c) and not c.isnumeric() for c in solid) / total,
        "digit_share": sum(c.isnumeric() and not c.isalpha() for c in solid) / total,
        "compression_ratio": len(zlib.compress(text.encode(), 6)) / len(text.encode()) if text else 0,
        "top_2_gram_share": min(1, top / total),
        "duplicate_5_gram_share": sum(len(found[i]) for i in covered) / total,
    }


@settings(deadline=None)
@given(st.lists(texts, max_size=6))
def test_equal_to_the_slow_way(batch):
    fast = signals(batch)
    assert list(fast) == list(SIGNALS)
    for number, text in enumerate(batch):
        for name, value in slow(text).items():
            assert fast[name][number] == pytest.approx(value, abs=1e-6), (name, text)


@settings(deadline=None)
@given(st.lists(texts | st.text().map(normalise), min_size=1, max_size=8))
def test_neighbours_in_a_batch_do_not_matter(batch):
    together = signals(batch)
    for number, text in enumerate(batch):
        alone = signals([text])
        assert {name: float(together[name][number]) for name in SIGNALS} == {n: float(alone[n][0]) for n in SIGNALS}


def test_real_texts_equal_to_the_slow_way(docstrings):
    chosen = [normalise(text) for text in docstrings[::5]]
    fast = signals(chosen)
    for number, text in enumerate(chosen):
        for name, value in slow(text).items():
            assert fast[name][number] == pytest.approx(value, abs=1e-6), (name, text)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", 3),
        ("Wait... what?", 2),
        ("Call json.dumps now.", 1),
        ('He said "stop." She ran.', 2),
        ("A heading\n\nA sentence over\ntwo lines.", 2),
        ("no stop at all", 1),
        ("これは本です。それは犬です。", 2),
        ("ሰላም፡ለሁሉ።እንዴት ነህ፧", 2),
        ("(See above.)\n\nNext.", 2),
    ],
)
def test_sentences(text, sentences):
    measured = signals([text])
    assert measured["n_words"][0] / measured["mean_sentence_words"][0] == pytest.approx(sentences)


def test_empty_texts_and_no_texts():
    measured = signals(["", "one word", ""])
    assert {float(measured[name][0]) for name in SIGNALS} == {0.0}
    assert measured["n_words"].tolist() == [0, 2, 0]
    assert {len(column) for column in signals([]).values()} == {0}


def test_classes_cover_every_code_point():
    assert _classes().shape == (0x110000,)
    assert np.count_nonzero(_classes()[0xD800:0xE000]) == 0
    assert signals(["\U0010ffff \U000e0100 \ue000"])["n_words"][0] == 3


def test_one_large_text():
    text = "\n".join(f"line {i} of a long text about number {i * i}." for i in range(60_000))
    measured = signals([text])
    assert measured["n_lines"][0] == 60_000
    assert measured["duplicate_line_share"][0] == 0
