"""Repetition inside one text by runs of 2 to 10 words (Gopher, table A1).

A run of n words can only be repeated when both runs of n - 1 words in it are. So each length looks only at what the
one before left over, and two numbers, those of its two shorter runs, name a run exactly: no hash beyond the words'.

Legend: T texts, W words.
"""

from __future__ import annotations

import numpy as np

from lmcore.curate.signals_scan import Floats, Groups, Scan, equal_pairs, share
from lmcore.curate.words import Integers

_TOP = (2, 3, 4)
_REPEATED = (5, 6, 7, 8, 9, 10)


def gram_signals(scan: Scan, words: Groups) -> dict[str, Floats]:
    """top_2 to 4 and duplicate_5 to 10 gram shares, each (T,); `words` groups the W words by text and spelling.

    The top share counts a run's characters once for each time it occurs, overlapping or not, and is at most 1; the
    duplicate share counts every word once that lies in a run of n words which stood before.
    """
    values: dict[str, Floats] = {}
    word_text = scan.found.word_text
    number = np.full(len(word_text) + 1, -1, np.int64)  # of the repeated run that begins at each word; -1: none does
    groups, items = words, np.arange(len(word_text))
    for size in range(2, 11):
        limit = _number_repeated(number, groups, items)
        items = np.flatnonzero((number[:-1] >= 0) & (number[1:] >= 0))
        if size == 2:  # longer runs overlap, so that their texts are the same
            items = items[word_text[items] == word_text[items + 1]]
        groups = equal_pairs(number[items], number[items + 1], limit)
        if size in _TOP:
            covered = np.minimum(1.0, share(_top(scan, groups, items, size), scan.word_chars))
            values[f"top_{size}_gram_share"] = covered
        if size in _REPEATED:
            again = items[groups.again()]
            values[f"duplicate_{size}_gram_share"] = share(_covered(scan, again, size), scan.word_chars)
    return values


def _number_repeated(number: Integers, groups: Groups, items: Integers) -> int:
    """Give the items of each group of two or more one number from 0, all other words -1; how many groups there are."""
    number.fill(-1)
    repeats = groups.repeats
    chosen = repeats > 1
    total = int(np.count_nonzero(chosen))
    numbers = np.full(len(repeats), -1, np.int64)
    numbers[chosen] = np.arange(total)
    number[items[groups.order]] = np.repeat(numbers, repeats)
    return max(1, total)


def _top(scan: Scan, groups: Groups, items: Integers, size: int) -> Floats:
    """Characters covered by each text's most covering run of `size` words that occurs more than once."""
    repeats = groups.repeats
    chosen = np.flatnonzero(repeats > 1)
    run = items[groups.order[groups.start[chosen]]]
    chars = (scan.chars_before[run + size] - scan.chars_before[run]) * repeats[chosen]
    best = np.zeros(scan.count)
    np.maximum.at(best, scan.found.word_text[run], chars.astype(np.float64))
    return best


def _covered(scan: Scan, again: Integers, size: int) -> Floats:
    """Characters of words inside any run of `size` words that begins at `again`, each counted once."""
    if not len(again):
        return np.zeros(scan.count)
    again = np.sort(again)
    first, last = again, again + size
    reach = np.minimum(last, np.append(first[1:], last[-1]))  # the next run counts on from where it begins
    chars = scan.chars_before[reach] - scan.chars_before[first]
    return scan.per_text(scan.found.word_text[first], chars)
