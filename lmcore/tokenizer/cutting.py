r"""Long texts in pieces that encode to the same ids as the whole.

`tokenizers` needs some 110 bytes of memory for a byte of text in one call, and its regex engine gives up on a run
of more than ten million whitespace characters. So a long text is handed over in pieces, cut only where both
split rules always end a word and look no further:

- before a space that follows a non-space: no alternative of either rule matches a non-space and then a space;
- between a line's single "\n" and a non-space: `[\r\n]+` and `\s+` both end there, cut or not.

A text that offers no such place for `LONGEST` characters (one endless line of Chinese, a million blanks) is cut
there all the same: no byte is lost, but a word that stood there is encoded as two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

PIECE = 65_536  # characters after which a place to cut is looked for
LONGEST = 1_000_000  # characters of a piece at most

# Python's \S is narrower than the regex engine's (U+001C to U+001F), which only makes for fewer places.
_PLACE = re.compile(r"(?<=\S)(?= )|(?<=\S\n)(?=\S)")
LINE = re.compile(r"(?<=\n)")  # for vocabularies without a token that goes on after a line's end


def pieces(text: str, place: re.Pattern[str] = _PLACE) -> list[str]:
    """The text in consecutive pieces of about `PIECE` characters, cut at a `place`; one piece when it is short."""
    cut: list[str] = []
    start = 0
    while len(text) - start > PIECE:
        limit = start + LONGEST
        found = place.search(text, start + PIECE, min(limit, len(text)))
        if found is None and len(text) <= limit:
            break
        stop = found.start() if found else limit
        cut.append(text[start:stop])
        start = stop
    cut.append(text[start:])
    return cut


def groups(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Consecutive texts in lists of together about `size` characters."""
    group: list[str] = []
    held = 0
    for text in texts:
        group.append(text)
        held += len(text)
        if held >= size:
            yield group
            group, held = [], 0
    if group:
        yield group
