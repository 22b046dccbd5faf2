"""Signals of words and characters: lengths, vocabulary, stop words, scripts, case.

Legend: T texts, W words, K different words of a text, all texts together.
"""

from __future__ import annotations

import numpy as np

from lmcore.curate.signals_scan import Floats, Groups, Scan, share
from lmcore.curate.stop_words import among, stop_word_hashes
from lmcore.curate.words import Integers
from lmcore.curate.words_tables import DIGIT, DIGITS, LETTER, LETTERS, LOWER, N_GROUPS, SCRIPTS, SYMBOL, UPPER, groups

_BLOCK = 1 << 14
_LONG = 64  # word lengths below are counted one by one; a median above is found by sorting


def word_signals(scan: Scan, words: Groups) -> dict[str, Floats]:
    """Signals of the W words, each (T,); `words` groups them by text and spelling."""
    found = scan.found
    first = words.order[words.start[:-1]]  # (K,)
    owner = found.word_text[first]
    repeats = words.repeats
    part = repeats / scan.n_words[owner]
    stops, stop_count = _stop_words(scan, first, owner, repeats)
    has_letter = (scan.word_flags & LETTER) != 0
    shouted = (scan.word_flags & (UPPER | LOWER)) == UPPER
    return {
        "n_words": scan.n_words,
        "mean_word_length": share(scan.word_chars, scan.n_words),
        "median_word_length": _medians(scan),
        "max_word_length": _longest(scan),
        "alpha_word_share": share(scan.per_text(found.word_text[has_letter]), scan.n_words),
        "upper_word_share": share(scan.per_text(found.word_text[shouted]), scan.n_words),
        "unique_word_ratio": share(scan.per_text(owner), scan.n_words),
        # + 0.0: the logarithm of 1 is 0, and a text of one word is not to have -0
        "unigram_entropy": scan.per_text(owner, -part * np.log(part)) + 0.0,
        "stop_words": stops,
        "stop_word_share": share(stop_count, scan.n_words),
    }


def character_signals(scan: Scan) -> dict[str, Floats]:
    """Shares of kinds of characters and scripts, each (T,)."""
    found = scan.found
    counts = np.zeros((scan.count, N_GROUPS))
    table = groups()
    for text, (start, size) in enumerate(
        zip(found.text_start.tolist(), scan.n_chars.astype(np.int64).tolist(), strict=True)
    ):
        for at in range(start, start + size, _BLOCK):  # a piece at a time stays in the processor's cache
            piece = table.take(found.raw[at : min(at + _BLOCK, start + size)])
            counts[text] += np.bincount(piece, minlength=N_GROUPS)
    by_script = counts[:, LETTERS::2] + counts[:, LETTERS + 1 :: 2]  # (T, scripts)
    letters = by_script.sum(axis=1)
    values = {f"{name}_share": share(by_script[:, number], letters) for number, name in enumerate(SCRIPTS)}
    values["n_chars"] = scan.n_chars
    values["symbol_share"] = share(counts[:, SYMBOL], scan.word_chars)
    values["digit_share"] = share(counts[:, DIGITS], scan.word_chars)
    values["whitespace_share"] = share(scan.n_chars - scan.word_chars, scan.n_chars)
    values["upper_letter_share"] = share(counts[:, LETTERS::2].sum(axis=1), letters)
    return values


def _medians(scan: Scan) -> Floats:
    """The middle word length of each text, the mean of the two middle ones for an even number of words."""
    keys = scan.found.word_text * _LONG
    keys += np.minimum(scan.word_size, _LONG - 1)
    below = np.cumsum(np.bincount(keys, minlength=scan.count * _LONG).reshape(scan.count, _LONG), axis=1)
    words = np.diff(scan.found.text_words)
    low = np.count_nonzero(below <= ((words - 1) // 2)[:, None], axis=1)
    high = np.count_nonzero(below <= (words // 2)[:, None], axis=1)
    middle = np.where(words > 0, (low + high) / 2, 0.0)
    for text in np.flatnonzero((words > 0) & (high >= _LONG - 1)):
        middle[text] = np.median(scan.word_size[scan.found.text_words[text] : scan.found.text_words[text + 1]])
    return middle


def _longest(scan: Scan) -> Floats:
    longest = np.zeros(scan.count)
    some = np.flatnonzero(scan.n_words)
    if len(some):
        longest[some] = np.maximum.reduceat(scan.word_size, scan.found.text_words[some])
    return longest


def _stop_words(scan: Scan, first: Integers, owner: Integers, repeats: Integers) -> tuple[Floats, Floats]:
    """How many different stop words of its language each text has, and how many words are one.

    Punctuation at a word's ends is set aside here: an Amharic sentence mostly ends in the stop word ነው and its mark.
    """
    found = scan.found
    hashes = found.word_hash[first]  # (K,)
    start, end = found.word_start[first], found.word_end[first]
    ends = LETTER | DIGIT
    wrapped = np.flatnonzero(
        ((found.flags[start] & found.flags[end - 1] & ends) == 0) & (scan.word_flags[first] & LETTER != 0)
    )
    _, inner_start, inner_end = scan.bare(start[wrapped], end[wrapped], ends)
    hashes[wrapped] = found.hashes.of(inner_start, inner_end)

    hit = np.zeros(len(first), bool)
    names = sorted(set(scan.langs))
    numbers = np.fromiter(map({name: i for i, name in enumerate(names)}.get, scan.langs), np.int64, scan.count)
    for number, name in enumerate(names):
        table = stop_word_hashes(name)
        if len(table):
            asked = np.flatnonzero(numbers[owner] == number)
            hit[asked] = among(hashes[asked], table)
    texts, total = owner[hit], scan.per_text(owner[hit], repeats[hit])
    order = np.lexsort((hashes[hit], texts))
    ranked_text, ranked_hash = texts[order], hashes[hit][order]
    new = np.ones(len(order), bool)
    new[1:] = (ranked_text[1:] != ranked_text[:-1]) | (ranked_hash[1:] != ranked_hash[:-1])
    return scan.per_text(ranked_text[new]), total
