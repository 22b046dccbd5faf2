"""Under what licence code is: a file's own SPDX line, or the licence file nearest above it."""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_NAME = re.compile(
    r"(?:un)?licen[cs]es?(?:[.-].*)?|copying(?:[.-].*)?|copyright(?:\.\w+)?|mit-licen[cs]e.*", re.IGNORECASE
)
_NO_TEXT = re.compile(r".*\.(?:py|pyc|c|h|js|ts|go|rs|java|rb|sh|json|yaml|yml|toml|html|png|svg)", re.IGNORECASE)
# SPDX 2.3, annex E: the expression goes to the end of the line or of the comment.
_SPDX = re.compile(
    r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+:()-]+(?:[ \t]+(?:AND|OR|WITH)[ \t]+[A-Za-z0-9.+:()-]+)*)"
)
_HEAD_CHARS = 4000
_MAX_BYTES = 200_000  # GPL-3.0 has 35 thousand
# The first words of licences that choosealicense.com's texts, all that `identify` compares with, do not have.
_TITLES = (
    (re.compile(r"\A\W*PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2\b", re.IGNORECASE), "PSF-2.0"),
    (re.compile(r"^PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2\n-{5,}$", re.MULTILINE), "Python-2.0"),
)


@dataclass(frozen=True)
class Licence:
    """A licence file of a repository. `spdx` is "" when its text is not recognised."""

    path: str
    sha256: str
    spdx: str


def is_licence(path: str) -> bool:
    """Whether a file of this name holds a licence."""
    name = PurePosixPath(path).name
    return _NAME.fullmatch(name) is not None and _NO_TEXT.fullmatch(name) is None


def licence(path: str, data: bytes) -> Licence:
    """A licence file, with its SPDX identifier where its text is, but for 5 % of its letters, one that is known."""
    return Licence(path, hashlib.sha256(data).hexdigest(), _recognised(data))


def stated(text: str) -> str:
    """The expression that a file states of itself; "" when it states none."""
    found = _SPDX.search(text[:_HEAD_CHARS])
    return " ".join(found[1].split()) if found else ""


def nearest(path: str, found: dict[str, Licence]) -> Licence | None:
    """Of licence files by folder ("" is the repository's own), the one that holds for a file."""
    return next((found[folder] for folder in map(str, PurePosixPath(path).parents) if folder in found), None)


def _recognised(data: bytes) -> str:
    from identify.identify import license_id

    text = data[: _MAX_BYTES + 1].decode("utf-8", "replace")
    if len(data) > _MAX_BYTES:
        return ""
    if spdx := stated(text):
        return spdx
    for title, spdx in _TITLES:
        if title.search(text):
            return spdx
    with tempfile.TemporaryDirectory(prefix="collect-train-") as folder:  # identify reads from files only
        path = Path(folder, "LICENSE")
        path.write_text(text.replace("\r\n", "\n"), encoding="utf-8")
        return license_id(str(path)) or ""
