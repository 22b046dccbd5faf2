"""What the finders of personal data look at: one text, and a shadow of it that can be searched far faster.

Most text holds nothing to mask, so the time goes into ruling places out. The shadow has one byte for every code
point, with digits, capitals and the rest each written as one byte: "a digit, a point, a digit" is then a literal,
which `bytes.find` and `re` look for at gigabytes a second. What the shadow finds is checked on the text itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

Span = tuple[int, int]
"""First code point, and one past the last."""

WORD = "A-Za-z0-9À-ÖØ-öø-ɏ"
"""Inside of a character class: letters and digits that names and addresses of Latin script are made of."""

MASKS = {name: f"<{name}>" for name in ("email", "phone", "ip", "iban", "card", "secret")}
_MASK = re.compile("|".join(MASKS.values()))

_KEPT = b" ./()-+:"
_SHAPES = bytes(
    48 if 48 <= i < 58 else 65 if 65 <= i < 91 else i if i in _KEPT else 120 for i in range(256)
)  # 0 digit, A capital, the separators of numbers as they are, x anything else
_TOKENS = bytes(97 if i < 128 and (chr(i).isalnum() or chr(i) in "_-") else 32 for i in range(256))
_JOINERS = "\u200c\u200d\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"  # and the skin tones


@dataclass(frozen=True)
class Scan:
    """A text (or several, see `privacy._SEPARATOR`) and its shadows, built when first asked for."""

    text: str

    @cached_property
    def latin(self) -> bytes:
        """One byte a code point; what is not Latin-1, lone surrogates too, is a question mark."""
        return self.text.encode("latin-1", "replace")

    @cached_property
    def shapes(self) -> bytes:
        """`0` for a digit, `A` for a capital (both ASCII), ` ./()-+:` as they are, `x` for all else."""
        return self.latin.translate(_SHAPES)

    def places(self, literal: bytes) -> Iterator[int]:
        """Where `literal` begins."""
        found = self.latin.find(literal)
        while found >= 0:
            yield found
            found = self.latin.find(literal, found + len(literal))

    def long_tokens(self, least: int) -> Iterator[Span]:
        """Runs of at least `least` ASCII letters, digits, `_` and `-`."""
        tokens = self.latin.translate(_TOKENS)
        needle, end = b"a" * least, 0
        while (start := tokens.find(needle, end)) >= 0:
            end = tokens.find(b" ", start + least)
            if end < 0:
                end = len(tokens)
            yield start, end

    def before(self, place: int, length: int) -> str:
        """At most `length` characters of the same line before `place`, what is masked in them left out."""
        line = self.text[max(0, place - length) : place].rpartition("\n")[2]
        return _MASK.sub("", line)

    def stands_alone(self, start: int, end: int) -> bool:
        """Whether no letter or digit of Latin script touches the span, and no mark belongs to its last character."""
        return (start == 0 or not _touches(self.text[start - 1])) and self.ends_whole(end)

    def ends_whole(self, end: int) -> bool:
        """Whether what follows is neither such a letter nor a mark that the last character would lose."""
        return end >= len(self.text) or not (_touches(self.text[end]) or is_mark(self.text[end]))


def is_mark(character: str) -> bool:
    """Whether a character is written on the one before it: accents, variation selectors, joiners, skin tones."""
    return character > "\u02ff" and (character in _JOINERS or unicodedata.category(character)[0] == "M")


def _touches(character: str) -> bool:
    return (character < "\u0250" and character.isalnum()) or character == "_"
