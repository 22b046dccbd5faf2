"""How many bytes of a text a lossy tokenizer (lower-cased, unknown words) cannot give back.

What an alignment of the text with its decoded form has in common counts as given back. No alignment finds more than
the longest common subsequence, so the charge is never too small.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

from lmcore.tokenizer.interface import Tokenizer

BITS_PER_MISSING_BYTE = 8  # log2 of the 256 bytes, see DESIGN "Tokens"

# Letters aligned at once inside a stretch of differing words; the aligner's time grows with its square.
_PIECE = 200


def missing_bytes(text: str, decoded: str) -> int:
    """UTF-8 bytes of `text` that `decoded` lacks: 0 when they are equal, at most the bytes of `text`."""
    if text == decoded:
        return 0
    words, found = _words(text), _words(decoded)
    missing = 0
    for tag, a, b, c, d in difflib.SequenceMatcher(None, words, found).get_opcodes():
        if tag in ("delete", "replace"):
            missing += _missing_letters("".join(words[a:b]), "".join(found[c:d]))
    return missing


def missing_of(tokenizer: Tokenizer, texts: Iterable[str], measured: int) -> Iterator[int]:
    """The missing bytes of each text; after `measured` bytes, by the share of those before: aligning takes time."""
    seen = lost = 0
    for text in texts:
        size = len(text.encode())
        if seen < measured:
            missing = missing_bytes(text, tokenizer.decode(tokenizer.encode(text)))
            seen, lost = seen + size, lost + missing
            yield missing
        else:
            yield round(size * lost / seen)


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+", text)


def _missing_letters(text: str, decoded: str) -> int:
    pieces = -(-len(text) // _PIECE)
    missing = len(text.encode())
    for piece in range(pieces):
        lost = text[piece * len(text) // pieces : (piece + 1) * len(text) // pieces]
        found = decoded[piece * len(decoded) // pieces : (piece + 1) * len(decoded) // pieces]
        blocks = difflib.SequenceMatcher(None, lost, found, autojunk=False).get_matching_blocks()
        missing -= sum(len(lost[block.a : block.a + block.size].encode()) for block in blocks)
    return missing
