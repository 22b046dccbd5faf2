"""Which of texts that are alike stays: no two texts that stay are alike, and each that goes names one that stays.

Texts of equal words are one group. Groups are joined by verified pairs. In the order of preference a group stays
unless it is alike one that stays already; so a chain of pairs costs no text that is like none of the kept ones, as
taking whole connected clusters would. Clusters are still told, as how many copies of a text there are.

Legend: N texts, G groups of equal words, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.ids import Ids, digests, places

Integers = NDArray[np.int64]
NONE = -1


@dataclass(frozen=True)
class Pairs:
    """P verified pairs of word sequences, by their hashes, in any order; more than one line may tell of one pair."""

    a: Ids  # (P,)
    b: Ids  # (P,)
    jaccard: NDArray[np.float64]  # (P,)

    @classmethod
    def of(cls, *tables: pa.Table) -> Pairs:
        """The pairs of tables of PAIR rows."""
        a, b = (
            np.concatenate([np.zeros(0, "S16"), *(digests(table[name]) for table in tables)])
            for name in ("a_words", "b_words")
        )
        return cls(a, b, np.concatenate([np.zeros(0), *(table["jaccard"].to_numpy() for table in tables)]))

    def __add__(self, other: Pairs) -> Pairs:
        columns = zip((self.a, self.b, self.jaccard), (other.a, other.b, other.jaccard), strict=True)
        return Pairs(*(np.concatenate(both) for both in columns))


@dataclass(frozen=True)
class Chosen:
    """What becomes of N texts."""

    best: Integers  # (N,) the text that stays and is like this one; its own index where it stays itself
    jaccard: NDArray[np.float64]  # (N,) how much the two share; 1 for equal words and for a text that stays
    cluster: Integers  # (N,) the lowest index of those connected with it by pairs, itself included
    size: Integers  # (N,) how many texts that cluster has


def choose(words: Ids, rank: Integers, pairs: Pairs) -> Chosen:
    """Choose among N texts with these hashes of their words; the lower its rank, the sooner a text stays.

    Ranks are distinct. The result depends on the set of pairs only.
    """
    count = len(words)
    hashes, group = np.unique(words, return_inverse=True)
    order = np.lexsort((rank, group))
    first = order[np.concatenate(([True], np.diff(group[order]) > 0))] if count else order  # (G,) best of each group
    left, right, shared = _edges(hashes, pairs)
    winner, value = _independent(rank[first], left, right, shared)
    of_group = np.where(winner == NONE, np.arange(len(first)), winner)
    best = first[of_group[group]] if count else np.zeros(0, np.int64)
    jaccard = np.where(winner == NONE, 1.0, value)[group] if count else np.zeros(0)
    label = _connected(len(first), left, right)[group] if count else np.zeros(0, np.int64)
    lowest = np.full(len(first), count, np.int64)
    np.minimum.at(lowest, label, np.arange(count))
    size = np.bincount(label, minlength=len(first))
    return Chosen(best, jaccard, lowest[label], size[label])


def _edges(hashes: Ids, pairs: Pairs) -> tuple[Integers, Integers, NDArray[np.float64]]:
    """Pairs between groups that are there, each in both directions."""
    a, b = places(pairs.a, hashes), places(pairs.b, hashes)
    there = (a >= 0) & (b >= 0) & (a != b)
    a, b, shared = a[there], b[there], pairs.jaccard[there]
    return np.concatenate((a, b)), np.concatenate((b, a)), np.concatenate((shared, shared))


def _independent(
    rank: Integers, left: Integers, right: Integers, shared: NDArray[np.float64]
) -> tuple[Integers, NDArray[np.float64]]:
    """For each group NONE where it stays, else the best-ranked neighbour that stays and what they share."""
    count = len(rank)
    stays = np.zeros(count, bool)
    open_ = np.ones(count, bool)
    a, b = left, right
    while len(a):
        lowest = np.full(count, np.iinfo(np.int64).max)
        np.minimum.at(lowest, a, rank[b])
        new = open_ & (rank < lowest)  # before all of its open neighbours
        stays |= new
        open_ &= ~new
        open_[a[new[b]]] = False  # neighbours of one that stays go
        alive = open_[a] & open_[b]
        a, b = a[alive], b[alive]
    stays |= open_
    winner = np.full(count, NONE, np.int64)
    value = np.ones(count)
    goes = ~stays[left] & stays[right]
    order = np.lexsort((-shared[goes], rank[right[goes]], left[goes]))
    who, by, much = left[goes][order], right[goes][order], shared[goes][order]
    head = np.concatenate(([True], np.diff(who) > 0)) if len(who) else np.zeros(0, bool)
    winner[who[head]], value[who[head]] = by[head], much[head]
    return winner, value


def _connected(count: int, left: Integers, right: Integers) -> Integers:
    """The least member of each group's connected component, by repeated minimum and pointer jumping."""
    label = np.arange(count)
    while True:
        before = label.copy()
        np.minimum.at(label, left, before[right])
        np.minimum.at(label, before[left], label[left])
        while not np.array_equal(label, label[label]):
            label = label[label]
        if np.array_equal(before, label):
            return label
