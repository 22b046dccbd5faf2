"""Quality v2: a formula for each kind of text, of parts that add up and parts that multiply down.

    quality = 100 · (Σ weight · ramp(measure, low, high)) · Π (1 − ramp(measure, low, high))

The sum runs over the merits of the kind, whose weights make 1, the product over its faults; ramp(x, a, b) rises from 0
at a to 1 at b. Measures:

    letters     alpha_word_share
    sentences   words a sentence, and 1 − ramp(words a sentence, 60, 300) times its ramp
    vocabulary  C = ln(different words) / ln(words), Herdan's C, nearly free of length
    length      ln words (low and high are given in words)
    soup        symbol_share + digit_share
    symbols     symbol_share
    digits      digit_share
    lines       duplicate_line_share                       Gopher's limit is .20
    grams       duplicate_5_gram_share − .30 · short       Gopher's limit is .15
    pair        top_2_gram_share                           Gopher's limit is .20
    squeeze     1 − compression_ratio                      prose lies between .4 and .7
    long_lines  characters a line
    times       timestamp_line_share
    template    template_share
    boiler      boilerplate_share

where short = 1 − ramp(mean_word_length, 1.3, 2.5) is 1 where a character is a word (Chinese, Japanese), since five
characters recur far more often than five words. The last three count as 0 where they were not computed. Faults
multiply: nothing makes up for a text that is one template. A short text of a kind that is short by nature is not held
to the variety of a page, so its ramps begin later.

What v2 does otherwise than v1: repetition within a text counts earlier and templates and boilerplate count at all, and
each kind has ramps of its own, where v1 gave a good line of dialogue half the points of a page for its length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lmcore.curate.formulas import Columns, Floats, herdan, log_words, ramp
from lmcore.curate.labels import Coded
from lmcore.documents import KINDS

NEEDS = (
    "n_chars",
    "n_words",
    "n_lines",
    "alpha_word_share",
    "mean_word_length",
    "mean_sentence_words",
    "unique_word_ratio",
    "symbol_share",
    "digit_share",
    "duplicate_line_share",
    "duplicate_5_gram_share",
    "top_2_gram_share",
    "compression_ratio",
)
ALSO = ("template_share", "boilerplate_share", "timestamp_line_share")

Merits = dict[str, tuple[float, float, float]]  # measure: weight, low, high
Faults = dict[str, tuple[float, float]]  # measure: low, high

_PROSE: tuple[Merits, Faults] = (
    {
        "letters": (0.30, 0.4, 0.9),
        "sentences": (0.20, 2, 8),
        "vocabulary": (0.25, 0.60, 0.90),
        "length": (0.25, 10, 1000),
    },
    {
        "soup": (0.12, 0.42),
        "lines": (0.02, 0.60),
        "grams": (0.10, 0.80),
        "pair": (0.08, 0.35),
        "squeeze": (0.85, 0.98),
        "template": (0.05, 0.80),
        "boiler": (0.10, 0.90),
    },
)
_SPOKEN: tuple[Merits, Faults] = (
    {"letters": (0.40, 0.4, 0.9), "vocabulary": (0.30, 0.50, 0.90), "length": (0.30, 2, 100)},
    {
        "soup": (0.25, 0.60),
        "lines": (0.20, 0.80),
        "grams": (0.20, 0.80),
        "pair": (0.25, 0.60),
        "squeeze": (0.88, 0.98),
        "times": (0.02, 0.40),
        "template": (0.05, 0.80),
        "boiler": (0.10, 0.90),
    },
)
_TASK: tuple[Merits, Faults] = (
    {
        "letters": (0.30, 0.4, 0.9),
        "sentences": (0.20, 1, 6),
        "vocabulary": (0.25, 0.50, 0.85),
        "length": (0.25, 6, 200),
    },
    {
        "soup": (0.25, 0.60),
        "lines": (0.10, 0.70),
        "grams": (0.10, 0.80),
        "pair": (0.15, 0.45),
        "squeeze": (0.88, 0.98),
        "template": (0.05, 0.80),
        "boiler": (0.10, 0.90),
    },
)
_PAIR: tuple[Merits, Faults] = (
    {"letters": (0.50, 0.3, 0.9), "vocabulary": (0.20, 0.50, 0.85), "length": (0.30, 2, 40)},
    {
        "soup": (0.30, 0.70),
        "grams": (0.20, 0.80),
        "pair": (0.25, 0.60),
        "squeeze": (0.88, 0.98),
        "template": (0.05, 0.80),
        "boiler": (0.10, 0.90),
    },
)
_CODE: tuple[Merits, Faults] = (
    {"letters": (0.35, 0.3, 0.9), "vocabulary": (0.30, 0.40, 0.85), "length": (0.35, 10, 1000)},
    {
        "symbols": (0.30, 0.70),
        "digits": (0.05, 0.30),
        "lines": (0.10, 0.60),
        "grams": (0.10, 0.80),
        "pair": (0.10, 0.40),
        "squeeze": (0.88, 0.98),
        "long_lines": (120, 600),
        "template": (0.05, 0.80),
        "boiler": (0.10, 0.90),
    },
)
FORMULAS: Mapping[str, tuple[Merits, Faults]] = {
    "prose": _PROSE,
    "dialogue": _SPOKEN,
    "subtitle": _SPOKEN,
    "pair": _PAIR,
    "instruction": _TASK,
    "chat": _TASK,
    "qa": _TASK,
    "code": _CODE,
}
"""The numbers of the formula above for every kind."""
assert set(FORMULAS) == set(KINDS)

_IN_WORDS = ("length",)  # ramps whose ends are given in words and compared as logarithms

_MEASURES: Mapping[str, Callable[[Columns], Floats]] = {
    "letters": lambda signals: signals["alpha_word_share"],
    "sentences": lambda signals: signals["mean_sentence_words"],
    "vocabulary": herdan,
    "length": log_words,
    "soup": lambda signals: signals["symbol_share"] + signals["digit_share"],
    "symbols": lambda signals: signals["symbol_share"],
    "digits": lambda signals: signals["digit_share"],
    "lines": lambda signals: signals["duplicate_line_share"],
    "grams": lambda signals: (
        signals["duplicate_5_gram_share"] - 0.30 * (1 - ramp(signals["mean_word_length"], 1.3, 2.5))
    ),
    "pair": lambda signals: signals["top_2_gram_share"],
    "squeeze": lambda signals: 1 - signals["compression_ratio"],
    "long_lines": lambda signals: signals["n_chars"] / np.maximum(signals["n_lines"], 1),
    "times": lambda signals: signals["timestamp_line_share"],
    "template": lambda signals: signals["template_share"],
    "boiler": lambda signals: signals["boilerplate_share"],
}


def quality(columns: Columns, kinds: Coded) -> Floats:
    """The formula on T texts of `kinds`, (T,); 0 for a text without words."""
    total = np.zeros(len(kinds))
    for code, kind in enumerate(kinds.values):
        rows = np.flatnonzero(kinds.codes == code)
        signals = {name: columns[name][rows] for name in NEEDS}
        for name in ALSO:
            signals[name] = np.nan_to_num(columns[name][rows]) if name in columns else np.zeros(len(rows))
        total[rows] = _of_kind(signals, *FORMULAS[kind])
    return total


def _of_kind(signals: Columns, merits: Merits, faults: Faults) -> Floats:
    merit = np.zeros(len(signals["n_words"]))
    for measure, (weight, low, high) in merits.items():
        ends = (float(np.log(low)), float(np.log(high))) if measure in _IN_WORDS else (low, high)
        part = ramp(_MEASURES[measure](signals), *ends)
        if measure == "sentences":
            part *= 1 - ramp(signals["mean_sentence_words"], 60, 300)
        merit += weight * part
    for measure, (low, high) in faults.items():
        merit *= 1 - ramp(_MEASURES[measure](signals), low, high)
    return np.where(signals["n_words"] > 0, 100 * merit, 0.0)
