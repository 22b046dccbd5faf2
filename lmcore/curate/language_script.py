"""What the letters of a text alone say about its language: shares of scripts, and which languages each can be.

The table is scripts.yaml. Most scripts write one language that is looked for here, and a text in one of them needs no
model: Ethiopic, kana, Hangul, Hebrew, Thai, Greek, Georgian, Armenian and others.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

KANA_SHARE = 0.05
"""Of kana and Han together, from which the Han letters too are Japanese: a Chinese text may quote a word or two."""

_WORD_ENDS = re.compile(r"[\s፠-፨!-/:-@\[-`{-~«»“”‘’]+")


@dataclass(frozen=True)
class Script:
    """One row of scripts.yaml."""

    name: str
    weight: float
    ranges: tuple[tuple[int, int], ...]
    languages: tuple[str, ...]  # empty: every language that no other script names, and `also`
    also: tuple[str, ...]
    words: dict[str, frozenset[str]]
    letters: dict[str, tuple[tuple[int, int], ...]]

    def decides(self) -> bool:
        """Whether no model is needed for the letters of this script."""
        return len(self.languages) == 1 or bool(self.words)

    def may_be(self, lang: str) -> bool:
        """Whether `lang` is looked for in this script."""
        if self.languages:
            return lang in self.languages
        return lang in self.also or lang not in _elsewhere()

    def by_words(self, text: str) -> str:
        """The language of a text of a script whose languages are told apart by words and letters."""
        words = _WORD_ENDS.split(text)
        points = [ord(character) for character in text] if self.letters else []
        found = {lang: sum(word in known for word in words) for lang, known in self.words.items()}
        for lang, ranges in self.letters.items():
            found[lang] += sum(low <= point <= high for point in points for low, high in ranges)
        return max(self.languages, key=lambda lang: found.get(lang, 0))  # the first of equals


def script_shares(texts: Sequence[str]) -> NDArray[np.float64]:
    """(T, S) weighted share of every script among the letters of each text; rows of zeros where there is no letter.

    Han letters count as kana where at least KANA_SHARE of both together is kana: that is Japanese.
    """
    count = len(scripts())
    joined = "".join(texts)
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    row = np.repeat(np.arange(len(texts)), sizes) * (count + 1)
    counts = np.bincount(row + _table()[points], minlength=len(texts) * (count + 1)).reshape(len(texts), count + 1)
    letters = counts[:, :count].astype(np.float64)
    kana, han = (index_of(name) for name in ("Kana", "Hani"))
    both = letters[:, kana] + letters[:, han]
    japanese = (letters[:, kana] > 0) & (letters[:, kana] >= KANA_SHARE * both)
    weighted = letters * np.array([script.weight for script in scripts()])
    weighted[japanese, kana] += weighted[japanese, han]
    weighted[japanese, han] = 0
    total = weighted.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(weighted, total, out=np.zeros_like(weighted), where=total > 0)
    return shares


def only(text: str, index: int) -> str:
    """`text` without the letters of every script but that of row `index`."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    of = _table()[points]
    keep = (of == index) | (of == len(scripts()))
    return " ".join(np.where(keep, points, ord(" ")).astype("<u4").tobytes().decode("utf-32-le", "replace").split())


@functools.cache
def scripts() -> tuple[Script, ...]:
    """The rows of scripts.yaml, in its order."""
    rows = yaml.safe_load(importlib.resources.files(__package__).joinpath("scripts.yaml").read_text("utf-8"))
    return tuple(_script(row) for row in rows)


@functools.cache
def index_of(name: str) -> int:
    """Which row of scripts.yaml has this name."""
    return [script.name for script in scripts()].index(name)


@functools.cache
def _elsewhere() -> frozenset[str]:
    return frozenset(lang for script in scripts() for lang in script.languages)


@functools.cache
def _table() -> NDArray[np.uint8]:
    """(0x110000,) index of every code point's script; the number of scripts where it has none."""
    table = np.full(0x110000, len(scripts()), np.uint8)
    for index, script in enumerate(scripts()):
        for low, high in script.ranges:
            table[low : high + 1] = index
    return table


def _script(row: dict[str, Any]) -> Script:
    def pairs(ranges: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
        return tuple((low, high) for low, high in ranges)

    return Script(
        name=row["name"],
        weight=float(row.get("weight", 2)),
        ranges=pairs(row["ranges"]),
        languages=tuple(row["languages"]),
        also=tuple(row.get("also", ())),
        words={lang: frozenset(words) for lang, words in row.get("words", {}).items()},
        letters={lang: pairs(ranges) for lang, ranges in row.get("letters", {}).items()},
    )
