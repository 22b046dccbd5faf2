"""UTF-8 that was read as something else, set right by ftfy (Speer 2019) where that is certain.

Only lines that hold such characters are looked at, each by itself, so code and good text are not changed.
"""

from __future__ import annotations

import re

_SURROGATES = re.compile("[\ud800-\udfff]")


def repair(text: str) -> str:
    """`text` with lines of mojibake decoded, other lines as they are."""
    if text.isascii():
        return text
    return "\n".join([line if line.isascii() else _repair_line(line) for line in text.split("\n")])


def _repair_line(line: str) -> str:
    import ftfy
    from ftfy.badness import badness

    line = _SURROGATES.sub("", line)
    before = badness(line)
    if not before:
        return line
    repaired = ftfy.fix_encoding(line, _config())
    return repaired if badness(repaired) < before and len(repaired) < len(line) else line


def _config():  # type: ignore[no-untyped-def]
    from ftfy import TextFixerConfig

    return TextFixerConfig(replace_lossy_sequences=False, explain=False)
