"""What every kind of source hands over: records in canonical order, a log of what was tried, counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from lmcore.collect.http import Response

FETCH_LOG = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("final_url", pa.string(), nullable=False),
        pa.field("status", pa.int32(), nullable=False),  # 0 where there was no answer, or no server
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("tries", pa.int32(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("fetched_at", pa.string(), nullable=False),  # UTC, ISO 8601
        pa.field("etag", pa.string(), nullable=False),
        pa.field("last_modified", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Record:
    """One text with where it came from; becomes one DOCUMENT row."""

    url: str
    title: str
    text: str
    page_of_origin: str
    lang: str = "und"  # what the page says; the source's own setting wins
    kind: str = ""  # "" is the source's text_kind
    license: str = ""  # what the text itself says; "" is the source's
    tags: dict[str, str] = field(default_factory=dict)
    turns: tuple[tuple[str, str], ...] | None = None  # (role, text) in order
    meta: dict[str, Any] = field(default_factory=dict)
    synthetic: bool = False  # made by a machine
    parent_record: str | None = None  # the record it was made of
    license_source: str = ""  # who says the licence; "" is the recipe, or the file when it says one


@dataclass(frozen=True)
class Kept:
    """Records of the edition before that stay: those of a file which has not changed since, or `records` by name."""

    url: str = ""
    records: frozenset[str] | None = None


class Gathered(Protocol):
    """What a source gathers. What `run` has done is on disk or cheap, so the rest can be walked without memory."""

    def run(self) -> None:
        """Fetch what is to be fetched, or go on with it; everything long is done here."""

    def records(self) -> Iterator[Record | Kept]:
        """The records, in the source's canonical order."""

    def responses(self) -> Iterator[Response]:
        """What servers sent."""

    def log(self) -> Iterator[dict[str, Any]]:
        """Rows of the fetch log."""

    def counts(self) -> dict[str, Any]:
        """Deterministic counts for stats.json; `outcomes` among them."""

    def why_empty(self) -> tuple[str, str]:
        """(what, mend) when there is no record at all."""

    def close(self) -> None:
        """Let go of files; what was gathered stays."""

    def discard(self) -> None:
        """Forget everything gathered, so that the next run tries afresh."""
