"""What a source is: settings in, records out, a place to continue from. And the stage that collects one.

    metrics = collect(work, edition="2026-11-21", params=WebSource(...), ...)

Layout of `work/out`: documents/*.parquet, references.parquet, removed.parquet, edition.json, stats.json,
provenance/fetch_log.parquet, provenance/responses/*.parquet.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lmcore.collect.changes import NAMES, REMOVED, compare, names_of, write_removed
from lmcore.collect.code import CodeSource
from lmcore.collect.editions import (
    EDITION,
    MAX_DEPTH,
    REFERENCES,
    Locate,
    Place,
    load_edition,
    read_edition,
    write_references,
)
from lmcore.collect.feed import FeedReading
from lmcore.collect.feed_params import FeedSource
from lmcore.collect.files import FilesReading
from lmcore.collect.hub import HubReading
from lmcore.collect.hub_params import HubSource
from lmcore.collect.kinds import SourceParams
from lmcore.collect.params import CollectRuntime, WebSource
from lmcore.collect.records import FETCH_LOG, Gathered, Kept, Record
from lmcore.collect.responses import SETTINGS, Before, write_responses
from lmcore.collect.synthetic.params import SyntheticSource
from lmcore.collect.tokens import NO_TOKENS, Tokens
from lmcore.collect.web import WebCrawl
from lmcore.collect.wikipedia import WikipediaSource
from lmcore.collect.wikipedia_dumps import WikiDumps
from lmcore.collect.wikipedia_pages import WikiReading
from lmcore.documents import DOCUMENT, FORGOTTEN, make_table, record_id
from lmcore.progress import Report
from storage.atomic import disk_errors, fault, write_json
from storage.digest import canonical_json, digest_json
from storage.errors import RunError
from storage.parquet import write_parquet

if TYPE_CHECKING:
    from lmcore.forget.texts import Forgotten

STAGE_VERSION = 3
ROWS_PER_FILE = 5_000
CHARS_PER_FILE = 256 * 1024 * 1024  # of text; large records make files of fewer rows
# Outcomes that are the site's or the recipe's wish, not a failure to get a page.
NO_FAILURE = frozenset(
    {"ok", "unchanged", "short", "no_text", "noindex", "duplicate", "robots_denied", "too_short", "empty", FORGOTTEN}
    | {"companion", "other_language", "disambiguation", "redirect", "namespace", "removed", "over_budget"}
    | {"other_kind", "no_topic", "repeated", "vendored", "generated", "minified", "binary", "link", "submodule"}
)


def collect(
    work: Path,
    *,
    edition: str,
    parent: Path | None,
    parent_digest: str | None,
    locate: Locate,
    params: SourceParams,
    runtime: CollectRuntime,
    report: Report,
    forgotten: Forgotten | None = None,
    tokens: Tokens = NO_TOKENS,
    articles: Sequence[Path] = (),
) -> dict[str, Any]:
    """Collect one source into `work/out`; continues after a kill with the same `work`.

    `parent` is the folder of the edition before, `parent_digest` its content digest. What is `forgotten` becomes no
    record; a forgotten page's links are followed. `tokens` go to the servers that want one. `articles` are the folders
    of the editions that a synthetic source is made of, in its order. Gives counts of records, bytes and pages. Raises
    RunError when there is no record at all, with the counts by outcome.
    """
    assert (parent is None) == (parent_digest is None), "a parent has a folder and a digest"
    settings = digest_json([STAGE_VERSION, _reading(params)])
    with disk_errors(work):
        work.mkdir(parents=True, exist_ok=True)
        before = Before(parent, parent_digest, locate, settings, edition, report)
        gathered = _gathered(work, params, runtime, report, before, forgotten, tokens, articles, locate)
        try:
            gathered.run()
            return _write(work, gathered, edition, parent, parent_digest, locate, params, before, settings, forgotten)
        finally:
            gathered.close()


def _reading(params: SourceParams) -> dict[str, Any]:
    """The settings under which what an edition has stays valid.

    A budget is none of them where it says only which pages are asked for, as for the site of a wiki. Elsewhere what is
    unchanged (a file, a feed, a dump) was read as far as the budget went, and a larger one reads on in it.
    """
    values = params.key_values()
    if isinstance(params, WikipediaSource) and params.site:
        return {name: value for name, value in values.items() if name not in params.BUDGETS}
    return values


def _gathered(
    work: Path,
    params: SourceParams,
    runtime: CollectRuntime,
    report: Report,
    before: Before,
    forgotten: Forgotten | None,
    tokens: Tokens,
    articles: Sequence[Path],
    locate: Locate,
) -> Gathered:
    if isinstance(params, SyntheticSource):
        from lmcore.collect.synthetic.gathered import Synthetic

        return Synthetic(params, articles, locate, report, forgotten)
    if isinstance(params, WebSource):
        return WebCrawl(work, params, runtime, report, before, forgotten)
    if isinstance(params, FeedSource):
        return FeedReading(work, params, runtime, report, before, forgotten, tokens)
    if isinstance(params, HubSource):
        return HubReading(work, params, runtime, report, before, tokens)
    if isinstance(params, WikipediaSource):
        reading = WikiDumps if params.paths else WikiReading
        return reading(work, params, runtime, report, before, forgotten)
    if isinstance(params, CodeSource):
        from lmcore.collect.code_reading import CodeReading

        return CodeReading(work, params, runtime, report, before, tokens)
    return FilesReading(work, params, runtime, report, before, tokens)


def _write(
    work: Path,
    gathered: Gathered,
    edition: str,
    parent: Path | None,
    parent_digest: str | None,
    locate: Locate,
    params: SourceParams,
    before: Before,
    settings: str,
    forgotten: Forgotten | None,
) -> dict[str, Any]:
    """Write the artifact from what was gathered; short, so it starts over after a kill."""
    fault("collect.before-documents")
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    depth = read_edition(parent)["depth"] + 1 if parent else 0
    copies = _Copies(parent, locate) if parent and depth >= MAX_DEPTH else None

    unchanged: dict[str, Place] = {}
    counts: Counter[str] = Counter()
    extractors: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    gone: set[str] = set()
    there: list[tuple[str, str]] = []  # record id and URL of every record
    unique: set[int] = set()  # hashes of the texts
    with _DocumentWriter(out / "documents") as writer:
        for row in _rows(gathered, edition, params, before):
            names = (row["url"], row["page_of_origin"])
            if forgotten and forgotten.record(row["record_id"], names, row["text"], row["parent_record"]):
                gone.add(row["url"])
                continue
            unique.add(hash(row["text"].strip()))
            there.append((row["record_id"], row["url"]))
            counts["records"] += 1
            counts["bytes"] += len(row["text"].encode())
            extractors[json.loads(row["meta"])["extractor"]] += 1
            languages[row["lang"]] += 1
            place = before.place(row["record_id"])
            if place is None:
                counts["new"] += 1
                writer.add(row)
            elif copies is not None:
                writer.add(copies.row(row["record_id"]))
            else:
                unchanged[row["record_id"]] = place
    if not counts["records"]:
        what, mend = gathered.why_empty()
        shutil.rmtree(out)
        gathered.discard()
        raise RunError(what, mend)
    write_references(out / REFERENCES, unchanged)
    write_responses(out, gathered.responses(), before, copy=copies is not None)
    log = _Log(gathered, gone)
    fetches = _table(log.rows(), FETCH_LOG)
    write_parquet(out / "provenance" / "fetch_log.parquet", fetches)
    gathered_counts = log.counts()
    old = names_of(parent, locate, before.tell) if parent else NAMES.empty_table()
    new = pa.Table.from_arrays(list(map(pa.array, zip(*there, strict=True))), schema=NAMES)
    write_removed(out / REMOVED, old, new, _why_gone(fetches))
    changes = compare(old, new)
    stats = {
        "source": params.name,
        "kind": params.kind,
        "records": counts["records"],
        "new": counts["new"],
        "unchanged": counts["records"] - counts["new"],
        "changed": len(changes.changed),
        "removed": len(changes.removed),
        "unique": len(unique),
        "bytes": counts["bytes"],
        "extractors": dict(sorted(extractors.items())),
        "languages": dict(sorted(languages.items())),
        **gathered_counts,
    }
    write_json(out / "stats.json", stats)
    fault("collect.before-edition")
    write_json(out / SETTINGS, {"settings": settings})
    own_depth = 0 if copies is not None else depth
    write_json(out / EDITION, {"edition": edition, "source": params.name, "parent": parent_digest, "depth": own_depth})
    outcomes = gathered_counts["outcomes"]
    return {
        "records": counts["records"],
        "new": counts["new"],
        "unchanged": counts["records"] - counts["new"],
        "bytes": counts["bytes"],
        "asked": sum(outcomes.values()),
        "changed": len(changes.changed),
        "removed": len(changes.removed),
        "unique": len(unique),
        "failed": sum(count for outcome, count in outcomes.items() if outcome not in NO_FAILURE),
    }


def _why_gone(fetches: pa.Table) -> dict[str, str]:
    """Why a page or file gave no record, by its URL."""
    return {
        row["url"]: f"{row['outcome']}: {row['reason']}" if row["reason"] else row["outcome"]
        for row in fetches.select(["url", "outcome", "reason"]).to_pylist()
        if row["outcome"] not in ("ok", "unchanged")
    }


def _rows(gathered: Gathered, edition: str, params: SourceParams, before: Before) -> Iterator[dict[str, Any]]:
    """The DOCUMENT rows of what was gathered."""
    for record in gathered.records():
        if isinstance(record, Kept):
            yield from before.rows(record.url, record.records)
        else:
            yield _row(record, edition, params)


class _Log:
    """The fetch log and the counts of what was gathered, with the outcome of the records that are `gone` as it is."""

    def __init__(self, gathered: Gathered, gone: set[str]) -> None:
        self._gathered = gathered
        self._gone = gone
        self._changed = 0

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows of the fetch log."""
        for row in self._gathered.log():
            if row["outcome"] == "ok" and row["final_url"] in self._gone:
                self._changed += 1
                row = row | {"outcome": FORGOTTEN, "etag": ""}
            yield row

    def counts(self) -> dict[str, Any]:
        """Counts for stats.json, once all rows have been walked through."""
        counts = self._gathered.counts()
        if not self._gone:
            return counts
        outcomes = Counter(counts["outcomes"])
        outcomes[FORGOTTEN] += self._changed
        outcomes["ok"] -= self._changed
        return counts | {"outcomes": {name: n for name, n in sorted(outcomes.items()) if n}}


class _DocumentWriter:
    """Writes rows into numbered files of limited size; at least one file, which may have no row."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: list[dict[str, Any]] = []
        self._size = 0
        self._files = 0

    def __enter__(self) -> _DocumentWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and (self._rows or not self._files):
            self._flush()

    def add(self, row: dict[str, Any]) -> None:
        """Write one row, sooner or later."""
        self._rows.append(row)
        self._size += len(row["text"])
        if len(self._rows) == ROWS_PER_FILE or self._size >= CHARS_PER_FILE:
            self._flush()

    def _flush(self) -> None:
        write_parquet(self._folder / f"{self._files:05d}.parquet", make_table(self._rows, DOCUMENT))
        fault("collect.documents-written")
        self._rows, self._size, self._files = [], 0, self._files + 1


class _Copies:
    """Rows of the parent edition as they are, for an edition that copies instead of referring."""

    def __init__(self, parent: Path, locate: Locate) -> None:
        self._table = load_edition(parent, locate)
        self._index = {record: index for index, record in enumerate(self._table["record_id"].to_pylist())}

    def row(self, record: str) -> dict[str, Any]:
        """The row of a record that the parent edition has."""
        row: dict[str, Any] = self._table.slice(self._index[record], 1).to_pylist()[0]
        return row


def _row(record: Record, edition: str, params: SourceParams) -> dict[str, Any]:
    return {
        "record_id": record_id(params.name, record.url, record.text),
        "source": params.name,
        "url": record.url,
        "title": record.title,
        "text": record.text,
        "kind": record.kind or params.text_kind,
        "lang": record.lang if params.lang == "und" else params.lang,
        "license": record.license or params.license,
        "license_source": record.license_source or ("file" if record.license else "recipe"),
        "edition": edition,
        "synthetic": record.synthetic,
        "page_of_origin": record.page_of_origin,
        "parent_record": record.parent_record,
        "tags": sorted(record.tags.items()),
        "turns": None if record.turns is None else [{"role": role, "text": text} for role, text in record.turns],
        "meta": canonical_json(record.meta),
    }


def _table(rows: Iterator[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    chunks = [schema.empty_table()]
    while chunk := list(islice(rows, ROWS_PER_FILE)):
        chunks.append(pa.Table.from_pylist(chunk, schema=schema))
    return pa.concat_tables(chunks)
