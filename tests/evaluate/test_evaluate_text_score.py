"""The Amharic text score: the original's own figures to the digit, and what is mended."""

from __future__ import annotations

import math

import pytest

from lmcore.evaluate.probes.amharic import PARTS, WEIGHTS, mean_scores, text_score

# By AmharicTextEvaluator of Yosef-Ali/amharic-llm-finetuning at f25f4f7043f4: overall_quality of each text.
ORIGINAL = {
    "ሰላም ነው። ኢትዮጵያ ውብ ሀገር ናት። እና ሰው": 0.5539697683577202,
    "ሰላም": 0.7,
    "አማርኛ፡ቋንቋ፡ነው።": 0.4,
    "a b c. ሰላም!": 0.5,
    "። ።": 0.3,
    "12 34": 0.4,
    "": 0.0,
}


@pytest.mark.parametrize("text", ORIGINAL)
def test_the_original_to_the_digit(text):
    assert text_score(text, "amharic_original")["score"] == pytest.approx(ORIGINAL[text], abs=1e-12)


def test_a_proper_ending_counts_now():
    text = "ኢትዮጵያ ውብ ሀገር ናት። ሰላም ነው።"
    assert text_score(text, "amharic_original")["endings"] == 0
    assert text_score(text, "amharic")["endings"] == 1
    assert text_score(f"{text} እና", "amharic")["endings"] == pytest.approx(2 / 3)
    assert text_score("ሰላም፣ ነው፤", "amharic")["endings"] == 0, "commas"
    assert text_score("ሰላም፡ነው", "amharic")["endings"] == 0, "a word space"
    assert text_score("ሰላም ነው፧", "amharic")["endings"] == 1, "the old question mark"


def test_the_word_space_divides_words():
    assert text_score("ሰላም፡ነው።", "amharic") == text_score("ሰላም ነው።", "amharic")


def test_common_words_are_seen_before_a_full_stop():
    assert text_score("ሰላም ነው።", "amharic")["common"] == 1
    assert text_score("ሰላም ነው።", "amharic_original")["common"] == 0.5


def test_the_parts_make_the_score_and_it_is_at_most_1():
    text = "ነው። " + "ሰላም ሀገር ታሪክ ባህል " * 20 + "። እና ሰው።"
    found = text_score(text, "amharic")
    assert found["score"] == pytest.approx(sum(WEIGHTS[part] * found[part] for part in PARTS))
    assert math.isclose(sum(WEIGHTS.values()), 1)
    assert all(0 <= found[part] <= 1 for part in PARTS)
    lengths = "ነው። " * 30 + "ሰላም ሀገር ታሪክ ባህል ሰው ሴቶች " * 30 + "።"
    assert text_score(lengths, "amharic_original")["fluency"] > 1
    assert text_score(lengths, "amharic")["fluency"] <= 1


def test_what_holds_no_sentence_is_worth_nothing():
    for text in ("", " \n", "። ። ?"):
        assert set(text_score(text, "amharic").values()) == {0.0}


def test_repeats_cost():
    assert text_score("ሰላም ነው። ሀገር ናት።", "amharic")["fluency"] > text_score("ሰላም ሰላም። ሰላም ሰላም።", "amharic")["fluency"]


def test_the_mean_is_over_texts():
    one, two = "ሰላም ነው።", "hello"
    found = mean_scores([one, two], "amharic")
    assert found["score"] == pytest.approx(
        (text_score(one, "amharic")["score"] + text_score(two, "amharic")["score"]) / 2
    )
    assert found["ratio"] == 0.5
