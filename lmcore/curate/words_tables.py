"""What every Unicode code point is to the word splitter and the signals, as two tables of all code points."""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
from numpy.typing import NDArray

SPACE, LETTER, DIGIT, ALONE, STOP, WIDE_STOP, QUOTE, UPPER, LOWER, QUESTION = (1 << bit for bit in range(10))
"""Bits of a code point's class; one with none of SPACE, LETTER and DIGIT is a symbol or punctuation.

ALONE: a letter that is a word by itself. STOP ends a sentence, WIDE_STOP also where no space follows, QUESTION is
a STOP that asks. UPPER: an upper-case letter, LOWER: any other letter (also of scripts without case).
"""

LATIN, CYRILLIC, ETHIOPIC, CJK, OTHER_SCRIPT = range(5)
SCRIPTS = ("latin", "cyrillic", "ethiopic", "cjk", "other_script")
BLANK, DIGITS, SYMBOL, LETTERS = range(4)
N_GROUPS = LETTERS + 2 * len(SCRIPTS)
"""Groups into which every code point falls exactly once: white space, digits, symbols, and for each script its
upper-case letters (LETTERS + 2 x script) and its other ones (one more)."""

POINT_BITS = 21
"""`table()` holds the lower-case code point in its low 21 bits and the class bits above."""

ETHIOPIC_WORD_SPACE = 0x1361
_QUESTIONS = "?？፧؟"
_STOPS = ".!…" + _QUESTIONS
_WIDE_STOPS = "。！？｡．።፧፨؟۔।॥"
_QUOTES = "\"'”’»«“‘」』"
_ALONE = ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x323AF))
_LAST_ASSIGNED = 0x323AF  # beyond lie only tags, variation selectors and private use: symbols here

# Blocks of the Unicode standard. Combining accents U+0300 to U+036F are counted as Latin, which they mostly are.
_BLOCKS = {
    LATIN: (
        (0x41, 0x24F), (0x250, 0x2AF), (0x300, 0x36F), (0x1D00, 0x1DBF), (0x1E00, 0x1EFF), (0x2C60, 0x2C7F),
        (0xA720, 0xA7FF), (0xAB30, 0xAB6F), (0xFB00, 0xFB06), (0xFF21, 0xFF5A),
    ),
    CYRILLIC: ((0x400, 0x52F), (0x1C80, 0x1C8F), (0x2DE0, 0x2DFF), (0xA640, 0xA69F)),
    ETHIOPIC: ((0x1200, 0x139F), (0x2D80, 0x2DDF), (0xAB00, 0xAB2F), (0x1E7E0, 0x1E7FF)),
    CJK: (
        *_ALONE, (0x3005, 0x3007), (0x3100, 0x312F), (0x31A0, 0x31BF),
        (0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF),  # Hangul
    ),
}  # fmt: skip


@functools.cache
def table() -> NDArray[np.uint32]:
    """(0x110000,) class bits above the lower-case code point of every code point.

    Lower case is one code point for one, so that positions stay those of the text: where `str.lower` gives two (İ),
    the first; a final sigma is a sigma.
    """
    flags = np.zeros(0x110000, np.uint32)
    lower = np.arange(0x110000, dtype=np.uint32)
    for point in range(_LAST_ASSIGNED + 1):
        character = chr(point)
        if character.isalpha():
            upper = character.isupper() or character.istitle()
            flags[point] = LETTER | (UPPER if upper else LOWER)
            if upper:
                lower[point] = ord(character.lower()[0])
        elif character.isspace():
            flags[point] = SPACE
        elif character.isnumeric():
            flags[point] = DIGIT
        elif unicodedata.category(character) in ("Mn", "Mc"):  # vowel signs belong to the word they follow
            flags[point] = LETTER  # and have no case: "É" stays upper case when it is written with two code points
    lower[ord("ς")] = ord("σ")
    for low, high in _ALONE:
        flags[low : high + 1] |= np.where(flags[low : high + 1] & LETTER, ALONE, 0).astype(np.uint32)
    flags[ETHIOPIC_WORD_SPACE] = SPACE
    for characters, bits in ((_STOPS, STOP), (_WIDE_STOPS, STOP | WIDE_STOP), (_QUESTIONS, QUESTION), (_QUOTES, QUOTE)):
        for character in characters:
            flags[ord(character)] |= bits
    result: NDArray[np.uint32] = lower | (flags << np.uint32(POINT_BITS))
    return result


@functools.cache
def groups() -> NDArray[np.uint8]:
    """(0x110000,) the group of every code point, 0 to N_GROUPS - 1."""
    flags = table() >> np.uint32(POINT_BITS)
    script = np.full(0x110000, OTHER_SCRIPT, np.uint8)
    for number, blocks in _BLOCKS.items():
        for low, high in blocks:
            script[low : high + 1] = number
    found = np.full(0x110000, SYMBOL, np.uint8)
    found[(flags & SPACE) != 0] = BLANK
    found[(flags & DIGIT) != 0] = DIGITS
    letter = (flags & LETTER) != 0
    found[letter] = LETTERS + 2 * script[letter] + ((flags[letter] & UPPER) == 0)
    return found
