"""Internet addresses, bank accounts (IBAN) and payment cards: numbers that prove themselves by form or checksum."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterator

from stdnum import iban, isbn, luhn, numdb

from lmcore.curate.privacy_text import Scan, Span

_V4_SHAPE = re.compile(rb"0\.0{1,3}\.0{1,3}\.0{1,3}")
_V6_SHAPE = re.compile(rb"0[0Ax]{3}:[0Ax]{0,4}:")
_V6 = re.compile(r"[23][0-9a-fA-F]{3}(?::{1,2}[0-9a-fA-F]{1,4}){1,7}(?:::)?")
_VERSION = re.compile(
    r"(?:\b(?:v|v8|deps|ver|vers|version|versions|release|released|rev|revision|build|since|until|"
    r"sections?|sect|sec|chapter|clause|appendix|table|figure|fig|rfc|oid|firmware|driver|verzió|kiadás|fejezet)\.?"
    r"|[§=<>~^]|バージョン|版)[\s:=\"'(]*\Z|"
    r"\b(?:(?:up|down)(?:grad|dat)(?:e[ds]?|ing)|patch(?:e[ds])?|bump(?:s|ed)?)\b[^\n]{0,40}\Z",
    re.IGNORECASE,
)
_ADDRESS = re.compile(
    r"(?:\b(?:ip|ips|ipv4|addr|address|addresses|host|hosts|server|nameserver|dns|gateway|proxy|peer|client|"
    r"ping|ssh|telnet|route|inet|listen|bind|remote|received|login|cím|címe|kiszolgáló)\b|アドレス|://|@)"
    r"[^\n]{0,16}\Z",
    re.IGNORECASE,
)
_SMALL = 32  # version and section numbers reach it in one place at most; 99 of 100 addresses do in two or more
_DECIMAL_BEFORE = re.compile(r"(?<![\d.])\d*\.\d+[\s,]+\Z")  # "2.12 3.51.98.32" are numbers of a drawing
# Public resolvers and the counting address: written in half of all manuals, they lead to nobody.
_EVERYBODYS_4 = ("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "208.67.222.222", "208.67.220.220", "1.2.3.4")
_EVERYBODYS_6 = ("2001:4860:4860::8888", "2001:4860:4860::8844", "2606:4700:4700::1111", "2606:4700:4700::1001")
_EVERYBODYS = frozenset(map(ipaddress.ip_address, _EVERYBODYS_4 + _EVERYBODYS_6))

_IBAN_SHAPE = re.compile(rb"AA00[ A0]")
_IBAN = re.compile(r"[A-Z]{2}\d\d(?: ?[A-Z0-9]){11,30}", re.ASCII)

_CARD_SHAPE = re.compile(rb"00(?:0{11,17}|0{2}(?:[ -]0{4}){3}(?:[ -]0{3})?|00[ -]0{6}[ -]0{5})")
# First digits and lengths by network, from the networks' public ranges (ISO/IEC 7812): Visa, Mastercard, American
# Express, Discover, Diners Club, JCB, UnionPay, Maestro.
_NETWORKS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|"
    r"6(?:011|5\d\d|4[4-9]\d)\d{12}|3(?:0[0-5]|[689]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14}|"
    r"(?:5018|5020|5038|6304|6759|676[1-3])\d{12}"
)
_LISTED = re.compile(r"(?:[\[(,;]|\d)\s*\Z")
_CARD_WORD = re.compile(
    r"\b(?:card|cards|cc|credit|debit|visa|mastercard|amex|payment|pan)\b|american express|kártya|カード|ካርድ",
    re.IGNORECASE,
)
_NOT_A_CARD = re.compile(r"(?:[.,#$]|\b(?:0x|isbn|issn|ean|gtin|id|imei|bug|serial)\W{0,3})\Z", re.IGNORECASE)


def addresses(scan: Scan) -> Iterator[Span]:
    """Internet addresses, version 4 and 6, that lead somewhere in public; version and section numbers are none."""
    yield from _version_4(scan)
    yield from _version_6(scan)


def _version_4(scan: Scan) -> Iterator[Span]:
    for shape in _V4_SHAPE.finditer(scan.shapes):
        start, end = shape.span()
        while start and scan.shapes[start - 1] == 48:
            start -= 1
        # a longer number, another point and digit, or a hyphen: OIDs, versions, names of packages
        before, after = scan.shapes[max(0, start - 1) : start], scan.shapes[end : end + 2]
        if before in (b".", b"-", b"+") or after in (b".0", b"-0", b"-x", b"-A") or after[:1] == b"+":
            continue
        literal = scan.text[start:end]
        if scan.stands_alone(start, end) and _public(literal) and not _is_version(scan, start, literal):
            yield start, end


def _public(literal: str) -> bool:
    try:
        address = ipaddress.ip_address(literal)
    except ValueError:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address in _EVERYBODYS)


def _is_version(scan: Scan, start: int, literal: str) -> bool:
    context = scan.before(start, 40)
    if _VERSION.search(context) or _DECIMAL_BEFORE.search(context):
        return True
    small = sum(int(part) >= _SMALL for part in literal.split(".")) < 2
    return (small or literal.endswith(".0")) and _ADDRESS.search(context) is None


def _version_6(scan: Scan) -> Iterator[Span]:
    end = 0
    for shape in _V6_SHAPE.finditer(scan.shapes):
        found = _V6.match(scan.text, shape.start())
        if found is None or found.start() < end:
            continue
        start, end = found.span()
        network = found[0].endswith("::") and scan.text[end : end + 1] == "/"
        if network or (start and scan.text[start - 1] in ":."):
            continue
        if scan.stands_alone(start, end) and scan.text[end : end + 1] != ":" and _public(found[0]):
            yield start, end


def ibans(scan: Scan) -> Iterator[Span]:
    """Bank accounts whose country, length and check digits (ISO 13616) are right, written in one or in groups."""
    for shape in _IBAN_SHAPE.finditer(scan.shapes):
        found = _IBAN.match(scan.text, shape.start())
        if found is None or (found.start() and scan.text[found.start() - 1].isalnum()):
            continue
        # in capitals the next words look like more of it, but a country's accounts all have one length
        end = _after(scan.text, found.start(), _iban_length(found[0][:2]))
        whole = found.start() < end <= found.end() and scan.stands_alone(found.start(), end)
        if whole and iban.is_valid(scan.text[found.start() : end]):
            yield found.start(), end


@functools.cache
def _iban_length(country: str) -> int:
    """Characters of an account of that country without spaces, 0 where none is registered; as `stdnum` has it."""
    parts = numdb.get("iban").info(country)[0][1].get("bban", "")
    return sum(map(int, re.findall(r"\d+", parts))) + 4 if parts else 0


def _after(text: str, start: int, length: int) -> int:
    """Where `length` characters that are not spaces end."""
    end = start
    while length and end < len(text):
        length -= text[end] != " "
        end += 1
    return end


def cards(scan: Scan) -> Iterator[Span]:
    """Payment cards: a network's first digits and length, in a card's groups or in one, and Luhn's check digit."""
    for shape in _CARD_SHAPE.finditer(scan.shapes):
        start, end = shape.span()
        digits = scan.text[start:end].replace(" ", "").replace("-", "")
        if not (_NETWORKS.fullmatch(digits) and luhn.is_valid(digits) and len(set(digits)) > 1):
            continue
        if not scan.stands_alone(start, end) or _more_digits(scan, start, end, digits):
            continue
        if _NOT_A_CARD.search(scan.before(start, 12)) or isbn.is_valid(digits):
            continue
        # one number in ten has a right check digit: in a list of numbers, or of a rare length, a word must tell
        bare = len(digits) == end - start
        rare = len(digits) in (13, 19) or _LISTED.search(scan.before(start, 8)) is not None
        if bare and rare and _CARD_WORD.search(scan.before(start, 60)) is None:
            continue
        yield start, end


def _more_digits(scan: Scan, start: int, end: int, digits: str) -> bool:
    """Whether the digits go on behind a separator: then this is a part of something else."""
    separators = (b"-", b".", b"/", b":") if len(digits) == end - start else (b" ", b"-", b".", b"/", b":")
    around = (scan.shapes[max(0, start - 2) : start], scan.shapes[end : end + 2])
    return any(len(two) == 2 and 48 in two and two.strip(b"0") in separators for two in around)
