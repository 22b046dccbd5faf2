"""Interpolated modified Kneser-Ney over units of any kind that come as 64-bit codes, and its file.

Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", eq. 26 and 27.

Letters: N units in a row, G grams of one length, C contexts of one length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.sorted_hashes import SortedHashes
from lmcore.curate.words import Hashes, Integers, mixed
from storage.errors import RunError
from storage.parquet import read_parquet, write_parquet

_VERSION = "1"
_EDGE = np.uint64(0x5851F42D4C957F2D)  # stands before a row's first unit
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FALLBACK = (0.5, 1.0, 1.5)  # KenLM's discounts where there are too few rare grams to estimate them

Floats = NDArray[np.float64]

MODEL = pa.schema(
    [
        pa.field("length", pa.uint8(), nullable=False),  # of the gram, in units
        pa.field("gram", pa.uint64(), nullable=False),  # its hash; ascending within a length
        pa.field("direct", pa.float32(), nullable=False),  # discounted share of its context's uses
        pa.field("backoff", pa.float32(), nullable=False),  # what, as a context, it leaves to shorter grams
    ]
)


@dataclass(frozen=True)
class _Level:
    """Grams of one length: p(unit | context) = direct[gram] + backoff[context] * p(unit | shorter context)."""

    grams: Hashes  # (G,) ascending
    direct: NDArray[np.float32]  # (G,)
    backoff: NDArray[np.float32]  # (G,) of the gram as a context


class KneserNey:
    """Probabilities of units after those before them in their row."""

    def __init__(self, levels: Sequence[_Level]) -> None:
        """`levels` of length 0 (the empty context: one gram), 1, ..., order."""
        self._levels = tuple(levels)
        self._index = [SortedHashes(level.grams) for level in self._levels]
        # what a gram that is not there has is put last, where index -1 finds it
        self._direct = [np.append(level.direct, np.float32(0)) for level in self._levels]
        self._backoff = [np.append(level.backoff, np.float32(1)) for level in self._levels]

    @classmethod
    def train(cls, codes: Hashes, place: Integers, order: int) -> KneserNey:
        """Count rows of units: the code of each, and which of its row it is, from 0."""
        return cls(_estimate(_grams(codes, place, order), place == 0))

    @property
    def order(self) -> int:
        """Units seen at once."""
        return len(self._levels) - 1

    @property
    def n_grams(self) -> int:
        """Grams kept, of all lengths."""
        return sum(len(level.grams) for level in self._levels[1:])

    def known(self, codes: Hashes) -> NDArray[np.bool_]:
        """Which units were counted: (N,)."""
        return self._index[1].find(codes) >= 0

    def probabilities(self, codes: Hashes, place: Integers, base: Floats) -> Floats:
        """Of each unit of the rows: (N,). `base` is each one's probability where nothing is known of it."""
        probability = base.copy()
        first = place == 0
        context = np.zeros(len(codes), np.int64)  # index of the context among the grams of its length, or -1
        for length, grams in enumerate(_grams(codes, place, self.order)):
            if not length:
                continue
            at = self._index[length].find(grams)
            probability *= self._backoff[length - 1][context]
            probability += self._direct[length][at]
            # the context of a longer gram is the gram of this length that ends one unit earlier
            context = np.concatenate(([-1], at[:-1])) if len(at) else at
            context[first] = self._index[length].find(_edge(length))[0]
        return probability

    def save(self, file: Path) -> None:
        """Write the model; equal counts give equal bytes."""
        sizes = [len(level.grams) for level in self._levels]
        columns = {
            "length": np.repeat(np.arange(len(sizes)), sizes).astype(np.uint8),
            "gram": np.concatenate([level.grams for level in self._levels]),
            "direct": np.concatenate([level.direct for level in self._levels]),
            "backoff": np.concatenate([level.backoff for level in self._levels]),
        }
        write_parquet(file, pa.table(columns, schema=MODEL).replace_schema_metadata({"version": _VERSION}))

    @classmethod
    def load(cls, file: Path) -> KneserNey:
        """Read what `save` wrote. Raises RunError for anything else, also for a model of another version."""
        table = read_parquet(file)
        version = (table.schema.metadata or {}).get(b"version")
        if table.schema.remove_metadata() != MODEL or version != _VERSION.encode():
            raise RunError(f"{file} is no reference model of this version", "delete it and run again")
        length = table["length"].to_numpy()
        columns = [table[name].to_numpy() for name in ("gram", "direct", "backoff")]
        bounds = np.searchsorted(length, np.arange(int(length.max(initial=0)) + 2))
        levels = [
            _Level(*(column[start:end] for column in columns))
            for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        ]
        if len(levels) < 2 or len(levels[0].grams) != 1:
            raise RunError(f"{file} is no reference model of this version", "delete it and run again")
        return cls(levels)


def _grams(codes: Hashes, place: Integers, order: int) -> list[Hashes]:
    """For lengths 0 to `order` the hash of the gram that ends at each unit, rows preceded by edges: each (N,)."""
    grams = [np.zeros(len(codes), np.uint64), codes]
    for back in range(1, order):
        earlier = np.full(len(codes), _EDGE)
        earlier[back:] = codes[: max(0, len(codes) - back)]
        grams.append(_longer(np.where(place >= back, earlier, _EDGE), grams[-1]))
    return grams


def _longer(earlier: Hashes, gram: Hashes) -> Hashes:
    return mixed((gram ^ (earlier * _STEP)) * _STEP)


def _edge(length: int) -> Hashes:
    """The gram of `length` edges, which is the context of a row's first unit."""
    gram = np.full(1, _EDGE)
    for _ in range(length - 1):
        gram = _longer(np.full(1, _EDGE), gram)
    return gram


def _estimate(grams: Sequence[Hashes], first: NDArray[np.bool_]) -> list[_Level]:
    """Levels 0 to order from the grams (each (N,)) that end at every unit; `first` marks the first of a row."""
    levels: list[_Level] = []
    at = np.arange(len(first))  # one unit a use that is counted
    contexts, left = np.zeros(0, np.uint64), np.zeros(0)  # of the grams one longer, and what they leave
    for length in range(len(grams) - 1, 0, -1):
        used, index, counts = np.unique(grams[length][at], return_index=True, return_counts=True)
        at = at[index]  # Kneser-Ney: a shorter gram counts once for every different unit seen before it
        before = grams[length - 1][at - 1]
        before[first[at]] = _edge(length - 1)[0]
        before = before if length > 1 else np.zeros(len(at), np.uint64)
        own, place = np.unique(before, return_inverse=True)
        kinds = np.bincount(place * 3 + np.minimum(counts, 3) - 1, minlength=3 * len(own)).reshape(-1, 3)
        total = np.bincount(place, weights=counts)
        discounts = _discounts(counts)
        direct = (counts - np.array((0.0, *discounts))[np.minimum(counts, 3)]) / total[place]
        # A long gram seen once is not kept, which halves the model; the shorter grams get all of its share.
        kept = counts > 1 if length > 1 else np.ones(len(counts), bool)
        given = np.array((1.0, *discounts[1:]) if length > 1 else discounts)
        levels.append(_level(used[kept], direct[kept], contexts, left))
        contexts, left = own, (kinds * given).sum(axis=1) / total
    levels.append(_level(np.zeros(0, np.uint64), np.zeros(0), contexts, left))
    return levels[::-1]


def _level(used: Hashes, direct: Floats, contexts: Hashes, left: Floats) -> _Level:
    """Grams with a share of their own, and those that are contexts of kept ones."""
    contexts, left = contexts[left < 1], left[left < 1]
    grams = np.union1d(used, contexts)
    level = _Level(grams, np.zeros(len(grams), np.float32), np.ones(len(grams), np.float32))
    level.direct[np.searchsorted(grams, used)] = direct
    level.backoff[np.searchsorted(grams, contexts)] = left
    return level


def _discounts(counts: Integers) -> tuple[float, float, float]:
    """The three discounts of modified Kneser-Ney from how many grams were seen once to four times."""
    n1, n2, n3, n4 = (int((counts == seen).sum()) for seen in (1, 2, 3, 4))
    if not min(n1, n2, n3):
        return _FALLBACK
    y = n1 / (n1 + 2 * n2)
    estimate = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    usable = all(0 < discount < limit for discount, limit in zip(estimate, (1, 2, 3), strict=True))
    return estimate if usable else _FALLBACK
