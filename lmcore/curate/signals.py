"""What can be measured on one text alone, for many texts in one pass.

Every signal of a text depends on that text only, so shards and batches can be cut anywhere. Values are rounded
to six digits: sums done in another order by another processor must not change a stored byte.

Sources: Gopher (Rae and others 2021, arXiv 2112.11446, table A1), C4 (Raffel and others 2020, arXiv 1910.10683,
section 2.2), FineWeb (Penedo and others 2024, arXiv 2406.17557), RedPajama-V2 (Weber and others 2024,
arXiv 2411.12372). What a word is: see `lmcore.curate.words`.

Legend: T texts, W words, L lines that are not blank.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.words import (
    DIGIT,
    LETTER,
    QUOTE,
    STOP,
    WIDE_STOP,
    Hashes,
    Integers,
    Split,
    gram_hashes,
    run_starts,
    split,
)

SHORT_LINE = 30  # characters, FineWeb
_DIGITS = 6
_ZLIB_LEVEL = 6

SIGNALS: dict[str, str] = {
    "n_chars": "characters of the normalised text",
    "n_words": "words (Gopher: 50 to 100,000)",
    "n_lines": "lines that are not blank",
    "mean_word_length": "characters a word (Gopher: 3 to 10)",
    "mean_sentence_words": "words a sentence; a full stop, question or exclamation mark or a paragraph ends one",
    "alpha_word_share": "share of words with at least one letter (Gopher: at least 0.8)",
    "unique_word_ratio": "different words / words, without regard to case (RedPajama rps_doc_frac_unique_words)",
    "duplicate_line_share": "share of line characters in lines that stood before in the text (Gopher: at most 0.2)",
    "short_line_share": "share of lines of at most 30 characters (FineWeb: at most 0.67)",
    "punctuation_line_share": "share of lines that end in . ! ? … a closing quote or their kin (C4; FineWeb: >= 0.12)",
    "symbol_share": "share of characters, white space apart, that are neither letter nor digit",
    "digit_share": "share of characters, white space apart, that are digits",
    "compression_ratio": "bytes after zlib (level 6) / UTF-8 bytes; low is repetitive, above 1 only for tiny texts",
    "top_2_gram_share": "share of word characters in the most frequent repeated pair of words (Gopher: at most 0.2)",
    "duplicate_5_gram_share": "share of word characters in runs of 5 words that stood before (Gopher: at most 0.15)",
    "n_sentences": "to come",
    "n_paragraphs": "to come",
    "median_word_length": "to come",
    "max_word_length": "to come",
    "hash_word_ratio": "to come",
    "ellipsis_word_ratio": "to come",
    "bullet_line_share": "to come",
    "ellipsis_line_share": "to come",
    "stop_words": "to come",
    "stop_word_share": "to come",
    "duplicate_line_count_share": "to come",
    "duplicate_paragraph_count_share": "to come",
    "duplicate_paragraph_share": "to come",
    "top_3_gram_share": "to come",
    "top_4_gram_share": "to come",
    "duplicate_6_gram_share": "to come",
    "duplicate_7_gram_share": "to come",
    "duplicate_8_gram_share": "to come",
    "duplicate_9_gram_share": "to come",
    "duplicate_10_gram_share": "to come",
    "newline_word_ratio": "to come",
    "long_line_count": "to come",
    "curly_bracket_share": "to come",
    "lorem_ipsum": "to come",
    "policy_line_share": "to come",
    "upper_word_share": "to come",
    "upper_letter_share": "to come",
    "unigram_entropy": "to come",
    "url_share": "to come",
    "whitespace_share": "to come",
    "parenthesis_share": "to come",
    "latin_share": "to come",
    "ethiopic_share": "to come",
    "cjk_share": "to come",
    "cyrillic_share": "to come",
    "other_script_share": "to come",
    "speaker_line_share": "to come",
    "timestamp_line_share": "to come",
    "question_share": "to come",
    "code_line_share": "to come",
    "instruction_share": "to come",
}
"""Name and meaning of every signal, in stored order."""

Floats = NDArray[np.float64]


def signals(texts: Sequence[str], langs: Sequence[str], kinds: Sequence[str]) -> dict[str, Floats]:
    """Every signal of SIGNALS for T normalised texts, each (T,). An empty text has 0 everywhere."""
    count = len(texts)
    if not count:
        return {name: np.zeros(0) for name in SIGNALS}
    found = split(texts)
    word_sizes = found.word_end - found.word_start  # (W,)
    n_words = _per_text(found.word_text, count)
    word_chars = _per_text(found.word_text, count, word_sizes)  # = characters that are not white space
    letters = _flag_counts(found, LETTER)
    digits = _flag_counts(found, DIGIT)

    letters_before = np.concatenate(([0], np.cumsum((found.flags & LETTER) != 0)))
    has_letter = letters_before[found.word_end] > letters_before[found.word_start]

    values = {
        "n_chars": np.fromiter(map(len, texts), np.float64, count),
        "n_words": n_words,
        "mean_word_length": _share(word_chars, n_words),
        "mean_sentence_words": n_words / np.maximum(_sentences(found, count), 1),
        "alpha_word_share": _share(_per_text(found.word_text, count, has_letter), n_words),
        "unique_word_ratio": _share(_unique_words(found, count), n_words),
        "symbol_share": _share(word_chars - letters - digits, word_chars),
        "digit_share": _share(digits, word_chars),
        "compression_ratio": np.fromiter(map(_compression, texts), np.float64, count),
        "top_2_gram_share": np.minimum(1.0, _share(_top_gram(found, count, 2), word_chars)),
        "duplicate_5_gram_share": _share(_repeated_grams(found, count, 5), word_chars),
        **_line_signals(found, count),
    }
    return {name: np.round(values.get(name, np.zeros(count)), _DIGITS) for name in SIGNALS}


def _line_signals(found: Split, count: int) -> dict[str, Floats]:
    sizes = found.line_end - found.line_start  # (L,)
    n_lines = _per_text(found.line_text, count)
    keys = _keys(found.line_text, found.line_hash)
    order = np.argsort(keys, kind="stable")  # stable: the first of equal lines is the one that stands first
    again = order[~run_starts(keys[order])]
    ended = (found.flags[found.line_end - 1] & (STOP | QUOTE)) != 0
    return {
        "n_lines": n_lines,
        "duplicate_line_share": _share(
            _per_text(found.line_text[again], count, sizes[again]), _per_text(found.line_text, count, sizes)
        ),
        "short_line_share": _share(_per_text(found.line_text, count, sizes <= SHORT_LINE), n_lines),
        "punctuation_line_share": _share(_per_text(found.line_text, count, ended), n_lines),
    }


def _sentences(found: Split, count: int) -> Floats:
    """Sentence ends of each text: stops that no letter, digit or further stop follows, and unfinished paragraphs."""
    following = np.append(found.flags[1:], np.uint8(0))
    stop = (found.flags & STOP) != 0
    alone = (following & (STOP | LETTER | DIGIT)) == 0
    wide = ((found.flags & WIDE_STOP) != 0) & ((following & STOP) == 0)
    stops = np.add.reduceat(stop & (alone | wide), found.text_start, dtype=np.int64)
    last = np.ones(len(found.line_row), bool)
    last[:-1] = (np.diff(found.line_row) > 1) | (np.diff(found.line_text) > 0)
    # finished: the line's last character is a stop, or a quote or bracket right after one
    final, before = found.flags[found.line_end - 1], found.flags[np.maximum(found.line_end - 2, 0)]
    finished = ((final & STOP) != 0) | (((before & STOP) != 0) & ((final & (LETTER | DIGIT)) == 0))
    return stops + _per_text(found.line_text, count, last & ~finished)


def _unique_words(found: Split, count: int) -> Floats:
    keys = np.sort(_keys(found.word_text, found.word_hash))
    return _per_text((keys[run_starts(keys)] >> _TEXT_SHIFT).astype(np.int64), count)


def _top_gram(found: Split, count: int, size: int) -> Floats:
    """Characters covered by each text's most covering run of `size` words that occurs more than once."""
    first, hashes = gram_hashes(found, size)
    keys = _keys(found.word_text[first], hashes)
    order = np.argsort(keys)
    ranked = keys[order]
    group = np.flatnonzero(run_starts(ranked))
    repeats = np.diff(np.append(group, len(ranked)))
    group, repeats = group[repeats > 1], repeats[repeats > 1]
    gram = first[order[group]]
    chars = np.concatenate(([0], np.cumsum(found.word_end - found.word_start)))
    best = np.zeros(count)
    np.maximum.at(best, found.word_text[gram], ((chars[gram + size] - chars[gram]) * repeats).astype(np.float64))
    return best


def _repeated_grams(found: Split, count: int, size: int) -> Floats:
    """Characters of words inside any run of `size` words that stood before in the text, each counted once."""
    first, hashes = gram_hashes(found, size)
    keys = _keys(found.word_text[first], hashes)
    order = np.argsort(keys, kind="stable")
    again = first[order[~run_starts(keys[order])]]
    edges = np.zeros(len(found.word_text) + 1, np.int64)  # +1 where a repeated run begins, -1 where it is over
    edges[again] += 1
    edges[again + size] -= 1
    inside = np.cumsum(edges[:-1]) > 0
    return _per_text(found.word_text[inside], count, (found.word_end - found.word_start)[inside])


_TEXT_SHIFT = np.uint64(44)
_HASH_SHIFT = np.uint64(20)


def _keys(texts: Integers, hashes: Hashes) -> Hashes:
    """Sort keys that keep texts apart: the text's number above 44 bits of hash (T must stay below 2^20)."""
    assert not len(texts) or int(texts[-1]) < 1 << 20, "too many texts in one batch"
    return (texts.astype(np.uint64) << _TEXT_SHIFT) | (hashes >> _HASH_SHIFT)


def _per_text(owner: Integers, count: int, weights: NDArray[np.generic] | None = None) -> Floats:
    return np.bincount(owner, weights, count).astype(np.float64)


def _flag_counts(found: Split, flag: int) -> Floats:
    return np.add.reduceat((found.flags & flag) != 0, found.text_start, dtype=np.int64).astype(np.float64)


def _share(part: Floats, whole: Floats) -> Floats:
    return part / np.maximum(whole, 1.0)


def _compression(text: str) -> float:
    data = text.encode()
    return len(zlib.compress(data, _ZLIB_LEVEL)) / len(data) if data else 0.0
