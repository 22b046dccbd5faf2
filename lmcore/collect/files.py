"""Files as a source, of whatever kind: which files, in which order, and what became of each.

Order is by locator, which is the path relative to the recipe's folder. A file, or a member of an archive, that cannot
be read as a whole gives nothing and says why in the fetch log; a bad row of a good file costs only itself.
"""

from __future__ import annotations

import datetime
import glob
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import xxhash

from lmcore.collect.fetched import FETCHED, PASSING, Fetcher, check_contact, own_sites
from lmcore.collect.http import Response
from lmcore.collect.items import Item, Read
from lmcore.collect.kinds import formats, is_read, reader
from lmcore.collect.params import CollectRuntime, PathsSource, is_url
from lmcore.collect.records import Kept, Record
from lmcore.collect.responses import Before
from lmcore.collect.tokens import NO_TOKENS, Tokens
from lmcore.collect.unpack import ARCHIVES, PACKINGS, Member, Unreadable, opened
from lmcore.progress import Report
from storage.errors import RunError

DOWNLOAD_SECONDS = 24 * 3600.0  # for one file, in all; a server that falls silent is given up long before
DELAY = 1.0  # seconds between two files of one host


@dataclass(frozen=True)
class Found:
    """A file to read, or a reason not to (`refusal`: outcome and reason)."""

    locator: str  # file:RELATIVE, percent-encoded, or a URL
    path: Path
    refusal: tuple[str, str] | None = None


class FilesReading:
    """Reads the files of a source; `log` and `counts` are complete once `records` has been walked through."""

    def __init__(
        self,
        work: Path,
        params: PathsSource,
        runtime: CollectRuntime,
        report: Report,
        before: Before,
        tokens: Tokens = NO_TOKENS,
    ) -> None:
        self._work = work
        self._params = params
        self._runtime = runtime
        self._report = report
        self._before = before
        self._tokens = tokens
        self._downloads: dict[str, tuple[Response, Path]] = {}
        self._log: list[dict[str, Any]] = []
        self._outcomes: Counter[str] = Counter()
        self._bad_rows: Counter[str] = Counter()

    def run(self) -> None:
        """Download the files that are named by URL."""
        urls = self._params.urls
        if not urls:
            return
        check_contact(urls, self._runtime)
        settings = {"timeout": DOWNLOAD_SECONDS, "max_bytes": self._params.max_bytes, "delay": DELAY}
        with Fetcher.open(
            self._work,
            self._params,
            self._runtime,
            self._before,
            self._report,
            private_sites=own_sites(urls),
            tokens=self._tokens,
            **settings,
        ) as fetcher:
            for done, url in enumerate(urls):
                self._report(done, len(urls), f"{done} of {len(urls)} downloads")
                self._downloads[url] = self._downloaded(fetcher, url)
            if self._params.together and any(response.outcome == "ok" for response, _ in self._downloads.values()):
                for url in urls:
                    if self._downloads[url][0].outcome == "unchanged":
                        self._downloads[url] = self._downloaded(fetcher, url, anew=True)

    def _downloaded(self, fetcher: Fetcher, url: str, *, anew: bool = False) -> tuple[Response, Path]:
        response, path = fetcher.download(url, anew=anew)
        if response.outcome in PASSING:
            raise RunError(
                f"source {self._params.name}: {url} could not be had ({response.outcome}: {response.reason})",
                "see that the host is up and run the same command again; it goes on from what has come",
            )
        return response, path

    def close(self) -> None:
        """Nothing is open between calls."""

    def responses(self) -> Iterator[Response]:
        """What servers said of the files, which are not kept themselves."""
        return (response for response, _ in self._downloads.values() if response.outcome in ("ok", "unchanged"))

    def records(self) -> Iterator[Record | Kept]:
        """One record per file or row, ordered by (path, row). Raises RunError when the paths match nothing."""
        found = self._found()
        self._log, self._outcomes, self._bad_rows = [], Counter(), Counter()
        failed = 0
        for done, file in enumerate(found):
            self._report(done, len(found), f"{done} of {len(found)} files, {failed} failed")
            yield from self._read(file)
            failed = sum(count for outcome, count in self._outcomes.items() if outcome != "ok")
        self._report(len(found), len(found), f"{len(found)} of {len(found)} files, {failed} failed")

    def log(self) -> Iterator[dict[str, Any]]:
        """One row per file, before it one for each kind of bad row in it."""
        yield from self._log

    def counts(self) -> dict[str, Any]:
        """Files by outcome, and bad rows by reason."""
        return {
            "files": sum(self._outcomes.values()),
            "outcomes": dict(sorted(self._outcomes.items())),
            "bad_rows": dict(sorted(self._bad_rows.items())),
        }

    def why_empty(self) -> tuple[str, str]:
        """The outcomes and bad rows, and what to look at."""
        counts = [f"{count} {outcome}" for outcome, count in sorted(self._outcomes.items())]
        counts += [f"{count} rows: {reason}" for reason, count in sorted(self._bad_rows.items())]
        reasons = [row["reason"] for row in self._log if row["reason"]]
        return (
            f"source {self._params.name}: no record in {sum(self._outcomes.values())} files: {', '.join(counts)}"
            + (f" (first reason: {reasons[0]})" if reasons else ""),
            f"check {', '.join(f'`{name}`' for name in self._params.advice)}",
        )

    def discard(self) -> None:
        """Forget what was downloaded; files on disk are read anew each time."""
        shutil.rmtree(self._work / "downloads", ignore_errors=True)
        for path in self._work.glob(f"{FETCHED}*"):
            path.unlink()

    def _found(self) -> list[Found]:
        """The files to read, in order."""
        downloads = [
            Found(url, path, None if response.outcome in ("ok", "unchanged") else (response.outcome, response.reason))
            for url, (response, path) in self._downloads.items()
        ]
        found = sorted(find_files(self._params) + downloads, key=lambda file: file.locator)
        if not found:
            raise RunError(
                f"source {self._params.name}: no file matches {', '.join(self._params.paths)} in {self._params.base}",
                f"check `paths`; known suffixes are {', '.join(sorted(formats(self._params)))}, each also with "
                f"{', '.join(PACKINGS)} or in {', '.join(ARCHIVES)}",
            )
        return found

    def _reader(self, name: str) -> Read | None:
        """What reads a plain file of this name."""
        return reader(self._params, name)

    def _read(self, file: Found) -> Iterator[Record | Kept]:
        started = time.monotonic()
        response = self._downloads[file.locator][0] if file.locator in self._downloads else None
        if response and self._keeps(file.locator):
            yield Kept(file.locator)
            return
        size, modified = 0, ""
        try:
            if file.refusal:
                raise Unreadable(*file.refusal)
            size, modified = _facts(file.path)
            name = url_name(file.locator) if response else file.path.name
            near = self._near(file)
            with opened(file.path, name, self._work, self._params.max_bytes, self._wanted, near) as members:
                if not members:
                    raise Unreadable("no_text", "no file in it that could be read")
                for member in members:
                    yield from self._read_member(file, member, size, modified, started)
                    started = time.monotonic()
        except Unreadable as error:
            self._end(file.locator, error.outcome, error.reason, size, modified, time.monotonic() - started)

    def _keeps(self, url: str) -> bool:
        """Whether a download has not changed since the edition before; if so, says it in the log."""
        response = self._downloads[url][0]
        if response.outcome != "unchanged":
            return False
        self._end(url, "unchanged", "", response.size, response.last_modified, response.seconds)
        return True

    def _near(self, file: Found) -> Callable[[str], Path | None]:
        """Finds the file of a name beside this one, as it lies there."""

        def on_server(name: str) -> Path | None:
            wanted = (*_place(file.locator)[:-1], name)
            for url, (response, path) in self._downloads.items():
                if response.outcome == "ok" and _place(url) == wanted:
                    return path
            return None

        def in_folder(name: str) -> Path | None:
            path = file.path.with_name(name)
            return path if path.is_file() and not path.is_symlink() else None

        return on_server if file.locator in self._downloads else in_folder

    def _wanted(self, name: str) -> bool:
        return self._reader(name) is not None

    def _read_member(self, file: Found, member: Member, size: int, modified: str, started: float) -> Iterator[Record]:
        """The records of one plain file, then its rows of the log."""
        locator = f"{file.locator}#{quote(member.inside)}" if member.inside else file.locator
        outcome, reason, kept = "ok", "", 0
        bad: dict[str, tuple[int, str | int]] = {}  # reason to (texts, first part)
        parts: set[int] = set()  # digests of names, some 60 bytes each; numbers only need the last
        last: int | None = None
        try:
            if member.refusal:
                raise Unreadable(*member.refusal)
            read = self._reader(member.name)
            assert read is not None
            for item in read(member, self._params):
                problem = item.problem or (
                    "short" if len(item.text) < self._params.min_chars or not item.text.strip() else ""
                )
                if not problem and isinstance(item.part, int):
                    problem, last = "a second text of this name" if item.part == last else "", item.part
                elif not problem:
                    digest = xxhash.xxh3_64_intdigest(str(item.part).encode("utf-8", "surrogatepass"))
                    problem = "a second text of this name" if digest in parts else ""
                    parts.add(digest)
                if problem:
                    count, first = bad.get(problem, (0, item.part))
                    bad[problem] = (count + 1, first)
                    continue
                kept += 1
                yield _record(item, locator, bool(member.inside))
        except Unreadable as error:
            outcome, reason = error.outcome, error.reason
        for problem, (count, first) in sorted(bad.items()):
            if problem == "short" and first == "":  # the whole file: its outcome says so
                continue
            self._bad_rows[problem] += count
            where = f"row {first}" if isinstance(first, int) else quote(first)[:200]
            self._add(locator, "bad_rows", f"{count} rows: {problem}" + (f"; the first is {where}" if where else ""))
        if outcome == "ok" and not kept:
            outcome, reason = ("short", "too little text") if "short" in bad else ("no_text", "no good row in it")
        self._end(locator, outcome, reason, size, modified, time.monotonic() - started)

    def _end(self, locator: str, outcome: str, reason: str, size: int, modified: str, seconds: float) -> None:
        self._outcomes[outcome] += 1
        self._add(locator, outcome, reason, size, modified, round(seconds, 3))

    def _add(
        self, locator: str, outcome: str, reason: str, size: int = 0, modified: str = "", seconds: float = 0.0
    ) -> None:
        download = self._downloads.get(locator.partition("#")[0])
        response = download[0] if download else Response(locator, locator, outcome, tries=1)
        self._log.append(
            {
                "url": locator,
                "final_url": locator if "#" in locator else response.final_url,
                "status": response.status,
                "outcome": outcome,
                "reason": reason,
                "tries": response.tries,
                "seconds": seconds,
                "bytes": size,
                "fetched_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "etag": response.etag,
                "last_modified": response.last_modified or modified,
            }
        )


def find_files(params: PathsSource) -> list[Found]:
    """The files that the source's paths name, each once, ordered by locator."""
    base = Path(params.base).absolute()
    found: dict[Path, Found] = {}
    for pattern in params.paths:
        if is_url(pattern):
            continue
        root, paths = _matches(base, pattern, params)
        allowed = base.resolve() if root.is_relative_to(base) else root.resolve()
        for path in paths:
            real = path.resolve()
            refusal = None
            if not real.is_relative_to(allowed):
                refusal = (
                    "outside",
                    f"a symbolic link leads out of {allowed.name or allowed}; name the real path instead",
                )
            elif not is_read(params, path.name):
                refusal = ("unknown_format", f"the suffix of {path.name} is not known")
            entry = Found(locator_of(path, base), path, refusal)
            other = found.get(real)
            if other is None or entry.locator < other.locator:
                found[real] = entry
    return sorted(found.values(), key=lambda entry: entry.locator)


def _matches(base: Path, pattern: str, params: PathsSource) -> tuple[Path, list[Path]]:
    """(the folder a pattern starts from, the files it names)."""
    whole = Path(os.path.normpath(base / pattern))
    if whole.is_dir():
        inside = [
            Path(folder, name)
            for folder, _, names in os.walk(whole)
            for name in names
            if not name.startswith(".") and is_read(params, name)
        ]
        return whole, inside
    if os.path.lexists(whole):
        return whole.parent, [whole]
    root = whole
    while glob.has_magic(str(root)):
        root = root.parent
    return root, [Path(name) for name in glob.glob(str(whole), recursive=True) if os.path.isfile(name)]


def _record(item: Item, locator: str, inside: bool) -> Record:
    def part(name: str | int) -> str:
        return locator if name == "" else f"{locator}{':' if inside else '#'}{quote(str(name))}"

    url = part(item.part)
    return Record(
        url,
        item.title,
        item.text,
        page_of_origin=url if item.origin is None else part(item.origin),
        lang=item.lang,
        kind=item.kind,
        license=item.license,
        tags=item.tags,
        turns=item.turns,
        meta=item.meta,
    )


def url_name(url: str) -> str:
    """The name of the file that a URL is of."""
    return PurePosixPath(unquote(urlsplit(url).path)).name


def _place(url: str) -> tuple[str, str, str, str]:
    """Scheme, host, folder and name of a file on a server."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc, parts.path.rpartition("/")[0], url_name(url)


def locator_of(path: Path, base: Path) -> str:
    """What a path is called wherever the recipe lies: file:RELATIVE, percent-encoded."""
    name = path.relative_to(base) if path.is_relative_to(base) else path
    return "file:" + quote(os.fsencode(name))


def _facts(path: Path) -> tuple[int, str]:
    try:
        facts = path.stat()
    except OSError as error:
        raise Unreadable("unreadable", os.strerror(error.errno or 0)) from error
    moment = datetime.datetime.fromtimestamp(facts.st_mtime, datetime.UTC)
    return facts.st_size, moment.isoformat(timespec="seconds")
