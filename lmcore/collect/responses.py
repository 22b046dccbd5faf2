"""What servers sent, kept beside the records: texts can be taken from it anew, and pages that have not changed are
asked for without being sent again.

`provenance/responses/*.parquet` has a row for every answer with a body. A body that an earlier edition holds is not
written again: `held_by` is the content digest of the artifact that has it.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lmcore.collect.editions import Locate, Place, inside, places, read_edition
from lmcore.collect.http import Response, Validators
from lmcore.progress import Report
from storage.errors import RunError
from storage.parquet import read_parquet, write_parquet

RESPONSES = "provenance/responses"
SETTINGS = "provenance/settings.json"  # digest of the settings and the program that an edition was made with
RESPONSE = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),  # as asked for
        pa.field("final_url", pa.string(), nullable=False),
        pa.field("content_type", pa.string(), nullable=False),
        pa.field("robots_tag", pa.string(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("last_modified", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),  # sha256 of the body
        pa.field("held_by", pa.string(), nullable=True),  # null: the body is here
        pa.field("body", pa.binary(), nullable=True),
    ]
)
_FACTS = [name for name in RESPONSE.names if name != "body"]
ROWS_PER_FILE = 500  # a file is read whole for any of its bodies
BYTES_PER_FILE = 32 * 1024 * 1024
BYTES_OPEN = 256 * 1024 * 1024  # of bodies that are held unpacked: hosts take turns, and so do the files of theirs


class Before:
    """The edition before, for the one who collects the next: what it was sent, and which records it made of it.

    Without an edition before, or where its responses cannot be read, nothing is known and everything is asked for.
    """

    def __init__(
        self,
        folder: Path | None,
        digest: str | None,
        locate: Locate,
        settings: str,
        edition: str,
        report: Report,
    ) -> None:
        self._folder = folder
        self._digest = digest
        self._locate = locate
        self._report = report
        self._same_edition = folder is not None and read_edition(folder)["edition"] == edition
        self.same_settings = folder is not None and _settings(folder) == settings
        self._lost: set[Place] = set()  # files of records that turned out to be damaged
        self._facts: dict[str, dict[str, Any]] = {}
        self._bodies: dict[str, dict[str, tuple[Path, int]]] = {}  # by artifact and URL: file and row
        self._open: OrderedDict[Path, pa.Table] = OrderedDict()  # the one that was used last at the end
        for row in self._rows_of(folder) if folder else []:
            self._facts[row["url"]] = row

    @cached_property
    def places(self) -> dict[str, Place]:
        """Where each record of the edition before lies."""
        return places(self._folder, self._digest) if self._folder and self._digest else {}

    def place(self, record: str) -> Place | None:
        """Where a record of the edition before lies; None for a new one, and where its file is known to be damaged."""
        place = self.places.get(record)
        return None if place in self._lost else place

    def rows(self, url: str = "", records: frozenset[str] | None = None) -> Iterator[dict[str, Any]]:
        """The DOCUMENT rows of the edition before that were read from the page or file at `url`, or `records` by name;
        file by file, sorted by record_id in each."""
        places = self._by_url.get(url, {}) if records is None else dict(self._files())
        for path, wanted in places.items():
            names = wanted if records is None else wanted & records
            if names:
                table = read_parquet(path)
                kept = table.filter(pc.is_in(table["record_id"], pa.array(sorted(names))))
                yield from kept.sort_by("record_id").to_pylist()

    @cached_property
    def _by_url(self) -> dict[str, dict[Path, set[str]]]:
        """The records of each page or file of the edition before, by the files in which they lie."""
        found: defaultdict[str, dict[Path, set[str]]] = defaultdict(dict)
        for path, wanted in self._files():
            names = read_parquet(path, ["record_id", "url"])
            for record, url in zip(*(column.to_pylist() for column in names.columns), strict=True):
                if record in wanted:
                    found[url.partition("#")[0]].setdefault(path, set()).add(record)
        return found

    def records(self, *, all_needed: bool = False) -> Iterator[dict[str, Any]]:
        """record_id, url and meta of every record of the edition before.

        Of a file that cannot be read none: they are collected anew. For who cannot ask for them again they are
        `all_needed`: raises RunError.
        """
        for place, wanted in self._wanted():
            try:
                rows = read_parquet(self._path(place), ["record_id", "url", "meta"]).to_pylist()
            except RunError as error:
                if all_needed:
                    raise RunError(
                        f"{error.what}: it holds {len(wanted)} records of the edition before, which cannot be asked "
                        "for again",
                        "put that artifact back from a backup (`collect-train verify` names the damaged files) and run "
                        "the same command again; or remove the editions of this source, and it begins anew",
                    ) from error
                self.tell(error)
                self._lost.add(place)
                continue
            for row in rows:
                if row["record_id"] in wanted:
                    yield row | {"meta": json.loads(row["meta"])}

    def log(self) -> Iterator[dict[str, Any]]:
        """The fetch log of the edition before; nothing where it cannot be read."""
        path = self._folder / "provenance" / "fetch_log.parquet" if self._folder else None
        if path is None or not path.exists():
            return
        try:
            yield from read_parquet(path).to_pylist()
        except RunError as error:
            self.tell(error)

    def body(self, url: str) -> bytes | None:
        """What was sent for `url` then; None when there was nothing, or it cannot be had any more."""
        row = self._facts.get(url)
        place = self._held_by(row["held_by"]).get(url) if row and row["digest"] else None
        return None if place is None else self._body(place)

    def _files(self) -> Iterator[tuple[Path, set[str]]]:
        """The files in which records of the edition before lie, and which of those in each it has."""
        return ((self._path(place), records) for place, records in self._wanted())

    def _wanted(self) -> list[tuple[Place, set[str]]]:
        wanted: defaultdict[Place, set[str]] = defaultdict(set)
        for record, place in self.places.items():
            wanted[place].add(record)
        return sorted(wanted.items())

    def _path(self, place: Place) -> Path:
        """The file of a place. Raises RunError when its artifact is not there any more."""
        digest, file = place
        folder = self._folder if digest == self._digest else self._locate(digest)
        assert folder is not None
        return inside(folder, file)

    def tell(self, error: RunError) -> None:
        """Say that something of an edition before is lost, and what follows."""
        self._report(0, None, f"{error.what}: its pages are fetched anew")

    def given(self, url: str) -> Response | None:
        """What the round before of this same edition was sent for a page; None when it is to be asked for."""
        row = self._facts.get(url) if self._same_edition else None
        if row is None or not row["digest"] or url not in self._held_by(row["held_by"]):
            return None
        return self.filled(Response(url, row["final_url"], "unchanged", status=200, tries=0))

    def etags(self, prefix: str) -> dict[str, str]:
        """By what the files of the edition before were known, whose URLs begin so."""
        return {url: row["etag"] for url, row in self._facts.items() if url.startswith(prefix)}

    def validators(self, url: str) -> Validators | None:
        """By what to ask whether a page has changed; None when it was not there or its server gave none."""
        row = self._facts.get(url)
        if row is None or not (row["etag"] or row["last_modified"]):
            return None
        there = not row["digest"] or url in self._held_by(row["held_by"])
        return Validators(row["etag"], row["last_modified"]) if there else None

    def filled(self, response: Response) -> Response:
        """An "unchanged" answer with the body of then, as outcome "ok"; others as they are."""
        if response.outcome != "unchanged":
            return response
        body = self._body(self._held_by(self._facts[response.url]["held_by"])[response.url])
        return replace(self.dated(response), outcome="ok", body=body, size=len(body))

    def dated(self, response: Response) -> Response:
        """An answer without what the server left out of it because it has said it before."""
        row = self._facts[response.url]
        return replace(
            response,
            final_url=row["final_url"],
            content_type=response.content_type or row["content_type"],
            robots_tag=response.robots_tag or row["robots_tag"],
            etag=response.etag or row["etag"],
            last_modified=response.last_modified or row["last_modified"],
        )

    def holder(self, url: str, digest: str) -> str | None:
        """The content digest of the artifact that has this very body; None when none has."""
        row = self._facts.get(url)
        return (row["held_by"] or self._digest) if row and row["digest"] == digest else None

    def _body(self, place: tuple[Path, int]) -> bytes:
        path, index = place
        table = self._open.pop(path, None)
        if table is None:
            table = read_parquet(path, ["body"])
            while self._open and table.nbytes + sum(held.nbytes for held in self._open.values()) > BYTES_OPEN:
                self._open.popitem(last=False)
        self._open[path] = table
        body: bytes = table["body"][index].as_py()
        return body

    def _held_by(self, digest: str | None) -> dict[str, tuple[Path, int]]:
        """File and row of every body that an artifact holds, by URL; None is the edition before itself."""
        name = digest or self._digest or ""
        if name not in self._bodies:
            self._bodies[name] = {}
            try:
                folder = self._locate(digest) if digest else self._folder
            except RunError as error:
                self.tell(error)
                return {}
            for row in self._rows_of(folder) if folder else []:
                if row["digest"] and row["held_by"] is None:
                    self._bodies[name][row["url"]] = row["place"]
        return self._bodies[name]

    def _rows_of(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Facts and `place` of every answer noted in an artifact; a damaged file gives none, and one line says so."""
        for path in sorted((folder / RESPONSES).glob("*.parquet")):
            try:
                rows = read_parquet(path, _FACTS).to_pylist()
            except RunError as error:
                self.tell(error)
                continue
            for index, row in enumerate(rows):
                yield row | {"place": (path, index)}


def write_responses(out: Path, responses: Iterable[Response], before: Before, *, copy: bool) -> None:
    """Write what servers sent into the artifact `out`; `copy`: also the bodies that earlier editions hold.

    Of a file that was downloaded only the facts are written, so that it can be asked for again.
    """
    rows: list[dict[str, Any]] = []
    size = files = 0

    def flush() -> None:
        nonlocal rows, size, files
        write_parquet(out / RESPONSES / f"{files:05d}.parquet", pa.Table.from_pylist(rows, schema=RESPONSE))
        rows, size, files = [], 0, files + 1

    for response in responses:
        body = response.body if response.body or not response.size else None
        digest = "" if body is None else hashlib.sha256(body).hexdigest()
        held_by = None if copy or body is None else before.holder(response.url, digest)
        facts = {name: getattr(response, name) for name in _FACTS if name not in ("digest", "held_by")}
        rows.append({**facts, "digest": digest, "held_by": held_by, "body": None if held_by else body})
        size += len(body or b"") if held_by is None else 0
        if len(rows) == ROWS_PER_FILE or size >= BYTES_PER_FILE:
            flush()
    if rows:
        flush()


def _settings(folder: Path) -> str | None:
    try:
        found = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return str(found["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # an edition of an older program, or damaged: nothing of it is kept unseen
