"""A large file on its way: what has come so far lies beside its place, with what is needed to ask for the rest."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from lmcore.collect.transport import Answer, Transport
from storage.atomic import fault, write_json

_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class PartFile:
    """`NAME.part` and `NAME.part.json` beside `path`; `done` puts the file into its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._about = path.with_name(f"{path.name}.part.json")

    def ask(self, transport: Transport, url: str, headers: Mapping[str, str], timeout: float, max_bytes: int) -> Answer:
        """One request for the file, or for the rest of it where the server lets us go on (RFC 9110 section 14)."""
        have, etag = self._have(url)
        # A range is one of the bytes as sent: without compression those are the file's.
        asked = {**headers, "Accept-Encoding": "identity", "Accept": "*/*"}
        if have:
            asked |= {"Range": f"bytes={have}-", "If-Range": etag}
        goes_on = False

        def sink(status: int, said: Mapping[str, str]) -> BinaryIO:
            nonlocal goes_on
            found = _RANGE.match(said.get("content-range", ""))
            goes_on = status == 206 and found is not None and int(found[1]) == have
            if goes_on:
                return _Rest(self._part, max_bytes - have)
            # What has come must not lie there under the name of what comes now: a kill between the two would have
            # the next run go on from the old bytes with the new ETag.
            self._part.unlink(missing_ok=True)
            fault("collect.part-removed")
            write_json(self._about, {"url": url, "etag": said.get("etag", "")})
            fault("collect.part-begun")
            return open(self._part, "wb")

        try:
            answer = transport.get(url, timeout=timeout, max_bytes=max_bytes, types=None, headers=asked, sink=sink)
        except _TooLargeError:
            answer = Answer(206, {}, failure="too_large", reason=f"more than {max_bytes:,} bytes")
        if answer.status == 416 or (answer.status == 206 and not goes_on) or answer.failure == "too_large":
            self.discard()
        if answer.status == 416 or (answer.status == 206 and not goes_on):
            return Answer(answer.status, answer.headers, failure="truncated", reason="not the part that was asked for")
        return answer

    def done(self) -> int:
        """Put the whole file into its place; gives its bytes."""
        self._part.replace(self._path)
        self._about.unlink(missing_ok=True)
        return self._path.stat().st_size

    def discard(self) -> None:
        """Begin again next time."""
        self._part.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)

    def _have(self, url: str) -> tuple[int, str]:
        """Bytes that may be gone on from, and the strong ETag they belong to; (0, "") to begin."""
        try:
            about = json.loads(self._about.read_text(encoding="utf-8"))
            size = self._part.stat().st_size
        except (OSError, ValueError):
            return 0, ""
        etag = about.get("etag") if isinstance(about, dict) and about.get("url") == url else None
        return (size, etag) if isinstance(etag, str) and etag.startswith('"') else (0, "")


class _TooLargeError(Exception):
    """The rest of a file is more than there is room for."""


class _Rest(io.BufferedWriter):
    """The end of the file `path`, which takes no more than `room` bytes."""

    def __init__(self, path: Path, room: int) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._room = room

    def write(self, data: Any, /) -> int:
        """Raises _TooLargeError when there is no room for them."""
        self._room -= len(data)
        if self._room < 0:
            raise _TooLargeError
        return super().write(data)
