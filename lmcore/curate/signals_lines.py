"""Signals of lines, paragraphs and sentences.

Legend: T texts, L lines that are not blank, G paragraphs.
"""

from __future__ import annotations

import numpy as np

from lmcore.curate.signals_scan import Floats, Scan, equal_groups, share
from lmcore.curate.words import Integers, Split
from lmcore.curate.words_tables import DIGIT, LETTER, QUESTION, QUOTE, STOP, WIDE_STOP

SHORT_LINE = 30  # characters, FineWeb
LONG_LINE = 200  # characters, mC4

# The bullets of RedPajama-V2 and the "-" and "*" of plain text. A dash (– —) is none: it opens speech in Hungarian.
_BULLETS = np.array([ord(mark) for mark in "-*•‣▶◀◦■□▪▫·・●○➤►"], np.uint32)


def line_signals(scan: Scan) -> dict[str, Floats]:
    """Signals of the L lines, each (T,)."""
    found = scan.found
    sizes = found.line_end - found.line_start
    again = equal_groups(found.line_text, found.line_hash).again()
    final = found.line_end - 1
    dots = (found.points[final] == ord(".")) & (sizes >= 3)
    for back in (1, 2):
        dots &= found.points[np.maximum(final - back, 0)] == ord(".")
    ellipsis = dots | (found.points[final] == ord("…"))
    newlines = found.text_rows - 1
    return {
        "n_lines": scan.n_lines,
        "duplicate_line_count_share": share(scan.per_text(found.line_text[again]), scan.n_lines),
        "duplicate_line_share": share(
            scan.per_text(found.line_text[again], sizes[again]), scan.per_text(found.line_text, sizes)
        ),
        "short_line_share": scan.line_share(sizes <= SHORT_LINE),
        "long_line_count": scan.per_text(found.line_text[sizes >= LONG_LINE]),
        "punctuation_line_share": scan.line_share((found.flags[final] & (STOP | QUOTE)) != 0),
        "bullet_line_share": scan.line_share(np.isin(found.points[found.line_start], _BULLETS)),
        "ellipsis_line_share": scan.line_share(ellipsis),
        "newline_word_ratio": share(newlines.astype(np.float64), scan.n_words),
    }


def paragraph_signals(scan: Scan) -> dict[str, Floats]:
    """Signals of the G paragraphs, each (T,)."""
    found = scan.found
    first = found.paragraph_line
    last = np.append(first[1:], len(found.line_start))[: len(first)] - 1
    start, end = found.line_start[first], found.line_end[last]
    owner = found.line_text[first]
    again = equal_groups(owner, found.hashes.of(start, end)).again()
    count = scan.per_text(owner)
    return {
        "n_paragraphs": count,
        "duplicate_paragraph_count_share": share(scan.per_text(owner[again]), count),
        "duplicate_paragraph_share": share(
            scan.per_text(owner[again], (end - start)[again]), scan.per_text(owner, end - start)
        ),
    }


def sentence_signals(scan: Scan) -> dict[str, Floats]:
    """Sentences end at stops that no letter, digit or further stop follows, and at unfinished paragraphs."""
    found = scan.found
    ends = _sentence_ends(found)
    texts = scan.texts_of(ends)
    last = np.append(found.paragraph_line[1:], len(found.line_start))[: len(found.paragraph_line)] - 1
    # finished: the line's last character is a stop, or a quote or bracket right after one
    final = found.flags[found.line_end[last] - 1]
    before = found.flags[np.maximum(found.line_end[last] - 2, 0)]
    finished = ((final & STOP) != 0) | (((before & STOP) != 0) & ((final & (LETTER | DIGIT)) == 0))
    sentences = scan.per_text(texts) + scan.per_text(found.line_text[last[~finished]])
    asked = (found.flags[ends] & QUESTION) != 0
    return {
        "n_sentences": sentences,
        "mean_sentence_words": share(scan.n_words, sentences),
        "question_share": share(scan.per_text(texts[asked]), sentences),
    }


def _sentence_ends(found: Split) -> Integers:
    stops = np.flatnonzero((found.flags & STOP) != 0)
    following = np.append(found.flags, np.uint16(0))[stops + 1]
    alone = (following & (STOP | LETTER | DIGIT)) == 0
    wide = ((found.flags[stops] & WIDE_STOP) != 0) & ((following & STOP) == 0)
    ends: Integers = stops[alone | wide]
    return ends
