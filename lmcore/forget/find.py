"""What is meant by a URL or record id, and where it lies: every text of a store is looked at.

A URL means every record it ever gave, in all editions; a record means its page too. With them go their equals (the
same words under another URL) and what was made of them (`parent_record`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from lmcore.collect.editions import REFERENCES, document_files
from lmcore.collect.links import canonical_url
from lmcore.documents import SPLITS
from lmcore.forget.texts import Forgotten, text_digest
from storage.errors import UserError
from storage.parquet import batches, read_parquet
from storage.store import Store

ASIDE = ".aside"
_COLLECTED = ["record_id", "source", "url", "title", "text", "lang", "page_of_origin", "parent_record", "meta"]
_CURATED = ["record_id", "source", "url", "title", "text", "lang", "page_of_origin"]
_RECORD = re.compile(r"[0-9a-f]{8,32}")
_ROW_OF_A_FILE = re.compile(r"file:.*#\d+")  # names another row when the file has changed


@dataclass
class Found:
    """Everything that is meant, and the folders (artifacts, finished or set aside) that hold some of it."""

    meant: Forgotten
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)  # by record id, as collected or as curated
    places: dict[Path, set[str]] = field(default_factory=dict)  # folder to the record ids that lie in it

    @property
    def records(self) -> frozenset[str]:
        """Ids of all records that are meant."""
        return self.meant.records

    @property
    def lasting_urls(self) -> frozenset[str]:
        """The URLs that go on to name these texts: not the rows of a file, which move."""
        return frozenset(url for url in self.meant.urls if not _ROW_OF_A_FILE.fullmatch(url))


def find(store: Store, what: str, earlier: Forgotten) -> Found:
    """Look for a URL, or a record id of which 8 digits are enough, and for what is known of it from `earlier`.

    Raises UserError when the store holds nothing of it and nothing is known, or when digits fit several records;
    RunError for a damaged file.
    """
    folders = [(a.stage, a.path) for a in store.readable("collect", "curate")]
    found = Found(_asked(store, folders, what, earlier))
    hashed: frozenset[str] | None = None  # texts that have been looked for everywhere
    while True:
        before = found.meant
        for stage, folder in folders:
            _scan(found, folder, _batches(stage, folder), texts=before.texts != hashed)
        hashed = before.texts
        if found.meant == before:
            break
    if not found.rows and not earlier:
        raise UserError(
            f"the store {store.root} holds no text of {what[:200]!r}",
            f"`collect-train why {what[:200]}` says what is known of it; `deny` in a source keeps pages from being "
            "collected",
        )
    for stage, folder in folders:
        if stage == "collect":
            _add(found, folder, read_parquet(folder / REFERENCES, ["record_id"]))
    for artifact in store.readable("tokens"):
        for split in SPLITS:
            _add(found, artifact.path, read_parquet(artifact.path / split / "documents.parquet", ["record_id"]))
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
            files = sorted((artifact.path / "train").glob("*.parquet")) if artifact.path in found.places else []
            held = (set(read_parquet(path, ["record_id"])["record_id"].to_pylist()) for path in files)
            if any(not found.records.isdisjoint(records) for records in held):
                digests.update(artifact.digests)
    tokenizers = {
        artifact.key
        for artifact in store.readable("tokenizer")
        if any(entry.digest in corpora for entry in artifact.manifest.provenance.inputs)
    }
    models: set[str] = set()
    learnt = set(tokens)
    while True:
        new = [
            artifact
            for artifact in store.readable("train")
            if artifact.key not in models
            and any(e.stage in ("tokens", "train") and e.digest in learnt for e in artifact.manifest.provenance.inputs)
        ]
        if not new:
            return models, tokenizers
        models |= {artifact.key for artifact in new}
        learnt |= {digest for artifact in new for digest in artifact.digests}


def holds(stage: str, folder: Path, found: Found) -> bool:
    """Whether a folder that is no finished artifact holds something of it. Raises RunError for a damaged file."""
    if stage == "tokens":
        files = [folder / split / "documents.parquet" for split in SPLITS]
        ids = (set(read_parquet(path, ["record_id"])["record_id"].to_pylist()) for path in files)
        return any(not found.records.isdisjoint(records) for records in ids)
    return any(any(found.meant.rows(batch).to_pylist()) for batch in _batches(stage, folder))


def _asked(store: Store, folders: list[tuple[str, Path]], what: str, earlier: Forgotten) -> Forgotten:
    """What is meant before any text was looked at."""
    if not _RECORD.fullmatch(what):
        url = canonical_url(what) or what
        return Forgotten(earlier.urls | _names(store, url), earlier.records, earlier.texts)
    urls: set[str] = set()
    records: set[str] = set()
    for stage, folder in folders:
        for batch in _batches(stage, folder, ["record_id", "url"]):
            for row in batch.to_pylist():
                if row["record_id"].startswith(what):
                    records.add(row["record_id"])
                    urls.add(row["url"])
    if len(records) > 1:
        raise UserError(f"{what} fits {len(records)} records: {', '.join(sorted(records)[:5])}", "give more digits")
    return Forgotten(earlier.urls | urls, earlier.records | records, earlier.texts)


def _names(store: Store, url: str) -> frozenset[str]:
    """The URLs that led to the page at `url`, or that `url` led to, itself among them."""
    names = {url}
    for artifact in store.readable("collect"):
        log = artifact.path / "provenance" / "fetch_log.parquet"
        if log.exists():
            for row in read_parquet(log, ["url", "final_url", "outcome"]).to_pylist():
                pair = {row["url"], row["final_url"]}
                if row["outcome"] in ("ok", "duplicate") and url in pair:
                    names |= pair
    return frozenset(names)


def _batches(stage: str, folder: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The texts of a collected or curated folder, some at a time."""
    if stage == "collect":
        files, wanted = document_files(folder), columns or _COLLECTED
    else:
        files, wanted = sorted(folder.glob("*/[0-9]*.parquet")), columns or _CURATED
    for path in files:
        for batch in batches(path, wanted):
            yield pa.Table.from_batches([batch])


def _scan(found: Found, folder: Path, tables: Iterator[pa.Table], *, texts: bool) -> None:
    """Note what of these tables is meant, and what else is meant because of it."""
    for table in tables:
        mask = found.meant.rows(table) if texts else found.meant.named(table)
        for row in table.filter(mask).to_pylist():
            found.rows.setdefault(row["record_id"], row)
            found.places.setdefault(folder, set()).add(row["record_id"])
            found.meant = Forgotten(
                found.meant.urls,
                found.meant.records | {row["record_id"]},
                found.meant.texts | ({text_digest(row["text"])} if row["text"].split() else set()),
            )


def _add(found: Found, folder: Path, table: pa.Table) -> None:
    """Note the records of a folder that only names them."""
    if held := found.records.intersection(table["record_id"].to_pylist()):
        found.places.setdefault(folder, set()).update(held)


def facts_of(rows: Mapping[str, Mapping[str, Any]], records: set[str]) -> list[Mapping[str, Any]]:
    """The rows of these records, as far as they are known, in order of the id."""
    return [rows[record] for record in sorted(records) if record in rows]
