"""Whether the scores order texts as they should: complexity beside the loss of a language model, quality beside damage.

    python benchmarks/curate_models.py FOLDER [--texts 400] [--fit]

FOLDER holds JSONL files (`text`, `lang`, `kind`), as the fetch script of the test data writes them to `domains`. Short
records of one file are joined, in their order, to texts of 300 to 6,000 characters.

complexity: every language has a character 5-gram model (Witten-Bell interpolation, Witten and Bell 1991), learnt
from four fifths of its texts and asked about the last, five times over, so that every text has a loss in bits a
character by a model that has not seen it. Printed is Spearman's rank correlation of each formula with that loss, by
language and by file, beside that of the length alone.

quality: real texts beside copies of them that were damaged (one sentence repeated, sentences from a template,
lines doubled, words turned to symbols, a list of addresses). Printed is the chance that a real text of the
language scores above a damaged one (area under the ROC curve).

`--fit` prints the weights that least squares on ranks would give the parts of complexity v2.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lmcore.curate import complexity, score
from lmcore.curate.normalise import normalise
from lmcore.curate.signals import signals
from lmcore.curate.signals_ethiopic import ethiopic_counts

ORDER = 5
FOLDS = 5
SHORTEST, LONGEST = 300, 6000
WHITE = " \n"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Text:
    """One text of the test data."""

    text: str
    lang: str
    kind: str
    file: str


def read(folder: Path, most: int) -> list[Text]:
    """At most `most` texts of every file, evenly from its whole length."""
    found: list[Text] = []
    for path in sorted(folder.rglob("*.jsonl")):
        texts = list(_joined(path))
        found += texts[:: max(1, -(-len(texts) // most))]
    return found


def _joined(path: Path) -> Iterator[Text]:
    kind = "code" if path.parent.name == "code" else "dialogue" if path.parent.name == "dialogue" else "prose"
    pending: list[str] = []
    target = random.Random(path.name)  # lengths of many sizes, else length would explain nothing or everything
    size = target.randint(SHORTEST, 3000)
    for line in path.open(encoding="utf-8"):
        row = json.loads(line)
        text = normalise(row["text"])
        if row["lang"] == "und" or not text:
            continue
        pending.append(text)
        if sum(map(len, pending)) >= size:
            yield Text("\n".join(pending)[:LONGEST], row["lang"], kind, path.stem)
            pending, size = [], target.randint(SHORTEST, 3000)


def losses(texts: list[str]) -> Floats:
    """Bits a character of each text, by a model of the texts of the other folds."""
    alphabet = {character: place for place, character in enumerate(sorted(set("".join(texts))))}
    coded = [np.array([alphabet[character] for character in text], np.uint64) for text in texts]
    bits = np.zeros(len(texts))
    for fold in range(FOLDS):
        model = NGrams([codes for place, codes in enumerate(coded) if place % FOLDS != fold], len(alphabet))
        for place in range(fold, len(texts), FOLDS):
            bits[place] = model.bits(coded[place])
    return bits


class NGrams:
    """Character n-gram counts of all orders up to ORDER, as sorted arrays of hashes."""

    def __init__(self, texts: list[NDArray[np.uint64]], symbols: int) -> None:
        self._symbols = symbols
        self._grams, self._contexts = [], []
        for order in range(1, ORDER + 1):
            grams = np.concatenate([_hashes(text, order) for text in texts])
            unique, first, counts = np.unique(grams, return_index=True, return_counts=True)
            before = np.concatenate([_hashes(text, order - 1)[: len(text) - order + 1] for text in texts])
            contexts, where = np.unique(before[first], return_inverse=True)
            types = np.bincount(where, minlength=len(contexts))
            total = np.bincount(where, counts, minlength=len(contexts))
            self._grams.append((unique, counts.astype(float)))
            self._contexts.append((contexts, total, types.astype(float)))

    def bits(self, text: NDArray[np.uint64]) -> float:
        """Mean bits a character, the first ORDER - 1 left out."""
        chance = np.full(len(text) - ORDER + 1, 1 / self._symbols)
        for order in range(1, ORDER + 1):
            gram = _hashes(text, order)[ORDER - order :]
            context = _hashes(text, order - 1)[ORDER - order :][: len(gram)]
            seen = _look_up(self._grams[order - 1][0], self._grams[order - 1][1], gram)
            contexts, total, types = self._contexts[order - 1]
            all_seen, kinds = _look_up(contexts, total, context), _look_up(contexts, types, context)
            weight = np.where(all_seen > 0, all_seen + kinds, 1)
            chance = np.where(all_seen > 0, (seen + kinds * chance) / weight, chance)
        return float(-np.log2(chance).mean())


def _hashes(text: NDArray[np.uint64], order: int) -> NDArray[np.uint64]:
    total = np.zeros(max(0, len(text) - order + 1), np.uint64)
    for place in range(order):
        total = (total ^ (text[place : place + len(total)] + np.uint64(1))) * np.uint64(0x9E3779B97F4A7C15)
        total ^= total >> np.uint64(31)
    return total


def _look_up(keys: NDArray[np.uint64], values: Floats, wanted: NDArray[np.uint64]) -> Floats:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0.0)


def ranks(values: Floats) -> Floats:
    """Ranks from 0, the mean one for equal values."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean: Floats = (ends - (counts + 1) / 2)[where]
    return mean


def spearman(one: Floats, two: Floats) -> float:
    """Rank correlation; 0 where one of them is constant."""
    if np.ptp(one) == 0 or np.ptp(two) == 0:
        return 0.0
    return float(np.corrcoef(ranks(one), ranks(two))[0, 1])


def above(good: Floats, bad: Floats) -> float:
    """The chance that a good one is above a bad one, ties counted half: the area under the ROC curve."""
    rank = ranks(np.concatenate([good, bad])) + 1
    return float((rank[: len(good)].sum() - len(good) * (len(good) + 1) / 2) / (len(good) * len(bad)))
