"""How hard a text is, 0 to 100, by name; the Amharic original's formula stands in `score_amharic`."""

from __future__ import annotations

import numpy as np

from lmcore.curate.formulas import Columns, Floats, herdan, ramp

V1_NEEDS = ("alpha_word_share", "mean_word_length", "mean_sentence_words", "n_words", "unique_word_ratio")
V2_NEEDS = ("n_chars", "compression_ratio", "symbol_share", "digit_share")


def v1(signals: Columns) -> Floats:
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
        + 0.35 * ramp(np.log(np.maximum(signals["mean_sentence_words"], 1)), float(np.log(4)), float(np.log(40)))
        + 0.30 * ramp(herdan(signals), 0.60, 0.95)
    )
    return 100 * ramp(signals["alpha_word_share"], 0.4, 0.7) * hard


def v2(signals: Columns) -> Floats:
    """How hard a text is to learn: what a language model's loss on it goes with.

    complexity = 100 · (.40 density + .40 symbols + .20 digits), where ramp(x, a, b) rises from 0 at a to 1 at b:

        density = ramp(compression_ratio − 5 / sqrt(n_chars), −.1, .6)
        symbols = ramp(symbol_share, 0, .4)
        digits  = ramp(digit_share, 0, .2)

    A short text compresses less than a long one of the same language; 5 / sqrt(n_chars) takes most of that away, so
    that length alone does not make a text easy. Weights were chosen so that the order agrees with the loss of a
    character 5-gram model on real text (benchmarks/curate_models.py): well across texts of many sorts, less within long
    pages of one sort, not where scripts are mixed, as in Japanese pages with much English. Hard is not good: soup of
    symbols is hard to learn too, and to keep it out is the work of rules and quality. An empty text has 0.
    """
    parts = v2_parts(signals)
    hard = 0.40 * parts["density"] + 0.40 * parts["symbols"] + 0.20 * parts["digits"]
    return np.where(signals["n_chars"] > 0, 100 * hard, 0.0)


def v2_parts(signals: Columns) -> dict[str, Floats]:
    """What v2 adds up, each from 0 to 1."""
    density = signals["compression_ratio"] - 5 / np.sqrt(np.maximum(signals["n_chars"], 1))
    return {
        "density": ramp(density, -0.1, 0.6),
        "symbols": ramp(signals["symbol_share"], 0, 0.4),
        "digits": ramp(signals["digit_share"], 0, 0.2),
    }
