"""The counts that the original Amharic formulas take of a text, exactly as those count.

They are not the project's own signals: words are what stands between white space (the Ethiopic word space does not
separate them), words are compared with case, and the Ethiopic block is U+1200 to U+137F without its supplements.
Names and meanings: AMHARIC in `lmcore.curate.names`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.names import AMHARIC

_STOP = "\u1362"  # ።
_NOT_ETHIOPIC = re.compile(r"[^\u1200-\u137f]+")
_COMPLEX = (
    re.compile("[\u1369-\u137c]"),  # numerals ፩ to ፼
    re.compile("[\u1200-\u123f]{15,}"),  # meant as long words; the range [ሀ-ሿ] ends at U+123F, kept as it was
    re.compile("[\u1362-\u1368]"),  # ። ፣ ፤ ፥ ፦ ፧ ፨
)
_SIMPLE = (
    re.compile(r"^[\u1200-\u123f\s]{1,20}$"),
    re.compile(r"^(ሰላም|እንዴት|ጤና|አመሰግናለሁ)\s*[\u1200-\u123f\s]*$"),  # greetings
)


def ethiopic_counts(texts: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Every signal of AMHARIC for T texts, each (T,)."""
    rows = np.zeros((len(texts), len(AMHARIC)))
    for place, text in enumerate(texts):
        rows[place] = _counts(text)
    return {name: rows[:, column].copy() for column, name in enumerate(AMHARIC)}


def _counts(text: str) -> tuple[int, ...]:
    words = text.split()
    stripped = text.strip()
    return (
        len(_NOT_ETHIOPIC.sub("", text)),
        text.count(" "),
        text.count("\n"),
        text.count(_STOP),
        len(words),
        len(set(words)),
        len(stripped),
        len(set(stripped)),
        stripped.count(_STOP) + stripped.count("!") + stripped.count("?"),
        sum(pattern.search(stripped) is not None for pattern in _COMPLEX),
        sum(pattern.search(stripped) is not None for pattern in _SIMPLE),
    )
