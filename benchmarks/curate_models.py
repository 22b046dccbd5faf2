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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

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
        self._grams: list[tuple[NDArray[np.uint64], Floats]] = []
        self._contexts: list[tuple[NDArray[np.uint64], Floats, Floats]] = []
        for order in range(1, ORDER + 1):
            grams = np.concatenate([_hashes(text, order) for text in texts])
            unique, first, counts = np.unique(grams, return_index=True, return_counts=True)
            before = np.concatenate([_hashes(text, order - 1)[: len(text) - order + 1] for text in texts])
            contexts, where = np.unique(before[first], return_inverse=True)
            types = np.bincount(where, minlength=len(contexts))
            total = np.bincount(where, counts, minlength=len(contexts))
            self._grams.append((unique, counts.astype(float)))
            self._contexts.append((contexts, total.astype(float), types.astype(float)))

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


def measure(texts: list[str]) -> dict[str, Floats]:
    """Every signal of the texts."""
    return signals(texts)


def damaged(text: str, chance: random.Random, others: list[str]) -> str:
    """A copy with one of five kinds of damage, every other one only in its second half."""
    if chance.random() < 0.5:
        half = len(text) // 2
        return text[:half] + "\n" + _damage(text[half:], chance, others)
    return _damage(text, chance, others)


def _damage(text: str, chance: random.Random, others: list[str]) -> str:
    words, size = text.split(), len(text)
    if size > 10 * len(words):  # no spaces between words
        words = [text[place : place + 3] for place in range(0, size, 3)]
    sort = chance.randrange(5)
    if sort == 0:  # one sentence again and again
        sentence = " ".join(words[:12])
        return "\n".join([sentence] * max(2, size // len(sentence)))
    if sort == 1:  # sentences from a template
        return "\n".join(
            f"{' '.join(words[:4])} {chance.choice(words)} {' '.join(words[4:9])}." for _ in range(max(3, size // 50))
        )
    if sort == 2:  # every line again
        lines = text.splitlines()
        return "\n".join([*lines, *lines, *lines])
    if sort == 3:  # every third word is soup
        return " ".join(
            "".join(chance.choice("{}[]/=<>|#$%&*0123456789") for _ in word) if chance.random() < 0.35 else word
            for word in words
        )
    menu = chance.choice(others).split()[:3]  # a menu with numbers
    return "\n".join(f"{' '.join(menu)[:40]} | {n}" for n in range(max(5, size // 25)))


def report_complexity(texts: list[Text], fit: bool) -> None:
    """Print the rank correlations of every complexity with the loss."""
    columns = measure([text.text for text in texts]) | ethiopic_counts([text.text for text in texts])
    kinds = [text.kind for text in texts]
    orders = {
        name: score.scores(columns, kinds, "v1", name)["complexity"] for name in ("v1", "v2", "amharic_curriculum")
    }
    orders["length"] = columns["n_chars"]
    langs, files = np.array([text.lang for text in texts]), np.array([text.file for text in texts])
    loss = np.full(len(texts), np.nan)
    groups = []
    for lang in sorted(set(langs)):
        rows = np.flatnonzero(langs == lang)
        if len(rows) >= 50:
            loss[rows] = losses([texts[row].text for row in rows])
            groups.append((f"all {lang}", rows))
    for file in sorted(set(files)):
        rows = np.flatnonzero((files == file) & ~np.isnan(loss))
        if len(rows) >= 60:
            groups.append((file, rows))
    print(f"\ncomplexity: Spearman's correlation with the loss of a character {ORDER}-gram model")
    print("".join([f"{'':26}{'texts':>7}{'bits':>7}", *(f"{name[:12]:>14}" for name in orders)]))
    rows_of: dict[str, list[list[float]]] = {"languages": [], "files": []}
    for name, rows in groups:
        found = [spearman(order[rows], loss[rows]) for order in orders.values()]
        rows_of["languages" if name.startswith("all ") else "files"].append(found)
        print(f"{name:26}{len(rows):7}{np.median(loss[rows]):7.2f}" + "".join(f"{value:14.2f}" for value in found))
    for name, found_all in rows_of.items():
        if found_all:
            print(f"{'mean of ' + name:40}" + "".join(f"{value:14.2f}" for value in np.mean(found_all, axis=0)))
    if fit:
        parts = np.stack(list(complexity.v2_parts(columns).values()), axis=1)
        weights = []
        for _, rows in groups:
            target = ranks(loss[rows]) / len(rows)
            weights.append(np.linalg.lstsq(np.c_[parts[rows], np.ones(len(rows))], target, rcond=None)[0][:-1])
        print(
            "weights by least squares:",
            dict(zip(complexity.v2_parts(columns), np.mean(weights, axis=0).round(2), strict=True)),
        )


def report_quality(texts: list[Text]) -> None:
    """Print for every quality the chance that a real text is above a damaged one."""
    chance = random.Random(0)
    whole = [text.text for text in texts]
    bad = [damaged(text.text, chance, whole) for text in texts]
    kinds = [text.kind for text in texts]
    columns = {name: measure(part) | ethiopic_counts(part) for name, part in (("good", whole), ("bad", bad))}
    print("\nquality: chance that a real text is above a damaged one; medians of real and damaged")
    print(f"{'':26}{'texts':>7}" + "".join(f"{name[:20]:>22}" for name in score.QUALITY))
    langs = np.array([text.lang for text in texts])
    kind = np.array(kinds)
    prose = kind == "prose"  # a score is no measure across kinds
    groups = [(f"prose, {lang}", prose & (langs == lang)) for lang in sorted(set(langs[prose]))]
    groups += [(name, kind == name) for name in sorted(set(kinds))]
    for name, rows in groups:
        told = []
        for formula in get_args(score.ScoreName):
            values = {side: score.scores(columns[side], kinds, formula)["quality"][rows] for side in columns}
            area = above(values["good"], values["bad"])
            told.append(f"{area:10.3f} {np.median(values['good']):4.0f} {np.median(values['bad']):4.0f}  ")
        print(f"{name:26}{int(rows.sum()):7}" + "".join(f"{row:>22}" for row in told))


def main() -> None:
    """Read, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=int, default=150, help="at most so many of a file")
    parser.add_argument("--fit", action="store_true")
    arguments = parser.parse_args()
    texts = read(arguments.folder, arguments.texts)
    print(f"{len(texts):,} texts, {sum(len(text.text) for text in texts):,} characters")
    report_complexity(texts, arguments.fit)
    report_quality(texts)


if __name__ == "__main__":
    main()
