"""Untrusted text, and numbers, on their way to a terminal."""

from __future__ import annotations

# C0 and C1 control characters, but for tab and newline, move cursors, retitle windows and worse.
_CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def printable(text: str) -> str:
    """`text` with every control character but tab and newline replaced by U+FFFD."""
    return text.translate(_CONTROLS)


def number(value: float, digits: int = 6) -> str:
    """A number as people write it, whole ones in full: 100,000, 0.333333, 1,234.57; else to so many digits."""
    if abs(value) < 1e15 and (float(value).is_integer() or abs(value) >= 10 ** (digits - 1)):
        return f"{value:,.0f}"
    return f"{value:,.{digits}g}"
