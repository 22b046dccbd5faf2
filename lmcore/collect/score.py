"""How much of a marked text an extraction has, and how much else: precision, recall and F1 over tokens.

    score(found, marked).f1          # 1.0: the same words; 0.0: none in common

Tokens are words without case. Scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese,
Tibetan) are cut into pairs of characters. Both texts are bags: order does not count, how often a word comes does.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_TOKEN = re.compile(rf"([{_UNSPACED}]+)|[^\W{_UNSPACED}]+")


@dataclass(frozen=True)
class Score:
    """Shares from 0 to 1. Two empty texts agree (1); an empty one and another do not (0)."""

    precision: float  # of the tokens found, those that are marked
    recall: float  # of the tokens marked, those that were found

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def score(found: str, marked: str) -> Score:
    """Compare an extracted text with the marked one."""
    ours, theirs = tokens(found), tokens(marked)
    if not ours and not theirs:
        return Score(1.0, 1.0)
    common = sum((ours & theirs).values())
    return Score(common / max(1, ours.total()), common / max(1, theirs.total()))


def tokens(text: str) -> Counter[str]:
    """The bag of tokens of a text."""
    bag: Counter[str] = Counter()
    for match in _TOKEN.finditer(text.casefold()):
        run = match[1]
        if run is None:
            bag[match[0]] += 1
        else:
            bag.update(run[at : at + 2] for at in range(max(1, len(run) - 1)))
    return bag
