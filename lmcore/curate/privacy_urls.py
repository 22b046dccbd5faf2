"""Telephone numbers that are part of a URL (`/call/+36-30-123-4567`, `tel=%2B36…`, `wa.me/36…`), for what people see.

In texts such places are left alone, since a slash or an equals sign before a number mostly means something else. Of a
URL that is only shown nothing is lost by masking them, and no id or date is taken for one: a number counts that exists
in its country's plan and has its + or 00, or stands where the URL itself says that it is a telephone's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lmcore.curate.privacy_text import Span

_DIGITS = r"\d(?:(?:[-._()]{1,2}|%20|%2D)?\d){6,16}"
_END = r"(?![A-Za-z0-9])"
# a + between letters or digits is a space of a query, or arithmetic
_WITH_COUNTRY = re.compile(rf"(?<![A-Za-z0-9+])(?:\+|%2B){_DIGITS}{_END}", re.ASCII | re.IGNORECASE)
_SAID = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:tel|callto|sms|smsto|whatsapp):/{0,2}|wa\.me/|"
    r"(?:phone|phone_?number|tel|telephone|telefon|telefonszam|mobile|msisdn|whatsapp)=)"
    rf"(?P<number>{_DIGITS}){_END}",
    re.ASCII | re.IGNORECASE,
)
_SEPARATOR = re.compile(r"%20|%2D|[-._()]", re.IGNORECASE)
_PLUS = re.compile(r"\+|%2B", re.IGNORECASE)


def phones_in_urls(text: str) -> Iterator[Span]:
    """Where they are, in order and not overlapping; with their +."""
    said = {found.start("number"): found.end("number") for found in _SAID.finditer(text)}
    spans = {start: end for start, end in said.items() if _is_said(text[start:end])}
    for found in _WITH_COUNTRY.finditer(text):
        if length := _valid(found[0]):
            spans[found.start()] = found.start() + length
    yield from sorted(spans.items())


def _is_said(number: str) -> bool:
    """Whether a number said to be a telephone's is one: national with its 0, or with its country."""
    digits = _SEPARATOR.sub("", number)
    return digits.startswith("0") or _exists(digits)


def _valid(found: str) -> int:
    """How many characters of a number with + are one that exists; 0 for none. What follows it may be a year."""
    plus = _PLUS.match(found)
    start = plus.end() if plus else 0
    ends = [len(found), *(part.start() for part in reversed(list(_SEPARATOR.finditer(found, start))))]
    return next((end for end in ends if _exists(_SEPARATOR.sub("", found[start:end]))), 0)


def _exists(digits: str) -> bool:
    from phonenumbers import NumberParseException, is_valid_number, parse

    try:
        return is_valid_number(parse(f"+{digits}"))
    except NumberParseException:
        return False
