"""A learned quality, 0 to 100: logistic regression over the words and pairs of words of a text.

The linear model of fastText (Joulin and others 2017, arXiv 1607.01759) with two classes, where the hidden layer adds
nothing: each word and pair of words has one weight, chosen by its hash. A text is the set of those it has, scaled to
length 1, so that a long text says no more than a short one. Learned by stochastic gradient descent in one fixed
order, both labels weighing the same; the two numbers that turn the sum into a probability are fitted on held-out
texts (Platt 1999). NumPy alone, one thread: equal texts give equal bytes on one machine.

Held out is a fifth of the texts, chosen by a hash that near copies share (`lmcore.curate.sketches`), so that a text
is rarely asked about whose copy was learned.

Letters: T texts, F features of a batch of texts, W = 2^bits weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from lmcore.curate.hash_sample import HashSample
from lmcore.curate.labelled import ClassifierParams
from lmcore.curate.pieces import pieces
from lmcore.curate.ranks import auc, auc_interval
from lmcore.curate.sketches import sketches
from lmcore.curate.words import Integers, gram_hashes, run_starts, split
from storage.atomic import write_bytes, write_json
from storage.errors import RunError, UserError

WEIGHTS, FACTS = "classifier.safetensors", "classifier.json"
TEXT_CHARS = 20_000  # what is read of a text
_HELD_OUT = np.uint64(5)  # one text in so many
_MIN_HELD_OUT = 5  # texts of each label
_BATCH = 32
_VERSION = 1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Figures:
    """What the classifier was learned from and how well it tells texts it has not seen."""

    good: int  # texts learned from
    bad: int
    held_out_good: int
    held_out_bad: int
    contradictory: int  # texts with both labels, left out
    auc: float  # on the held-out texts: probability that a good one gets more than a bad one
    auc_low: float  # 95 % interval
    auc_high: float


@dataclass(frozen=True)
class Classifier:
    """Weights, the line that turns a sum into log odds, and what is known of them."""

    weights: NDArray[np.float32]  # (W,)
    bias: float
    slope: float
    figures: Figures

    def quality(self, texts: Sequence[str]) -> Floats:
        """0 (like the bad) to 100 (like the good) for each of T normalised texts: (T,)."""
        odds = self.bias + self.slope * _sums(self.weights, _features(texts, _bits(self.weights)), len(texts))
        return (100 * _sigmoid(odds)).round(6)

    def save(self, folder: Path) -> None:
        """Write the model into `folder`: weights as safetensors, the rest as JSON."""
        write_bytes(folder / WEIGHTS, safetensors.numpy.save({"weights": self.weights}))
        facts = {"version": _VERSION, "bias": self.bias, "slope": self.slope, "figures": asdict(self.figures)}
        write_json(folder / FACTS, facts)

    @classmethod
    def load(cls, folder: Path) -> Classifier:
        """Read what `save` wrote. Raises RunError for anything else, also for a model of another version."""
        try:
            facts = json.loads((folder / FACTS).read_bytes())
            weights = safetensors.numpy.load((folder / WEIGHTS).read_bytes())["weights"]
            known = facts["version"] == _VERSION and weights.ndim == 1 and weights.dtype == np.float32
            if not known or len(weights) != 1 << _bits(weights):
                raise ValueError("not of this version")
            return cls(weights, float(facts["bias"]), float(facts["slope"]), Figures(**facts["figures"]))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise RunError(f"{folder} holds no quality classifier: {error}", "delete it and run again") from error


def train_classifier(examples: Iterable[tuple[str, bool]], params: ClassifierParams) -> Classifier:
    """Learn from a stream of (normalised text, is it good), in any order; memory is bounded by `params.max_chars`.

    Raises UserError when a label has fewer than `params.min_examples` different texts, or when the held-out AUC is
    below `params.min_auc`.
    """
    texts, good, contradictory = _sample(examples, params)
    for label, count in (("good", int(good.sum())), ("bad", int((~good).sum()))):
        if count < params.min_examples:
            raise UserError(
                f"the quality classifier needs {params.min_examples} different texts called {label}, there are {count}",
                "label more texts, or lower compare.classifier.min_examples",
            )
    held_out = sketches(texts) % _HELD_OUT == 0
    if min((held_out & good).sum(), (held_out & ~good).sum(), (~held_out & good).sum(), (~held_out & ~good).sum()) < (
        _MIN_HELD_OUT
    ):
        raise UserError(
            f"fewer than {_MIN_HELD_OUT} texts of a label are left to learn from or to hold out: they are near copies",
            "label more different texts",
        )
    weights = _learn([text for text, held in zip(texts, held_out, strict=True) if not held], good[~held_out], params)
    sums = _sums(weights, _features([texts[i] for i in np.flatnonzero(held_out)], params.bits), int(held_out.sum()))
    area = auc(sums, good[held_out])
    held_good, held_bad = int((held_out & good).sum()), int((held_out & ~good).sum())
    if area < params.min_auc:
        raise UserError(
            f"the quality classifier tells good from bad texts with AUC {area:.3f} where {params.min_auc} is asked",
            "look at the labels, label more texts, or lower compare.classifier.min_auc",
        )
    bias, slope = _platt(sums, good[held_out])
    low, high = auc_interval(area, held_good, held_bad)
    figures = Figures(
        good=int(good.sum()) - held_good,
        bad=int((~good).sum()) - held_bad,
        held_out_good=held_good,
        held_out_bad=held_bad,
        contradictory=contradictory,
        auc=round(area, 6),
        auc_low=round(low, 6),
        auc_high=round(high, 6),
    )
    return Classifier(weights, round(bias, 6), round(slope, 6), figures)


def _sample(examples: Iterable[tuple[str, bool]], params: ClassifierParams) -> tuple[list[str], NDArray[np.bool_], int]:
    """Texts in the order of their hashes, which are good, and how many had both labels."""
    samples = {label: HashSample(params.max_chars, text_chars=TEXT_CHARS) for label in (False, True)}
    for text, label in examples:
        if text.strip():
            samples[label].add([text])
    found = {label: dict(sample.items()) for label, sample in samples.items()}
    both = found[False].keys() & found[True].keys()
    rows = sorted((key, label) for label, texts in found.items() for key in texts if key not in both)
    return [found[label][key] for key, label in rows], np.array([label for _, label in rows], bool), len(both)


@dataclass(frozen=True)
class _Features:
    """Which weights T texts use; texts without words have none."""

    text: Integers  # (F,) ascending
    weight: Integers  # (F,)
    value: Floats  # (F,) one over the square root of the text's features


def _features(texts: Sequence[str], bits: int) -> _Features:
    """The different words and pairs of words of the first TEXT_CHARS of each text, by hash."""
    mask = np.uint64((1 << bits) - 1)
    text: list[Integers] = [np.zeros(0, np.int64)]
    weight: list[Integers] = [np.zeros(0, np.int64)]
    for owners, batch in pieces([text[:TEXT_CHARS] for text in texts]):
        found = split(batch)
        first, pairs = gram_hashes(found, 2)
        owner = np.concatenate((owners[found.word_text], owners[found.word_text[first]])).astype(np.uint64)
        used = np.sort(owner << np.uint64(bits) | np.concatenate((found.word_hash, pairs)) & mask)
        used = used[run_starts(used)]
        text.append((used >> np.uint64(bits)).astype(np.int64))
        weight.append((used & mask).astype(np.int64))
    owner_of, weights = np.concatenate(text), np.concatenate(weight)
    sizes = np.bincount(owner_of, minlength=len(texts)).astype(np.float64)
    value = 1 / np.sqrt(sizes)[owner_of]
    return _Features(owner_of, weights, value)


def _sums(weights: NDArray[np.float32], found: _Features, count: int) -> Floats:
    parts: Floats = weights[found.weight] * found.value
    return _per_text(found.text, parts, count)


def _per_text(text: Integers, values: Floats, count: int) -> Floats:
    sums: Floats = np.bincount(text, weights=values, minlength=count).astype(np.float64)
    return sums


def _learn(texts: Sequence[str], good: NDArray[np.bool_], params: ClassifierParams) -> NDArray[np.float32]:
    """Weights after `epochs` rounds over the texts (in the order of their hashes, so the labels are mixed)."""
    found = _features(texts, params.bits)
    bounds = np.searchsorted(found.text, np.arange(0, len(texts) + _BATCH, _BATCH))
    weigh = np.where(good, 0.5 / good.mean(), 0.5 / (~good).mean())  # (T,)
    weights: Floats = np.zeros(1 << params.bits)
    bias = 0.0
    steps = params.epochs * (len(bounds) - 1)
    for step in range(steps):
        rate = params.rate * (1 - step / steps)
        batch = step % (len(bounds) - 1)
        start, end = bounds[batch], bounds[batch + 1]
        rows = slice(batch * _BATCH, min((batch + 1) * _BATCH, len(texts)))
        text = found.text[start:end] - rows.start
        weight, value = found.weight[start:end], found.value[start:end]
        sums = _per_text(text, weights[weight] * value, rows.stop - rows.start) + bias
        error = (_sigmoid(sums) - good[rows]) * weigh[rows] / _BATCH
        np.subtract.at(weights, weight, rate * error[text] * value)
        bias -= rate * float(error.sum())
    return weights.round(4).astype(np.float32)  # four digits: the last ones differ between processors


def _platt(sums: Floats, good: NDArray[np.bool_]) -> tuple[float, float]:
    """Bias and slope of the log odds, by Newton's method, with the targets that Platt corrects for few examples."""
    n_good, n_bad = int(good.sum()), int((~good).sum())
    target = np.where(good, (n_good + 1) / (n_good + 2), 1 / (n_bad + 2))
    weigh = np.where(good, 0.5 / n_good, 0.5 / n_bad)  # 50 means: as likely good as bad, however many of each
    rows = np.stack((np.ones(len(sums)), sums))  # (2, T)
    line: Floats = np.zeros(2)
    for _ in range(30):
        p = _sigmoid(np.asarray(line @ rows, np.float64))
        gradient = rows @ (weigh * (p - target))
        curvature = (rows * (weigh * p * (1 - p))) @ rows.T + 1e-6 * np.eye(2)
        line = line - np.linalg.solve(curvature, gradient)
    return float(line[0]), float(line[1])


def _sigmoid(values: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(values, -500, 500)))


def _bits(weights: NDArray[np.float32]) -> int:
    return len(weights).bit_length() - 1
