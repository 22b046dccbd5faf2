"""Texts of made-up words, each unlike every other."""

from __future__ import annotations

import random

_FIRST = ("am", "bir", "ced", "del", "em", "fro", "gro", "hav", "in", "jas", "kel", "lar", "mea", "nor", "och", "per")
_LAST = ("ber", "ch", "ar", "ta", "ble", "st", "ve", "en", "let", "per", "ow", "ket", "dow", "th", "re", "ly")
WORDS = [first + last for first in _FIRST for last in _LAST]
LINKS = (" of the", " and", " in", ",", " to", " with a")


def sentence(number: int, place: int) -> str:
    """A sentence that no other text has."""
    draw = random.Random(f"{number} {place}")
    words = " ".join(draw.choice(WORDS) + draw.choice(LINKS) for _ in range(9))
    return f"{words.capitalize()} the end {number}."


def text_of(number: int) -> str:
    """A text of a page, long enough for every rule of curation; no two share a passage."""
    return "\n".join(sentence(number, place) for place in range(6 + number % 4))
