"""Texts that may not be in this store any more: what `collect-train forget` was told, kept for ever.

    <store>/tombstones.json
    {"format": 1, "tombstones": [{"what": "https://example.org/a", "when": "2026-01-02T03:04:05+00:00",
      "urls": ["https://example.org/a"], "records": ["0123..."], "texts": ["89ab..."],
      "models": ["0a1b..."], "tokenizers": ["2c3d..."], "finished": "2026-01-02T03:04:09+00:00"}]}

Neither a page's title nor a word of its text is in it: `texts` are digests.

The list enters no key. Keys follow from settings and from the content of inputs, and forgetting a text changes that
content where the text was, and nowhere else: what held it is built anew, and another store, another recipe, or a run
that never met the text finds everything under the names it had. A collection that honours a tombstone has the key it
would have had; collecting is no pure stage, so a key never promised its bytes. Curation is one, but no text that is
forgotten comes to it except from an artifact that was put back by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from storage.atomic import write_json
from storage.errors import RunError
from storage.locks import file_lock

FILE = "tombstones.json"
FORMAT = 1


class Tombstone(BaseModel):
    """One thing to forget: what was asked, and everything that was found to be meant by it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    what: str  # a URL or record id
    when: str  # ISO 8601, UTC
    urls: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()  # digests of their words
    models: tuple[str, ...] = ()  # keys of train artifacts that learnt from it
    tokenizers: tuple[str, ...] = ()
    finished: str | None = None  # when nothing of it was left in the store

    def joined(self, other: Tombstone) -> Tombstone:
        """Both together, under this one's name and date; unfinished."""
        lists = ("urls", "records", "texts", "models", "tokenizers")
        both = {name: tuple(sorted({*getattr(self, name), *getattr(other, name)})) for name in lists}
        return self.model_copy(update=both | {"finished": None})


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    format: int
    tombstones: tuple[Tombstone, ...]


def read_tombstones(root: Path) -> tuple[Tombstone, ...]:
    """Every tombstone of the store in `root`, oldest first. Raises RunError for a damaged list."""
    path = root / FILE
    try:
        found = _File.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else _first_fault(error)
        raise RunError(
            f"the list of forgotten texts {path} is damaged: {why}",
            "restore it from a backup: without it forgotten texts would be collected again",
        ) from error
    if found.format != FORMAT:
        raise RunError(
            f"{path} has format {found.format}, this program reads {FORMAT}",
            "use the version of collect-train that wrote it",
        )
    return found.tombstones


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def write_tombstone(root: Path, what: str, change: Callable[[Tombstone | None], Tombstone]) -> Tombstone:
    """Put `change(the tombstone of `what`, or None)` in its place, or at the end, durably."""
    with file_lock(root / ".locks" / "tombstones"):
        known = list(read_tombstones(root))
        place = next((number for number, tombstone in enumerate(known) if tombstone.what == what), len(known))
        new = change(known[place] if place < len(known) else None)
        known[place : place + 1] = [new]
        write_json(root / FILE, _File(format=FORMAT, tombstones=tuple(known)).model_dump(mode="json"))
    return new
