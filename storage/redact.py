"""Text on its way into a log, a journal or Prefect, without the secrets it may hold.

Blanked are, each by `***`:

- the user part of URLs (`postgresql://user:password@host`), and parameters such as `?api_key=` and `&token=`;
- what follows `Authorization: Bearer`, and what looks like a credential after `Basic` or `Bearer` elsewhere;
- what is assigned in the text to a name as below, in upper case (`PREFECT_API_KEY=abc`);
- wherever they appear, the values of environment variables whose names end in KEY, TOKEN, SECRET, PASSWORD, PASSWD,
  PASSPHRASE, CREDENTIALS, AUTH_STRING or, as a word, in PASS, PAT or PWD; and the bare passwords in such a
  `user:password` and in the URLs that any variable holds. One that is its user's name is a default and no secret: to
  blank it would take the word `prefect` out of every line;
- what `also_blank` was told: secrets that came to this process by another way.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

BLANK = "***"
ENDINGS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIALS", "AUTH_STRING")
WORDS = ("PASS", "PAT", "PWD")  # COMPAT, BYPASS and OLDPWD hold no secret
SHORTEST = 4  # characters; `CI_TOKEN=1` must not blank every 1 there is
SHORTEST_BARE = 6  # of a password alone: `user:pass` must not blank the word

# The user part ends at the last @ before the host. A password may hold a slash, although it should not; a port
# followed by a path (http://host:80/@someone) is no password.
_USER = re.compile(r"(?<=://)(?:[^\s/?#@:]*:(?!\d{1,5}/)[^\s\"'<>]*|[^\s/?#\"'<>]+)@")
# Upper case only, as environment variables are written: `key: 3` in a recipe is no secret.
_NAME = rf"\b(?:[A-Z0-9_]*(?:{'|'.join(ENDINGS)})|[A-Z0-9_]+_(?:{'|'.join(WORDS)}))"
_ASSIGNED = re.compile(f"({_NAME}" + r"""["']?[ \t]*[=:][ \t]*)("[^"\n]*"|'[^'\n]*'|[^\s,;"']+)""")
_PARAMETER = re.compile(  # a long `key` is one for an API, a short one sorts a table
    r"""(?i)([?&;](?:(?:[a-z0-9]+[-_])*(?:api[-_]?key|access[-_]?key|token|secret|password|passwd|signature)|auth|sig|pwd"""
    r"""|key(?==[^\s&#"'<>;]{16}))=)[^\s&#"'<>;]+"""
)
_HEADER = re.compile(
    r"""(?i)(\bauthorization["']?[ \t]*[:=][ \t]*["']?(?:basic|bearer|token|apikey)[ \t]+)[^\s"',;]+"""
)
_BEARER = re.compile(r"(?i)(\bbearer[ \t]+)(?=[a-z._~+/=-]*\d|[a-z._~+/=-]{20})[\w.~+/=-]{8,}")
_BASIC = re.compile(r"(?i)(\bbasic[ \t]+)([a-z0-9+/]{4,}={0,2})(?![\w+/=])")
_told = set[str]()
_PASSWORD = re.compile(r"://([^\s/?#@:]*):([^\s\"'<>]*)@")


def blank_secrets(text: str) -> str:
    """`text` with every secret in it, as said above, replaced by `***`."""
    for value in _secrets():
        text = text.replace(value, BLANK)
    text = _USER.sub(f"{BLANK}@", text)
    for pattern in (_ASSIGNED, _PARAMETER, _HEADER, _BEARER):
        text = pattern.sub(rf"\g<1>{BLANK}", text)
    return _BASIC.sub(lambda found: found[1] + BLANK if _is_pair(found[2]) else found[0], text)


def _is_pair(encoded: str) -> bool:
    """Whether this is the base64 of user:password, and not the next word of a sentence."""
    try:
        return b":" in base64.b64decode(encoded, validate=True)
    except ValueError:
        return False


def also_blank(secret: str) -> None:
    """Blank this value too from now on, in this process."""
    if len(secret) >= SHORTEST:
        _told.add(secret)


def blank_values(value: Any) -> Any:
    """A JSON value with the secrets in all its strings replaced."""
    if isinstance(value, str):
        return blank_secrets(value)
    if isinstance(value, dict):
        return {name: blank_values(item) for name, item in value.items()}
    return [blank_values(item) for item in value] if isinstance(value, (list, tuple)) else value


def _secrets() -> list[str]:
    """The environment's secrets, the longest first: one may hold another."""
    found = set(_told)
    for name, value in os.environ.items():
        if _is_secret(name.upper()):
            if len(value) >= SHORTEST:
                found.add(value)
            if name.upper().endswith("AUTH_STRING"):
                found.update(_bare(*value.partition(":")[::2]))
        for user, password in _PASSWORD.findall(value):
            found.update(_bare(user, password))
    return sorted(found, key=len, reverse=True)


def _is_secret(name: str) -> bool:
    return name.endswith(ENDINGS) or (name != "PWD" and name.rpartition("_")[2] in WORDS)


def _bare(user: str, password: str) -> Iterator[str]:
    """The password as it is written, and as it is meant."""
    if password != user:
        yield from (each for each in (password, unquote(password)) if len(each) >= SHORTEST_BARE)
