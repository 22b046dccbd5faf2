"""Cuts a text into sentences, in Latin and Ethiopic script."""

from __future__ import annotations

import re

# ። and ፧ end a sentence wherever they stand; "፡፡" is written for ።. A question or exclamation mark does before white
# space, a full stop before a capital, a digit or an opening quote too; before an Ethiopic letter (as in ዓ.ም. ...) only
# in a text without Ethiopic full stops. A line ends one as well.
_CLOSING, _OPENING = "[»”\"')\\]]*", "[«„“\"'(–]"
_END = (
    rf"(?:(?:።|፧|፨|፡፡){_CLOSING}|[!?…][.!?…]*{_CLOSING}(?=\s+(?:{_OPENING}?\s*)[A-ZÀ-ÖØ-ÞŐŰ\u1200-\u137f0-9])"
    rf"|\.+{_CLOSING}(?=\s+{_OPENING}?[A-ZÀ-ÖØ-ÞŐŰ%s0-9])|\n)\s*"
)
_WITH_MARKS, _WITHOUT = re.compile(_END % ""), re.compile(_END % "\u1200-\u137f")
_MARKS = ("።", "፡፡")
# What a full stop abbreviates: one letter (J. S. Bach), a number (3. Károly), or a word that no sentence ends with.
_SHORT = re.compile(r"(?:^|[\s(„“\"])(?:[^\W\d_]|Mr|Mrs|Ms|Dr|St|Prof|Jr|vs|No|pl|dr|ifj|id|ún|kb|ill|vö|Kr|[0-9]+)\.$")


def sentences(text: str) -> list[str]:
    """The sentences of a text, without white space around them."""
    found, start = [], 0
    ends = _WITH_MARKS if any(mark in text for mark in _MARKS) else _WITHOUT
    for end in ends.finditer(text):
        piece = text[start : end.end()]
        if "\n" not in end[0] and _SHORT.search(piece.rstrip()):
            continue
        found.append(piece.strip())
        start = end.end()
    found.append(text[start:].strip())
    return [piece for piece in found if piece]
