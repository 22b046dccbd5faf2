"""Two figures from 0 to 100 for every text, computed from its signals by formulas written out here.

A formula never changes once texts carry its figures; a better one gets a new name. Scores order texts of one
language and kind: they are no measure across languages, and no rule but `min_quality` looks at them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ScoreName = Literal["v1"]
SCORES: tuple[str, ...] = ("quality", "complexity")

Floats = NDArray[np.float64]


def scores(signals: Mapping[str, Floats], name: ScoreName = "v1") -> dict[str, Floats]:
    """`quality` and `complexity` of T texts, each (T,), 0 to 100, rounded to two digits; higher is better or harder."""
    assert name == "v1"
    values = {"quality": _quality_v1(signals), "complexity": _complexity_v1(signals)}
    assert tuple(values) == SCORES
    rounded: dict[str, Floats] = {}
    for score, value in values.items():
        rounded[score] = np.round(value.clip(0.0, 100.0), 2)
    return rounded


def _quality_v1(signals: Mapping[str, Floats]) -> Floats:
    """How much a text looks like connected writing that does not repeat itself.

    quality = 100 · merit · calm · (1 − repetition), where ramp(x, a, b) rises from 0 at a to 1 at b:

        merit      = .30 letters + .25 sentences + .25 vocabulary + .20 length
        letters    = ramp(alpha_word_share, .4, .9)                    Gopher's limit is .8
        sentences  = ramp(words a sentence, 2, 8) · (1 − ramp(words a sentence, 40, 200))
        vocabulary = ramp(C, .60, .90), C = ln(different words) / ln(words), Herdan's C, nearly free of length
        length     = ramp(ln words, ln 10, ln 1000)
        calm       = 1 − ramp(symbol_share + digit_share, .15, .50)
        repetition = 1 − (1 − lines)(1 − grams)(1 − pair)(1 − squeeze)
        lines      = ramp(duplicate_line_share, .05, .80)              Gopher's limit is .20
        grams      = ramp(duplicate_5_gram_share, .10, .90)            Gopher's limit is .15; templates show here
        pair       = ramp(top_2_gram_share, .10, .40)                  Gopher's limit is .20
        squeeze    = 1 − ramp(compression_ratio, .02, .15)             prose lies between .3 and .6

    Repetition and soup multiply: a long, well-punctuated text that says one thing a hundred times scores near 0.
    """
    sentence = signals["mean_sentence_words"]
    merit = (
        0.30 * ramp(signals["alpha_word_share"], 0.4, 0.9)
        + 0.25 * ramp(sentence, 2, 8) * (1 - ramp(sentence, 40, 200))
        + 0.25 * ramp(_herdan(signals), 0.60, 0.90)
        + 0.20 * ramp(np.log(np.maximum(signals["n_words"], 1)), np.log(10), np.log(1000))
    )
    calm = 1 - ramp(signals["symbol_share"] + signals["digit_share"], 0.15, 0.50)
    varied = (
        (1 - ramp(signals["duplicate_line_share"], 0.05, 0.80))
        * (1 - ramp(signals["duplicate_5_gram_share"], 0.10, 0.90))
        * (1 - ramp(signals["top_2_gram_share"], 0.10, 0.40))
        * ramp(signals["compression_ratio"], 0.02, 0.15)
    )
    return 100 * merit * calm * varied


def _complexity_v1(signals: Mapping[str, Floats]) -> Floats:
    """How hard a text is to read: long words, long sentences, a vocabulary that keeps bringing new words.

    complexity = 100 · letters · (.35 words + .35 sentences + .30 vocabulary), the middle two as in readability
    formulas (Flesch 1948, LIX by Björnsson 1968):

        letters    = ramp(alpha_word_share, .4, .7)                    what is no language is not hard to read
        words      = ramp(mean_word_length, 3, 8)
        sentences  = ramp(ln words a sentence, ln 4, ln 40)
        vocabulary = ramp(C, .60, .95), C as in quality
    """
    hard = (
        0.35 * ramp(signals["mean_word_length"], 3, 8)
        + 0.35 * ramp(np.log(np.maximum(signals["mean_sentence_words"], 1)), np.log(4), np.log(40))
        + 0.30 * ramp(_herdan(signals), 0.60, 0.95)
    )
    return 100 * ramp(signals["alpha_word_share"], 0.4, 0.7) * hard


def ramp(values: Floats, low: float, high: float) -> Floats:
    """0 up to `low`, 1 from `high` on, straight between."""
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def _herdan(signals: Mapping[str, Floats]) -> Floats:
    """ln(different words) / ln(words); 0 where there are fewer than two words."""
    words = np.maximum(signals["n_words"], 1)
    unique = np.maximum(words * signals["unique_word_ratio"], 1)
    return np.where(words > 1, np.log(unique) / np.log(np.maximum(words, 2)), 0.0)
