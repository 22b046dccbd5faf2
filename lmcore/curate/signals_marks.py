"""Signals read from punctuation and fixed phrases: links, code, brackets, speakers, time stamps, labels, C4's phrases.

Symbols are few, so their positions are found once and everything here looks only at them.

Legend: T texts, W words, L lines that are not blank, S symbols (neither white space, letter nor digit).
"""

from __future__ import annotations

import functools

import numpy as np

from lmcore.curate.signals_scan import Bools, Floats, Groups, Scan, share
from lmcore.curate.stop_words import among, word_hashes
from lmcore.curate.words import Hashes, Integers, Points, split
from lmcore.curate.words_tables import ALONE, DIGIT, ETHIOPIC_WORD_SPACE, LETTER, SPACE

_BRACKETS = "()[]（）［］【】〔〕"
_LABEL_CHARS = 40  # a speaker's name or a label with its colon is shorter
_LABEL_WORDS = 4
_LABEL_ALONE = 12  # characters, where each is a word

# C4's phrases: one that a fast search finds, and what has to stand right before it
_POLICY = (
    (b"javascript", (b"",)),
    (b"terms of use", (b"",)),
    (b" policy", (b"privacy", b"cookie")),
    (b"cookies", (b"use ", b"uses ", b"use of ")),
)
_LOREM_IPSUM = b"lorem ipsum"

_CODE_WORDS = (
    "=", "==", "!=", "===", "!==", ":=", "+=", "-=", "*=", "/=", "|=", "<=", ">=", "->", "=>", "&&", "||", "::", "{",
    "}", "},", ");", "});", "})", "/>", "//", "/*", "*/", "<?php", "#include", "#define", "#ifdef", "#endif",
    "#!/bin/sh", "#!/bin/bash", ">>>", "def", "elif", "const", "var", "fn", "func",
)  # fmt: skip
_BRACES = np.array([ord(mark) for mark in "{}"], np.uint32)
_AFTER_CALL = np.array([ord(mark) for mark in ",:;"], np.uint32)

LABELS = (
    # English
    "instruction", "instructions", "input", "output", "response", "question", "answer", "q", "a", "prompt", "task",
    "user", "assistant", "system", "human", "ai", "bot", "explanation", "solution", "context",
    # Hungarian
    "utasítás", "bemenet", "kimenet", "válasz", "kérdés", "feladat", "megoldás", "felhasználó", "asszisztens",
    "kérdező", "magyarázat",
    # Amharic
    "መመሪያ", "ትዕዛዝ", "ጥያቄ", "መልስ", "ምላሽ", "ግብዓት", "ውጤት", "ተጠቃሚ", "ረዳት", "ማብራሪያ",
    # Japanese
    "指示", "質問", "回答", "答え", "答", "問", "問題", "入力", "出力", "解答", "応答",
    "ユーザー", "アシスタント", "説明",
)  # fmt: skip


def mark_signals(scan: Scan, words: Groups) -> dict[str, Floats]:
    """All signals of this file, each (T,); `words` groups the W words by text and spelling."""
    found = scan.found
    symbols = np.flatnonzero((found.flags & (SPACE | LETTER | DIGIT)) == 0)
    marks = found.points[symbols]
    texts = scan.texts_of(symbols)
    colons = symbols[np.isin(marks, np.array([ord(mark) for mark in ":：፦"], np.uint32))]
    return {
        "hash_word_ratio": share(scan.per_text(texts[marks == ord("#")]), scan.n_words),
        "ellipsis_word_ratio": share(_ellipses(scan, symbols, marks), scan.n_words),
        "curly_bracket_share": share(scan.per_text(texts[(marks == ord("{")) | (marks == ord("}"))]), scan.n_chars),
        "parenthesis_share": share(
            scan.per_text(texts[np.isin(marks, np.array([ord(mark) for mark in _BRACKETS], np.uint32))]), scan.n_chars
        ),
        "url_share": share(_url_chars(scan, symbols, marks), scan.word_chars),
        "code_line_share": scan.line_share(_code_lines(scan, words, symbols, marks)),
        "timestamp_line_share": scan.line_share(_timestamp_lines(scan, colons, symbols, marks)),
        **_labelled(scan, colons),
        **_phrases(scan),
    }


def _at(scan: Scan, positions: Integers, offset: int) -> Points:
    """Lower-case code points beside `positions`; 0 outside the batch."""
    moved = positions + offset
    inside = (moved >= 0) & (moved < len(scan.found.points))
    return np.where(inside, scan.found.points[np.where(inside, moved, 0)], np.uint32(0))


def _flag_at(scan: Scan, positions: Integers, offset: int, flag: int) -> Bools:
    moved = positions + offset
    inside = (moved >= 0) & (moved < len(scan.found.points))
    found: Bools = (scan.found.flags[np.where(inside, moved, 0)] & flag) != 0
    return inside & found


def _ellipses(scan: Scan, symbols: Integers, marks: Points) -> Floats:
    """`…`, and as many `...` as fit beside each other into each run of full stops."""
    dots = symbols[marks == ord(".")]
    start = np.flatnonzero(np.diff(dots, prepend=-2) != 1)
    threes = np.diff(np.append(start, len(dots))) // 3
    runs = dots[start]
    single = symbols[marks == ord("…")]
    return scan.per_text(scan.texts_of(runs), threes) + scan.per_text(scan.texts_of(single))


def _url_chars(scan: Scan, symbols: Integers, marks: Points) -> Floats:
    """Characters of words that hold `://` or begin, after any symbols, with `www.`."""
    colon = symbols[marks == ord(":")]
    links = colon[(_at(scan, colon, 1) == ord("/")) & (_at(scan, colon, 2) == ord("/"))]
    dot = symbols[marks == ord(".")]
    www = dot[(_at(scan, dot, -1) == ord("w")) & (_at(scan, dot, -2) == ord("w")) & (_at(scan, dot, -3) == ord("w"))]
    www = www[~_flag_at(scan, www, -4, LETTER | DIGIT) | _flag_at(scan, www, -4, ALONE)]
    words = np.unique(scan.words_of(np.append(links, www)))
    return scan.per_text(scan.found.word_text[words], scan.word_size[words])


def _code_lines(scan: Scan, words: Groups, symbols: Integers, marks: Points) -> Bools:
    """Lines that end in `{`, `}`, or `;` after no letter; that end a call; that have one of _CODE_WORDS as a word.

    A call: `(` right after a letter or digit somewhere, and `)` at the end or before a last `,` `:` or `;`. A `;` after
    a letter is none of code alone: verse and statutes end lines so.
    """
    found = scan.found
    final = found.points[found.line_end - 1]
    before = np.maximum(found.line_end - 2, 0)  # for a line of one character white space, or itself
    semicolon = (final == ord(";")) & (found.line_end - found.line_start > 1)
    code: Bools = np.isin(final, _BRACES) | (semicolon & ((found.flags[before] & LETTER) == 0))
    opened = symbols[marks == ord("(")]
    opened = opened[_flag_at(scan, opened, -1, LETTER | DIGIT)]
    closed = (final == ord(")")) | (np.isin(final, _AFTER_CALL) & (found.points[before] == ord(")")))
    calls = scan.lines_of(opened)
    code[calls[closed[calls]]] = True
    hit = among(found.word_hash[words.order[words.start[:-1]]], _code_hashes())
    chosen = words.order[np.repeat(hit, words.repeats)]
    code[np.searchsorted(found.line_word, chosen, "right") - 1] = True
    return code


def _timestamp_lines(scan: Scan, colons: Integers, symbols: Integers, marks: Points) -> Bools:
    """Lines that begin with a time (12:34, [00:12.50], 1:02:03), or hold the arrow of SubRip and WebVTT."""
    found = scan.found
    stamped = np.zeros(len(found.line_start), bool)
    lines = scan.lines_of(colons)
    time = colons - found.line_start[lines] <= 3
    for offset in (-1, 1, 2):
        time &= _flag_at(scan, colons, offset, DIGIT)
    time &= ~_flag_at(scan, colons, 3, DIGIT)
    stamped[lines[time]] = True
    dash = symbols[marks == ord(">")]
    arrows = dash[(_at(scan, dash, -1) == ord("-")) & (_at(scan, dash, -2) == ord("-"))]
    stamped[scan.lines_of(arrows)] = True
    return stamped


def _labelled(scan: Scan, colons: Integers) -> dict[str, Floats]:
    """Lines that begin with a name, a colon and more, or open speech; lines that begin with a known label."""
    found = scan.found
    wordspaces = np.flatnonzero(found.points == ETHIOPIC_WORD_SPACE) if np.any(found.points > 0x1200) else colons[:0]
    speakers = np.isin(found.points[found.line_start], np.array([ord(mark) for mark in "–—―「『"], np.uint32))
    lines, colon = _first_in_line(scan, colons)
    start = found.line_start[lines]
    words = scan.words_of(colon) - found.line_word[lines]
    short = (words < _LABEL_WORDS) | (colon - start <= _LABEL_ALONE)
    named = short & _flag_at(scan, start, 0, LETTER) & (colon - start < _LABEL_CHARS) & (colon > start)
    wide = found.points[colon] != ord(":")
    named &= (colon + 1 < found.line_end[lines]) & (wide | _flag_at(scan, colon, 1, SPACE))
    speakers[lines[named]] = True

    # in Amharic a word space often does a colon's work
    lines, colon = _first_in_line(scan, np.sort(np.append(colons, wordspaces)))
    start = found.line_start[lines]
    near = (colon > start) & (colon - start < _LABEL_CHARS) & (colon <= found.line_end[lines])
    lines, start, colon = lines[near], start[near], colon[near]
    labelled = np.zeros(len(found.line_start), bool)
    labelled[lines[_are_labels(scan, start, colon)]] = True
    # a heading without a colon: "### Response"
    headings = np.flatnonzero(found.line_end - found.line_start < _LABEL_CHARS)
    headings = headings[_at(scan, found.line_start[headings], 0) == ord("#")]
    labelled[headings[_are_labels(scan, found.line_start[headings], found.line_end[headings])]] = True
    return {"speaker_line_share": scan.line_share(speakers), "instruction_share": scan.line_share(labelled)}


def _first_in_line(scan: Scan, positions: Integers) -> tuple[Integers, Integers]:
    """Lines that have one of the ascending positions, and the first in each."""
    lines = scan.lines_of(positions)
    first = np.ones(len(lines), bool)
    first[1:] = lines[1:] != lines[:-1]
    first &= lines >= 0
    return lines[first], positions[first]


def _are_labels(scan: Scan, start: Integers, end: Integers) -> Bools:
    """Whether the pieces from `start` to `end`, without what is no letter at both ends, are labels."""
    some, first, last = scan.bare(start, end, LETTER)
    labels = np.zeros(len(start), bool)
    labels[some] = among(scan.found.hashes.of(first, last), _label_hashes())
    return labels


def _phrases(scan: Scan) -> dict[str, Floats]:
    """The lines and phrases that make C4 drop a line or page (Raffel and others 2020, section 2.2)."""
    text = np.minimum(scan.found.points, 0xFF).astype(np.uint8).tobytes()
    policy = np.zeros(len(scan.found.line_start), bool)
    for phrase, before in _POLICY:
        policy[scan.lines_of(_finds(text, phrase, before))] = True
    return {
        "policy_line_share": scan.line_share(policy),
        "lorem_ipsum": scan.per_text(scan.texts_of(_finds(text, _LOREM_IPSUM, (b"",)))),
    }


def _finds(text: bytes, phrase: bytes, before: tuple[bytes, ...]) -> Integers:
    """Where the last character of `phrase` stands after one of `before` (its first may be a space)."""
    found = []
    longest = max(map(len, before))
    at = text.find(phrase)
    while at >= 0:
        if text[max(0, at - longest) : at].endswith(before):
            found.append(at + len(phrase) - 1)
        at = text.find(phrase, at + len(phrase))
    return np.array(found, np.int64)


@functools.cache
def _code_hashes() -> Hashes:
    return word_hashes(sorted(set(_CODE_WORDS)))


@functools.cache
def _label_hashes() -> Hashes:
    return np.sort(split(sorted(set(LABELS))).line_hash)
