"""One spelling of every text, and the name of the result.

Only what cannot be seen is changed: composition of characters, line endings, control and zero-width
characters, spaces at line ends, long runs of blank lines. Letters, punctuation, case and indentation stay.
The raw text stays in the collected artifact.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

NORMALISER_VERSION = 1
"""Raised by hand whenever `normalise` gives another result for any text; it is part of every text_id."""

MAX_BLANK_LINES = 2  # code sets functions apart by two

# every character that ends a line in the Unicode standard (section 5.8), and the CR LF pair as one
_LINE_ENDS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")

# C0 and C1 controls but tab and newline; soft hyphen; zero-width space, word joiner, byte-order mark; marks that
# only steer the display of bidirectional text; interlinear annotation; lone surrogates; the BMP's noncharacters.
# The zero-width joiner and non-joiner (U+200D, U+200C) stay: Persian, the Indic scripts and emoji spell with them.
_JUNK = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)

# spaces that differ from U+0020 only in width or in where a line may break; the ideographic space stays
_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f]")

_BLANK_LINES = re.compile(f"\n{{{MAX_BLANK_LINES + 2},}}")


def normalise(text: str) -> str:
    """`text` in NFC with plain line ends, no invisible junk, no space at line ends, at most two blank lines in a row.

    Blank lines at both ends go, so a text of white space becomes "". Indentation stays, also of the first line.
    Applying it twice changes nothing more.
    """
    text = _LINE_ENDS.sub("\n", text)
    text = _JUNK.sub("", text)
    text = _SPACES.sub(" ", text)
    text = unicodedata.normalize("NFC", text)
    text = "\n".join([line.rstrip() for line in text.split("\n")])  # linear, unlike a pattern for trailing space
    return _BLANK_LINES.sub("\n" * (MAX_BLANK_LINES + 1), text).strip("\n")


def text_id(normalised: str) -> str:
    """32 hex digits naming a normalised text: the first half of sha256(normaliser's version, newline, UTF-8 bytes)."""
    return hashlib.sha256(b"%d\n" % NORMALISER_VERSION + normalised.encode()).hexdigest()[:32]
