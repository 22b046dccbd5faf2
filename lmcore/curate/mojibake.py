"""UTF-8 that was read as another encoding, set right by ftfy (Speer 2019) where that is certain.

Each line is looked at by itself, and only one with sequences that good text hardly has. A repair must leave fewer of
them and fewer characters, so ASCII, code and good text stay as they are. A line that quotes mojibake among good text,
as documentation of encodings does, may be changed: that is why a recipe must ask for it.
"""

from __future__ import annotations

import re

_SURROGATES = re.compile("[\ud800-\udfff]")


def repair(text: str) -> str:
    """`text` with its lines of mojibake decoded, the other lines as they are. Lone surrogates may go."""
    if text.isascii():
        return text
    return "\n".join([line if line.isascii() else _repair_line(line) for line in text.split("\n")])


def _repair_line(line: str) -> str:
    from ftfy import fix_encoding  # takes 50 ms to import: only for who asks for it
    from ftfy.badness import badness

    line = _SURROGATES.sub("", line)
    bad = badness(line)
    if not bad:
        return line
    repaired = fix_encoding(line, replace_lossy_sequences=False, explain=False)  # lossy ones would become U+FFFD
    return repaired if len(repaired) < len(line) and badness(repaired) < bad else line
