"""Text on its way into a log, a journal or Prefect, without the secrets it may hold.

Blanked are, each by `***`: the user part of URLs (`postgresql://user:password@host`), the values of environment
variables whose names end in KEY, TOKEN, SECRET, PASSWORD or AUTH_STRING wherever they appear, and what is assigned
to such a name in the text itself (`PREFECT_API_KEY=abc`).
"""

from __future__ import annotations

import os
import re
from typing import Any

BLANK = "***"
ENDINGS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "AUTH_STRING")
SHORTEST = 4  # characters; `CI_TOKEN=1` must not blank every 1 there is

# The user part ends at the last @ before the host. A password may hold a slash, although it should not; a port
# followed by a path (http://host:80/@someone) is no password.
_USER = re.compile(r"(?<=://)(?:[^\s/?#@:]*:(?!\d{1,5}/)[^\s\"'<>]*|[^\s/?#\"'<>]+)@")
# Upper case only, as environment variables are written: `key: 3` in a recipe is no secret.
_NAME = rf"\b[A-Z0-9_]*(?:{'|'.join(ENDINGS)})"
_ASSIGNED = re.compile(f"({_NAME}" + r"""["']?[ \t]*[=:][ \t]*)("[^"\n]*"|'[^'\n]*'|[^\s,;"']+)""")


def blank_secrets(text: str) -> str:
    """`text` with every secret in it, as said above, replaced by `***`."""
    for value in _secrets():
        text = text.replace(value, BLANK)
    return _ASSIGNED.sub(rf"\g<1>{BLANK}", _USER.sub(f"{BLANK}@", text))


def blank_values(value: Any) -> Any:
    """A JSON value with the secrets in all its strings replaced."""
    if isinstance(value, str):
        return blank_secrets(value)
    if isinstance(value, dict):
        return {name: blank_values(item) for name, item in value.items()}
    return [blank_values(item) for item in value] if isinstance(value, (list, tuple)) else value


def _secrets() -> list[str]:
    """The environment's secrets, the longest first: one may hold another."""
    named = (value for name, value in os.environ.items() if name.upper().endswith(ENDINGS))
    return sorted({value for value in named if len(value) >= SHORTEST}, key=len, reverse=True)
