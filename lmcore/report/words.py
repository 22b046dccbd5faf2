"""Numbers and untrusted text as a person reads them."""

from __future__ import annotations

import math
import re
from typing import Any

from markupsafe import Markup

from storage.text import number

# Control characters, and marks that turn the direction of the text around them: in a report they only deceive.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
MISSING = "–"


def clean(value: Any) -> Any:
    """Text without invisible controls and lone surrogates (each becomes U+FFFD); all else unchanged."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _INVISIBLE.sub("�", value).encode("utf-8", "replace").decode()


def clip(value: Any, length: int) -> str:
    """At most `length` characters of text, with a mark where the rest was cut."""
    text = str(value)
    return text if len(text) <= length else text[: max(0, length - 1)].rstrip() + "…"


def count(value: float | None) -> str:
    """A whole number with separators: 12,345."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:,.0f}"


def short(value: float | None) -> str:
    """A number in three digits and a unit: 1.31M."""
    if value is None or not math.isfinite(value):
        return MISSING
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def real(value: float | None, digits: int = 3) -> str:
    """A number with a fixed number of decimals."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def percent(value: float | None, digits: int = 0) -> str:
    """A share as a percentage."""
    return MISSING if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def size(n_bytes: float | None) -> str:
    """A number of bytes in units of 1,000: 1.2 MB."""
    if n_bytes is None or not math.isfinite(n_bytes):
        return MISSING
    for unit, limit in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= limit * 0.9995:
            return f"{n_bytes / limit:.3g} {unit}"
    return f"{n_bytes:.0f} bytes"


def duration(seconds: float | None) -> str:
    """A length of time: 63 ms, 2.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 0.0995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def plain(value: Any) -> str:
    """Any JSON value in one short line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value, 4)
    if value is None:
        return MISSING
    if isinstance(value, (list, tuple)):
        return clip(", ".join(plain(item) for item in value), 200)
    return clip(value, 200)


def listed(names: list[str]) -> str:
    """Names as a sentence has them: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
