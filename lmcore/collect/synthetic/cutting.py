"""Cuts a text into sentences, in Latin and Ethiopic script."""

from __future__ import annotations

import re

# ። and ፧ end a sentence wherever they stand; "፡፡" is written for ።. A full stop, question or exclamation mark does
# before a space and a capital, an Ethiopic letter, a digit or an opening quote.
_END = re.compile(
    r"(?:(?:።|፧|፨|፡፡)+[»”\"')\]]*|[.!?…]+[»”\"')\]]*(?=\s+[«„“\"'(]?[A-ZÀ-ÖØ-ÞŐŰ\u1200-\u137f0-9])|\n)\s*"
)
# What a full stop abbreviates: one letter (J. S. Bach), or a word that nobody ends a sentence with.
_SHORT = re.compile(r"(?:^|[\s(„“\"])(?:[^\W\d_]|Mr|Mrs|Ms|Dr|St|Prof|Jr|vs|No|pl|dr|ifj|id|ún|kb|ill|vö|Kr|[0-9]+)\.$")


def sentences(text: str) -> list[str]:
    """The sentences of a text, without white space around them. A line ends one too."""
    found, start = [], 0
    for end in _END.finditer(text):
        piece = text[start : end.end()]
        if "\n" not in end[0] and _SHORT.search(piece.rstrip()):
            continue
        found.append(piece.strip())
        start = end.end()
    found.append(text[start:].strip())
    return [piece for piece in found if piece]
