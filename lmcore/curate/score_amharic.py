"""The formulas of the project amharic-llm-finetuning, by name, so that its figures can be reproduced.

They reward length and share of Ethiopic characters, and no one of them lowers a text that repeats itself or comes
from a template; that is why they are not the default. The counts they take are those of `signals_ethiopic`. The
original's preprocessor and trainer take further steps before scoring (white space made plain, most punctuation taken
out); the formulas here are on the text as it is given.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.formulas import Columns, Floats

COLLECTOR_NEEDS = (
    "n_chars",
    "amharic_chars",
    "amharic_spaces",
    "amharic_newlines",
    "amharic_stops",
    "amharic_unique_words",
)
PREPROCESSOR_NEEDS = (
    "n_chars",
    "amharic_chars",
    "amharic_spaces",
    "amharic_stops",
    "amharic_words",
    "amharic_unique_words",
)
CURRICULUM_NEEDS = (
    "amharic_stripped_chars",
    "amharic_words",
    "amharic_distinct_chars",
    "amharic_ends",
    "amharic_complex",
    "amharic_simple",
)

LEVELS = ("beginner", "elementary", "intermediate", "advanced", "expert")
"""What the original curriculum calls complexity below 20, 40, 60, 80, and from 80 on."""


def collector(counts: Columns) -> Floats:
    """Quality as `enhanced_data_collector.py` gives it; 0 for an empty text.

        length     30 for 100 to 5,000 characters, 20 above, else 0
        Amharic    40 · A / (characters but spaces), where A / (characters but spaces and newlines) ≥ .6, else 0,
                   with A the characters U+1200 to U+137F
        sentences  20 with at least one ።, else 10 for more than 50 characters
        words      10 for more than 10 different words, 5 for more than 5

    The sum, at most 100.
    """
    chars, ethiopic = counts["n_chars"], counts["amharic_chars"]
    solid = chars - counts["amharic_spaces"]
    share = ethiopic / np.maximum(solid, 1)
    amharic = ethiopic / np.maximum(solid - counts["amharic_newlines"], 1) >= 0.6
    total = (
        np.select([(chars >= 100) & (chars <= 5000), chars > 5000], [30.0, 20.0], 0.0)
        + np.where(amharic, 40 * share, 0.0)
        + np.select([counts["amharic_stops"] >= 1, chars > 50], [20.0, 10.0], 0.0)
        + _steps(counts["amharic_unique_words"], (11, 10.0), (6, 5.0))
    )
    return np.where(chars > 0, np.minimum(total, 100), 0.0)


def preprocessor(counts: Columns) -> Floats:
    """Quality as `amharic_preprocessor.py` gives it; 0 below 10 characters.

        words      30 from 50 words on, 20 from 20, 10 from 10
        Amharic    40 · A / (characters but spaces), with A the characters U+1200 to U+137F
        sentences  20 with two or more ።, 15 with one, 10 without
        variety    10 · different words / words

    The sum, at most 100. The original kept a text from 30 on.
    """
    chars, words = counts["n_chars"], counts["amharic_words"]
    total = (
        _steps(words, (50, 30.0), (20, 20.0), (10, 10.0))
        + 40 * counts["amharic_chars"] / np.maximum(chars - counts["amharic_spaces"], 1)
        + _steps(counts["amharic_stops"], (2, 20.0), (1, 15.0), (0, 10.0))
        + 10 * counts["amharic_unique_words"] / np.maximum(words, 1)
    )
    return np.where(chars >= 10, np.minimum(total, 100), 0.0)


def curriculum(counts: Columns) -> Floats:
    """Complexity as `curriculum_learning_trainer.py` gives it, of the text without white space at its ends.

        min(30, characters / 10) + min(20, words / 2) + min(20, different characters / 3)
        + 5 for each complex pattern: an Ethiopic numeral; 15 characters U+1200 to U+123F in a row; one of ። ፣ ፤ ፥ ፦ ፧ ፨
        − 10 for each simple pattern: nothing but at most 20 of U+1200 to U+123F and white space; a greeting before such
        + min(10, 2 · pieces) where ። ! ? cut the text into more than one piece

    Within 0 and 100; 0 for an empty text. It is mostly length.
    """
    chars, pieces = counts["amharic_stripped_chars"], counts["amharic_ends"] + 1
    total = (
        np.minimum(30, chars / 10)
        + np.minimum(20, counts["amharic_words"] / 2)
        + np.minimum(20, counts["amharic_distinct_chars"] / 3)
        + np.minimum(20, 5 * counts["amharic_complex"])
        - 10 * counts["amharic_simple"]
        + np.where(pieces > 1, np.minimum(10, 2 * pieces), 0)
    )
    return np.where(chars > 0, np.clip(total, 0, 100), 0.0)


def levels(complexity: Floats) -> NDArray[np.int64]:
    """Index into LEVELS of each of T complexities."""
    found: NDArray[np.int64] = np.digitize(complexity, (20, 40, 60, 80)).astype(np.int64)
    return found


def _steps(values: Floats, *steps: tuple[float, float]) -> Floats:
    """The points of the first step that is reached, from the highest down; 0 below all."""
    found: Floats = np.select([values >= least for least, _ in steps], [points for _, points in steps], 0.0)
    return found
