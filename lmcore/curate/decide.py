"""One verdict for every record, from columns alone: rules, synthetic texts of held-out pages, texts that are alike.

Every time all records are judged anew, so that a copy comes back when the text that it was a copy of leaves. What was
kept before comes first, on the side where it was: another night or other settings move nothing between the splits.
What was ever held out binds the texts that are like it, also while it is away: see `sides`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmcore.curate import split
from lmcore.curate.choose import Pairs
from lmcore.curate.ids import places
from lmcore.curate.mix import RULE as MIX
from lmcore.curate.parent import Parent
from lmcore.curate.records import Records
from lmcore.curate.rules import KEPT
from lmcore.curate.settle import settle
from lmcore.curate.sides import UNKNOWN
from lmcore.curate.split import SplitParams

EXACT, NEAR, HELD_OUT = "exact_duplicate", "near_duplicate", "held_out_duplicate"
BEFORE = "held_out_before"  # on another side now than where it, or one that it is like and that is away, was held out
NOBODY = -1


@dataclass(frozen=True)
class Drop:
    """Records that a later step drops, found out in an earlier round."""

    rule: str
    records: NDArray[np.int64]
    value: NDArray[np.float64]
    threshold: float


@dataclass
class Decided:
    """The verdict on each of N records, in their order. Later steps of curation drop more by `drop`."""

    rules: list[str]  # every rule that was applied, in order
    rule: NDArray[np.int16]  # (N,) index into rules, KEPT for what is kept
    value: NDArray[np.float64]  # (N,) what was measured; NaN where kept
    threshold: NDArray[np.float64]  # (N,)
    other: NDArray[np.int32]  # (N,) the record that it is alike; NOBODY where it is like none
    split: NDArray[np.int8]  # (N,) index into SPLITS: the side of its page
    cluster_size: NDArray[np.int32]  # (N,) texts alike, itself included; 0 where a rule dropped it before

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which records are kept."""
        kept: NDArray[np.bool_] = self.rule == KEPT
        return kept

    def drop(
        self,
        rule: str,
        which: NDArray[np.bool_] | NDArray[np.int64],
        value: NDArray[np.float64] | float,
        threshold: float,
    ) -> None:
        """Drop these records by a rule, what it measured and its limit."""
        if rule not in self.rules:
            self.rules.append(rule)
        self.rule[which] = self.rules.index(rule)
        self.value[which] = value
        self.threshold[which] = threshold


def decide(
    records: Records,
    pairs: Pairs,
    rules: Sequence[str],
    *,
    splitting: SplitParams,
    trusted: Sequence[str],
    parent: Parent | None,
    files: Sequence[Path],
    min_jaccard: float,
    memory_mib: int,
    weights: NDArray[np.float64],
    gone: Sequence[Drop] = (),
) -> Decided:
    """Judge every record by what is known of it; `rules` are those that judged `records`.

    Of texts that are alike stays, in this order: one kept before, one held out before, one written by people, one that
    is learnt from more often (`weights`, (N,); none of 0 stays in training), one of a source that comes first in
    `trusted`, the one with the highest quality, the longest, the lowest record id. A text that was held out, or is like
    one that was, and comes on another side stands behind all these, and is dropped where it is like none that stays.
    `files` are the measured files that `records` tells of, `gone` is what an earlier round found out. The verdict takes
    the values and thresholds of `records` for its own: the one of an earlier round counts no more.
    """
    for said in (records.value, records.threshold):  # by an earlier round, of a record that no rule of these dropped
        said[records.rule == KEPT] = np.nan
    known = places(records.ids, parent.ids) >= 0 if parent else np.zeros(len(records), bool)
    side = _sides(records, splitting, parent)
    bound, held = np.full(len(records), split.TRAIN, np.int8), np.zeros(len(records), bool)
    if parent:
        bound, held = parent.sides.bound(records.words, pairs)
    strays = (bound != split.TRAIN) & (side != bound)
    decided = Decided(
        rules=[*rules, split.RULE, EXACT, NEAR, HELD_OUT, BEFORE],
        rule=records.rule.copy(),
        value=records.value,
        threshold=records.threshold,
        other=np.full(len(records), NOBODY, np.int32),
        split=side,
        cluster_size=np.zeros(len(records), np.int32),
    )
    # Held-out text must be written by people; put into training, it would tell of its held-out page. What tells of no
    # page at all is for training.
    told = decided.kept & records.synthetic & (side != split.TRAIN)
    decided.drop(split.RULE, told, split.positions(records.page)[told], splitting.test + splitting.val)

    decided.drop(MIX, decided.kept & (weights == 0) & (side == split.TRAIN), 0.0, 1.0)
    for drop in gone:
        decided.drop(drop.rule, drop.records, drop.value, drop.threshold)

    while True:
        left = np.flatnonzero(decided.kept)
        order = np.lexsort(
            (
                np.arange(len(left)),
                -records.n_chars[left],
                -records.quality[left],
                -weights[left],
                _trust(records, trusted)[left],
                records.synthetic[left],
                np.select([strays, known, held], [3, 0, 1], 2)[left],
            )
        )
        rank = np.empty(len(left), np.int64)
        rank[order] = np.arange(len(left))
        chosen = settle(
            records.words[left],
            rank,
            pairs,
            files,
            records.file[left],
            records.row[left],
            min_jaccard=min_jaccard,
            memory_mib=memory_mib,
        )
        astray = left[(chosen.best == np.arange(len(left))) & strays[left]]
        if not len(astray):
            break
        decided.drop(BEFORE, astray, np.nan, np.nan)
    decided.cluster_size[left] = chosen.size
    best = left[chosen.best]
    copy = best != left
    decided.other[left[copy]] = best[copy]
    same = records.words[left] == records.words[best]
    crossed = (side[best] != split.TRAIN) & (side[left] != side[best])
    for name, which, limit in (
        (HELD_OUT, copy & crossed, min_jaccard),
        (EXACT, copy & ~crossed & same, 1.0),
        (NEAR, copy & ~crossed & ~same, min_jaccard),
    ):
        decided.drop(name, left[which], chosen.jaccard[which], limit)
    return decided


def _sides(records: Records, splitting: SplitParams, parent: Parent | None) -> NDArray[np.int8]:
    """The side of each record's page: where it or its texts stood before, else its source's, else by its name."""
    side = split.splits(split.positions(records.page), splitting).astype(np.int8)
    if splitting.sources:
        given = split.of_sources(splitting, records.names["source"], records.source, records.page)
        side = np.where(given < 0, side, given).astype(np.int8)
    if parent:
        known = parent.sides.of(records.page, records.words)
        side = np.where(known == UNKNOWN, side, known)
    side[records.synthetic & records.made] = split.TRAIN
    return side


def _trust(records: Records, trusted: Sequence[str]) -> NDArray[np.int64]:
    """How late a record's source comes in the list of trusted ones."""
    rank = {name: number for number, name in enumerate(trusted)}
    of_source = np.array([rank.get(name, len(trusted)) for name in records.names["source"]], np.int64)
    return of_source[records.source] if len(records) else np.zeros(0, np.int64)
