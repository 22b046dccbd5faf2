"""E-mail addresses: from every @ forward to a domain that exists, then back to where the name begins."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from lmcore.curate.privacy_text import WORD, Scan, Span

_LONGEST_NAME = 64  # RFC 5321, 4.5.3.1.1
_DOMAIN = re.compile(rf"(?:[{WORD}](?:[{WORD}-]{{0,61}}[{WORD}])?\.){{1,8}}[{WORD}-]{{2,63}}")
_NAME = re.compile(rf"[{WORD}\u0300-\u036f_](?:[{WORD}\u0300-\u036f_.+%-]{{0,62}}[{WORD}\u0300-\u036f_+-])?\Z")
_IN_URL = re.compile(r"://[^\s/@]*\Z")
_RESERVED = {"example", "test", "invalid", "localhost", "local", "localdomain"}  # RFC 2606, RFC 6761, RFC 6762
_EXAMPLES = {"example.com", "example.org", "example.net", "example.edu"}
_LOGINS = {"git", "hg", "svn"}  # git@host:path is how everybody logs in there


def emails(scan: Scan) -> Iterator[Span]:
    """Addresses of people. Those of example domains, logins of code hosts and names in URLs are none."""
    for sign in (b"@", b"%40"):
        for place in scan.places(sign):
            found = _address(scan, place, place + len(sign))
            if found:
                yield found


def _address(scan: Scan, sign: int, after: int) -> Span | None:
    text = scan.text
    domain = _DOMAIN.match(text, after)
    if domain is None:
        return None
    name = _NAME.search(text, max(0, sign - _LONGEST_NAME), sign)
    if name is None:
        return None
    host = _existing(domain[0])
    end = after + len(host)
    if not host or not scan.ends_whole(end):
        return None
    if name[0].lower() in _LOGINS or _IN_URL.search(text, max(0, name.start() - 80), name.start()):
        return None
    return name.start(), end


def _existing(domain: str) -> str:
    """As much of `domain` as ends in a top-level domain; "" when none is left or when it is an example's."""
    labels = domain.rstrip("-").split(".")
    known = _top_level()
    while len(labels) > 1:
        last = labels[-1].lower()
        if last in known:
            host = ".".join(labels)
            short = ".".join(labels[-2:]).lower()
            return "" if short in _EXAMPLES or last in _RESERVED else host
        if last in _RESERVED:
            return ""
        labels.pop()
    return ""


@functools.cache
def _top_level() -> frozenset[str]:
    """Every top-level domain of the Public Suffix List, as the package `tld` brings it."""
    from tld.utils import get_tld_names

    tries: Iterable[Any] = (get_tld_names() or {}).values()
    return frozenset(name for trie in tries for name in trie.root.children)
