"""Quality v1, the first formula: one for every kind of text."""

from __future__ import annotations

import numpy as np

from lmcore.curate.formulas import Columns, Floats, herdan, log_words, ramp

NEEDS = (
    "alpha_word_share",
    "mean_sentence_words",
    "n_words",
    "unique_word_ratio",
    "symbol_share",
    "digit_share",
    "duplicate_line_share",
    "duplicate_5_gram_share",
    "top_2_gram_share",
    "compression_ratio",
)


def quality(signals: Columns) -> Floats:
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
        + 0.25 * ramp(herdan(signals), 0.60, 0.90)
        + 0.20 * ramp(log_words(signals), float(np.log(10)), float(np.log(1000)))
    )
    calm = 1 - ramp(signals["symbol_share"] + signals["digit_share"], 0.15, 0.50)
    varied = (
        (1 - ramp(signals["duplicate_line_share"], 0.05, 0.80))
        * (1 - ramp(signals["duplicate_5_gram_share"], 0.10, 0.90))
        * (1 - ramp(signals["top_2_gram_share"], 0.10, 0.40))
        * ramp(signals["compression_ratio"], 0.02, 0.15)
    )
    return 100 * merit * calm * varied
