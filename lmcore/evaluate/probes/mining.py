"""Which words are a domain's terms: far more frequent there than in general text, and dense in the texts about them.

A word is a run of letters, without regard to case, of four letters or more and no stop word of a language of the
domain's texts (`lmcore.curate.stop_words`); in Japanese and Chinese, which do not divide words, a run of two kanji or
of three katakana or more. Of a text with turns only what is said is read, not the labels before it. A term

    stands `min_count` times in the domain's training text or more, in at least three texts;
    has there `ratio` times the share that it has in general text, among the words of its script, or more. One
    occurrence is added there, so that a word which little general text lacks is none;
    is dense: its residual inverse document frequency is 1 or more. Of D texts, in which it stands c times, d have it;
    strewn by chance it would be in D (1 - exp(-c / D)) of them, so that this is at least twice d (Church and Gale
    1995, Inverse document frequency). "Like" and "used" are strewn, "calculus" and "Angola" are not.

They are ranked by log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008). For a word that
stands y times among n words of the domain and y' times among n' of general text, with a = y + y' and A = n + n':

    d = log((y + a) / (n + A - y - a)) - log((y' + a) / (n' + A - y' - a))      z = d / sqrt(1 / (y + a) + 1 / (y' + a))
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmcore.curate.stop_words import stop_words
from lmcore.evaluate.probes.settings import Terms
from storage.parquet import batches

_DIVIDED = re.compile(r"[^\W\d_\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]{4,}")
_UNDIVIDED = re.compile(r"[\u30a1-\u30fa\u30fc]{3,}|[\u3400-\u4dbf\u4e00-\u9fff\u3005]{2,}")
LEAST_TEXTS = 3
LEAST_RESIDUAL = 1.0  # bits
MOST_BYTES = 32_000_000  # of training text on either side


@dataclass
class Counts:
    """How often each word stands in texts, and in how many of them."""

    texts: int = 0
    words: Counter[str] = field(default_factory=Counter)
    spread: Counter[str] = field(default_factory=Counter)

    def read(self, text: str) -> None:
        """Count the words of one more text."""
        found = _words(text)
        self.texts += 1
        self.words.update(found)
        self.spread.update(set(found))

    def residual(self, word: str) -> float:
        """Bits by which the word's texts are fewer than chance would have them."""
        by_chance = self.texts * -math.expm1(-self.words[word] / self.texts)
        return math.log2(by_chance / self.spread[word])


def mine(files: Sequence[Path], asked: Terms) -> list[str]:
    """At most `asked.mined` terms of the training files' sources in `asked.domain`, in lower case, the surest first."""
    sides = {source: Counts() for source in ("domain", "general")}
    side_of = dict.fromkeys(asked.general, "general") | dict.fromkeys(asked.domain, "domain")
    left = dict.fromkeys(sides, MOST_BYTES)
    languages: set[str] = set()
    columns = ["source", "lang", "text", "turns", "n_bytes"]
    for batch in (some for path in files for some in batches(path, columns, rows=256)):
        if max(left.values()) <= 0:
            break
        for source, lang, text, turns, size in zip(*(batch[name].to_pylist() for name in columns), strict=True):
            side = side_of.get(source, "")
            if left.get(side, 0) > 0:
                left[side] -= size
                sides[side].read("\n".join(turn["text"] for turn in turns) if turns else text)
                if side == "domain":
                    languages.add(lang)
    stops = {word for lang in languages for word in stop_words(lang)}
    return terms_among(sides["domain"], sides["general"], asked, stops)


def terms_among(own: Counts, general: Counts, asked: Terms, stops: Iterable[str] = ()) -> list[str]:
    """The words of `own` that are terms, without `stops`, by z and then by name."""
    passed_over = set(stops)
    totals = [_totals(side.words) for side in (own, general)]
    ranked = []
    for word, count in own.words.items():
        if word in passed_over or count < asked.min_count or own.spread[word] < LEAST_TEXTS:
            continue
        n, m = (total[_is_divided(word)] for total in totals)
        other = general.words[word]
        if count * (m + 1) >= asked.ratio * (other + 1) * n and own.residual(word) >= LEAST_RESIDUAL:
            ranked.append((-_z(count, n, other, m), word))
    return [word for _, word in sorted(ranked)[: asked.mined]]


def _z(count: int, n: int, other: int, m: int) -> float:
    prior = count + other
    one, two = count + prior, other + prior
    odds = math.log(one / max(1, 2 * n + m - one)) - math.log(two / max(1, n + 2 * m - two))
    return odds / math.sqrt(1 / one + 1 / two)


def _words(text: str) -> list[str]:
    folded = text.casefold()
    return _DIVIDED.findall(folded) + _UNDIVIDED.findall(folded)


def _is_divided(word: str) -> bool:
    return _UNDIVIDED.match(word) is None


def _totals(words: Counter[str]) -> Counter[bool]:
    """Words in scripts that divide them (True) and in those that do not."""
    found: Counter[bool] = Counter()
    for word, count in words.items():
        found[_is_divided(word)] += count
    return found
