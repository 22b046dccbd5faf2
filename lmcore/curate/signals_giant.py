"""Signals of a giant text from those of its pieces, so that the memory they take does not grow with the text.

Counts add up, of lengths the greatest is taken. A share is the mean of the pieces' shares, weighted by what it is a
share of where that is known (characters, words, lines, sentences), which is exact but for a line or sentence that a cut
goes through. What compares distant places (repeated lines, runs and paragraphs, vocabulary) is that of a piece on
average: a repeat is seen within a piece of eight million characters, and not beyond.

Legend: P pieces of one text.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

GIANT_CHARS = 1 << 23
"""A text of more characters is measured in pieces of at most so many: some 300 MB of arrays for a Latin text."""

_SUMS = ("n_chars", "n_words", "n_lines", "n_sentences", "n_paragraphs", "long_line_count", "lorem_ipsum")
_GREATEST = ("max_word_length", "stop_words")
_OF_LINES = ("_line_share", "line_count_share")
_OF_WORDS = ("_word_share", "_word_ratio", "mean_word_length", "median_word_length", "stop_word_share")
_OF_SENTENCES = ("question_share", "mean_sentence_words")
_OF_ALL = ("whitespace_share", "parenthesis_share", "curly_bracket_share")  # of characters, white space too


def joined(pieces: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """One value a signal from the signals (P,) of a text's pieces; compression_ratio is left to the caller."""
    return {
        name: float(column.sum()) if name in _SUMS
        else float(column.max()) if name in _GREATEST
        else _mean(column, _weights(name, pieces))
        for name, column in pieces.items()
    }  # fmt: skip


def _weights(name: str, pieces: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    if name in _OF_ALL:
        return pieces["n_chars"]
    if name == "duplicate_line_share" or not name.endswith((*_OF_LINES, *_OF_WORDS, *_OF_SENTENCES)):
        return pieces["n_words"] * pieces["mean_word_length"]  # characters that are not white space
    if name.endswith(_OF_LINES):
        return pieces["n_lines"]
    return pieces["n_sentences"] if name in _OF_SENTENCES else pieces["n_words"]


def _mean(column: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    total = float(weights.sum())
    return float((column * weights).sum()) / total if total else 0.0
