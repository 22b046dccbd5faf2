"""Untrusted text on its way to a terminal."""

from __future__ import annotations

# C0 and C1 control characters, but for tab and newline, move cursors, retitle windows and worse.
_CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def printable(text: str) -> str:
    """`text` with every control character but tab and newline replaced by U+FFFD."""
    return text.translate(_CONTROLS)
