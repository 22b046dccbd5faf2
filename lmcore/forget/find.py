"""What is meant by a URL or record id, and where it lies: every text of a store is looked at.

A URL means every record it ever gave, in all editions; a record means its page too. With them go their equals (the
same words under another URL) and what was made of them (`parent_record`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmcore.collect.editions import REFERENCES
from lmcore.collect.links import canonical_url
from lmcore.curate.privacy import blank, is_blanked
from lmcore.documents import SPLITS
from lmcore.forget.places import Place, places_of_texts
from lmcore.forget.texts import Forgotten, all_of, spellings, text_digest
from storage.errors import UserError
from storage.parquet import read_parquet
from storage.store import Store
from storage.tombstones import Tombstone

_RECORD = re.compile(r"[0-9a-f]{8,32}")
_ROW_OF_A_FILE = re.compile(r"file:.*#\d+")  # names another row when the file has changed


@dataclass
class Found:
    """Everything that is meant by `what`, and the places that hold some of it."""

    what: str  # canonical URL, or whole record id
    meant: Forgotten
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)  # texts by record id (by URL where there is none yet)
    held: dict[Path, set[str]] = field(default_factory=dict)  # folder (or file of a crawl) to keys of `rows` in it
    unreadable: set[Path] = field(default_factory=set)  # damaged or unfinished: nobody can say what they hold

    @property
    def lasting_urls(self) -> frozenset[str]:
        """The URLs that go on to name these texts: not the rows of a file, which move."""
        return frozenset(url for url in self.meant.urls if not _ROW_OF_A_FILE.fullmatch(url))


def find(store: Store, what: str, tombstones: Sequence[Tombstone]) -> Found:
    """Look for a URL, or for a record id of which 8 digits are enough.

    Raises UserError when nothing is known of it, or when digits fit several records; RunError for a damaged artifact.
    """
    if is_blanked(what):
        raise UserError(
            f"{what[:200]!r} is an address as it is shown, masked: more pages than one may be shown as that",
            "name the record: `collect-train why` shows the ids of all that it may be",
        )
    places = places_of_texts(store)
    found = _asked(store, places, what, tombstones)
    hashed: frozenset[str] | None = None  # the texts that all others were compared with
    while True:
        before = found.meant
        for place in places:
            _scan(found, place, texts=before.texts != hashed)
        hashed = before.texts
        if found.meant == before:
            break
    if not found.rows and not any(tombstone.what == found.what for tombstone in tombstones):
        shown = blank(what)[:200]
        raise UserError(
            f"the store {store.root} holds no text of {shown!r}",
            f"`collect-train why {shown}` says what is known of it; `deny` in a source keeps pages from being "
            "collected",
        )
    for artifact in store.readable("collect"):
        _add(found, artifact.path, artifact.path / REFERENCES)
    for artifact in store.readable("tokens"):
        for split in SPLITS:
            _add(found, artifact.path, artifact.path / split / "documents.parquet")
    return found


def learnt_by(store: Store, found: Found) -> tuple[set[str], set[str]]:
    """Keys of the models (train artifacts) and of the tokenizers that learnt from what was found.

    A model learnt from it when its training split held it, or when it started from such a model. What was only held
    out for evaluation was not learnt.
    """
    corpora: set[str] = set()
    tokens: set[str] = set()
    for stage, digests in (("curate", corpora), ("tokens", tokens)):
        for artifact in store.readable(stage):
            files = sorted((artifact.path / "train").glob("*.parquet")) if artifact.path in found.held else []
            if any(_records(path) & found.meant.records for path in files):
                digests.update(artifact.digests)
    tokenizers = {
        artifact.key
        for artifact in store.readable("tokenizer")
        if any(entry.digest in corpora for entry in artifact.manifest.provenance.inputs)
    }
    models: set[str] = set()
    while True:
        new = [
            artifact
            for artifact in store.readable("train")
            if artifact.key not in models
            and any(entry.digest in tokens for entry in artifact.manifest.provenance.inputs)
        ]
        if not new:
            return models, tokenizers
        models.update(artifact.key for artifact in new)
        tokens.update(digest for artifact in new for digest in artifact.digests)  # others may have started from it


def _asked(store: Store, places: list[Place], what: str, tombstones: Sequence[Tombstone]) -> Found:
    """What is meant before any text was looked at."""
    if not _RECORD.fullmatch(what):
        name = _name(places, what)
        earlier = all_of(tombstone for tombstone in tombstones if tombstone.what == name)
        return Found(name, Forgotten(earlier.urls | _names(store, name), earlier.records, earlier.texts))
    urls: dict[str, set[str]] = {t.what: set(t.urls) for t in tombstones if t.what.startswith(what)}
    for place in places:
        if place.damaged is None:
            for batch in place.batches(["record_id", "url"]):
                for row in batch.to_pylist():
                    if row["record_id"].startswith(what):
                        # what was measured has the address as it is shown
                        pages = urls.setdefault(row["record_id"], set())
                        if not is_blanked(row["url"]):
                            pages.add(row["url"])
    if not urls:
        return Found(what, Forgotten())
    if len(urls) > 1:
        raise UserError(f"{what} fits {len(urls)} records: {', '.join(sorted(urls)[:5])}", "give more digits")
    ((name, pages),) = urls.items()
    earlier = all_of(tombstone for tombstone in tombstones if tombstone.what == name)
    return Found(name, Forgotten(earlier.urls | pages, earlier.records | {name}, earlier.texts))


def _name(places: list[Place], what: str) -> str:
    """Under which name what is asked for is known: the page, unless a text has the whole URL with what is behind #."""
    if "#" in what:
        wanted = Forgotten(urls=spellings(what))
        for place in places:
            if place.damaged is None:
                for batch in place.batches(["url"]):
                    if any(map(wanted.page, batch["url"].to_pylist())):
                        return what
    return canonical_url(what) or what


def _names(store: Store, url: str) -> frozenset[str]:
    """The URLs that led to the page at `url`, or that `url` led to, itself among them."""
    names = {url}
    page = Forgotten(urls=frozenset({url}))
    for artifact in store.readable("collect"):
        log = artifact.path / "provenance" / "fetch_log.parquet"
        if log.exists():
            for row in read_parquet(log, ["url", "final_url", "outcome"]).to_pylist():
                pair = {row["url"], row["final_url"]}
                if row["outcome"] in ("ok", "duplicate") and page.page(*pair):
                    names |= pair
    return frozenset(names)


def _scan(found: Found, place: Place, *, texts: bool) -> None:
    """Note what of a place is meant, and what else is meant because of it."""
    if place.damaged is not None:
        found.unreadable.add(place.path)
        return
    for table in place.batches():
        mask = found.meant.rows(table) if texts else found.meant.named(table)
        for row in table.filter(mask).to_pylist():
            key = row["record_id"] or row["url"]
            found.rows.setdefault(key, row)
            found.held.setdefault(place.path, set()).add(key)
            found.meant = Forgotten(
                found.meant.urls,
                found.meant.records | ({row["record_id"]} - {""}),
                found.meant.texts | ({text_digest(row["text"])} if row["text"].split() else set()),
            )


def _add(found: Found, folder: Path, path: Path) -> None:
    """Note the records of a folder that a file of it names."""
    if held := _records(path) & found.meant.records:
        found.held.setdefault(folder, set()).update(held)


def _records(path: Path) -> set[str]:
    return set(read_parquet(path, ["record_id"])["record_id"].to_pylist())
