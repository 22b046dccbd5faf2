"""Telephone numbers, judged by Google's `phonenumbers`: international ones always, national ones by region."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lmcore.curate.privacy_text import Scan, Span

_INTERNATIONAL = re.compile(rb"\+\(?0")
_NATIONAL = re.compile(rb"[(]?0[0 ./()-]{5,120}0")
_LEAST_DIGITS = 7  # of a national number with its area code
_WINDOW = re.compile(r"\+\(?\d(?:[ ().\-/]{0,2}\d){6,17}", re.ASCII)
_DECIMAL = re.compile(r"[+]?\d+\.\d+")
_CALCULATED = re.compile(r"[.,:/]?\d|\s*[*^=%]")
_JOINED = (*"0123456789.,+*/=^-#",)
_SEPARATED = re.compile(r"\d[ ().\-/]+\d")
# what numbers of other things are called, right before them
_OTHER = re.compile(
    r"(?:[#$€£¥§=<>~^*%]|\b(?:bug|issue|pr|isbn(?:-1[03])?|issn|rfc|pmid|doi|id|ean|gtin|version|line|lines|port|"
    r"page|pages|pp|cve|art|no|nr|número|szám|azonosító)[.:]?)[ (]*\Z",
    re.IGNORECASE,
)


def phones(scan: Scan, regions: Sequence[str]) -> Iterator[Span]:
    """Numbers that exist in their country's plan.

    National ones are looked for in the plans of `regions` and must be written in groups, as there is nothing else to
    tell them from other numbers by; without `regions` only those with + and country are found.
    """
    from phonenumbers import Leniency

    for shape in _INTERNATIONAL.finditer(scan.shapes):
        window = _WINDOW.match(scan.text, shape.start())
        if window and scan.text[max(0, window.start() - 1) : window.start()] != ")":
            yield from _matches(scan, window.start(), window.end(), "ZZ", Leniency.VALID)
    for region in regions:
        for shape in _NATIONAL.finditer(scan.shapes):
            start, end = shape.span()
            if scan.shapes.count(b"0", start, end) < _LEAST_DIGITS:
                continue
            if _SEPARATED.search(scan.text, start, end) and scan.shapes[max(0, start - 1) : start] not in (b".", b"+"):
                yield from _matches(scan, start, end, region, Leniency.STRICT_GROUPING)


def _matches(scan: Scan, start: int, end: int, region: str, leniency: int) -> Iterator[Span]:
    from phonenumbers import PhoneNumberMatcher

    if _OTHER.search(scan.before(start, 16)):
        return
    for match in PhoneNumberMatcher(scan.text[start:end], region, leniency=leniency, max_tries=64):
        first, last = start + match.start, start + match.end
        if region != "ZZ" and _SEPARATED.search(match.raw_string) is None:
            continue
        if _DECIMAL.fullmatch(match.raw_string) or _CALCULATED.match(scan.text, last):
            continue
        if scan.text[max(0, first - 1) : first] not in _JOINED and scan.stands_alone(first, last):
            yield first, last
