"""Data sets of the Hugging Face Hub, file by file, as of one commit.

The commit that a revision stands for is looked up once an edition. Files are known by their content (the Hub names the
digest of each), so the next edition asks only for those that are new, whatever the commit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import quote

from lmcore.collect.fetched import Fetcher, check_contact, own_sites
from lmcore.collect.files import DELAY, DOWNLOAD_SECONDS, FilesReading, Found
from lmcore.collect.http import Response
from lmcore.collect.hub_files import split_files
from lmcore.collect.hub_params import HUB, HubSource, endpoint
from lmcore.collect.hub_rows import SUFFIXES, count_rows, items_of, rows_of
from lmcore.collect.items import Item, Read
from lmcore.collect.json_rows import JsonRow
from lmcore.collect.params import CollectRuntime, PathsSource
from lmcore.collect.records import Kept, Record
from lmcore.collect.responses import Before
from lmcore.collect.tokens import Tokens
from lmcore.collect.unpack import PIECE, Member, Unreadable, opened, plain_name
from lmcore.progress import Report
from storage.atomic import fault
from storage.errors import RunError, UserError

INFO_BYTES = 100_000_000  # of what the Hub says of a data set: some 200 bytes a file


@dataclass(frozen=True)
class _Shard:
    path: str  # in the repository
    locator: str  # names its records
    digest: str  # sha256 of a large file, else git's name of the blob


class HubReading(FilesReading):
    """Downloads the files of a split, and reads them as files are read."""

    def __init__(
        self,
        work: Path,
        params: HubSource,
        runtime: CollectRuntime,
        report: Report,
        before: Before,
        tokens: Tokens,
    ) -> None:
        # Of the settings of sources that read paths the reading needs only those that this one has as well.
        super().__init__(work, cast(PathsSource, params), runtime, report, before, tokens)
        self._hub = params
        self._commit = ""
        self._shards: list[_Shard] = []
        self._read_rows = 0

    def run(self) -> None:
        """Look the commit up and download what is needed. Raises UserError for what the data set does not have."""
        site = endpoint()
        check_contact([site], self._runtime)
        with Fetcher.open(
            self._work,
            self._hub,
            self._runtime,
            self._before,
            self._report,
            private_sites=own_sites([site]),
            tokens=self._tokens,
            judge=lambda _: None,  # made for programs; what it answers is looked at here
            timeout=DOWNLOAD_SECONDS,
            max_bytes=max(self._hub.max_bytes, INFO_BYTES),
            delay=DELAY if site == HUB else 0.0,
        ) as fetcher:
            url = f"{site}/api/datasets/{self._hub.dataset}/revision/{quote(self._hub.revision, safe='')}?blobs=true"
            info = self._info(fetcher, url)
            self._commit = str(info["sha"])
            try:
                self._shards = self._listed(info)
            except (UserError, RunError):
                fetcher.fetched.drop(url, "unreachable", "")  # the next run asks again: it may be mended by then
                raise
            known = self._unchanged()
            rows = 0
            for done, shard in enumerate(self._shards):
                self._report(done, len(self._shards), f"{done} of {len(self._shards)} files of {self._hub.dataset}")
                if shard.locator in known:
                    self._downloads[shard.locator] = self._answer(shard, "unchanged", 0), Path()
                elif self._hub.max_rows and rows >= self._hub.max_rows:
                    break
                else:
                    path = self._download(fetcher, site, shard)
                    rows += self._rows_in(path, shard) if self._hub.max_rows else 0
                fault("collect.shard-stored")

    def records(self) -> Iterator[Record | Kept]:
        """The records of the files, in the order of the data set."""
        self._read_rows = 0
        return super().records()

    def responses(self) -> Iterator[Response]:
        """By what each file of the split is known, those beyond `max_rows` too."""
        return (self._answer(shard, "ok", 1) for shard in sorted(self._shards, key=lambda shard: shard.locator))

    def counts(self) -> dict[str, Any]:
        """Files by outcome, bad rows by reason, and the commit."""
        return {**super().counts(), "dataset": self._hub.dataset, "revision": self._commit}

    def why_empty(self) -> tuple[str, str]:
        """The outcomes, and what to look at."""
        what, _ = super().why_empty()
        return (
            what,
            f"check `shape`, `text_field` and `min_chars`; the columns are on {HUB}/datasets/{self._hub.dataset}",
        )

    def _info(self, fetcher: Fetcher, url: str) -> dict[str, Any]:
        """What the Hub says of the data set at the revision."""
        name, revision = self._hub.dataset, self._hub.revision
        response = fetcher.get(url)
        if response.outcome != "ok":
            fetcher.fetched.drop(url, "unreachable", response.reason)  # so that the next run asks again
        if response.status in (401, 403):
            raise UserError(
                f"source {self._hub.name}: {name} is not there, or not for everyone (status {response.status})",
                f"check the name on {HUB}/datasets/{name}; for a private or gated data set put a token of someone who "
                "may read it into the environment as HF_TOKEN, or into a Secret block of Prefect named hf-token",
            )
        if response.status == 404:
            raise UserError(
                f"source {self._hub.name}: there is no data set {name} with a revision {revision}",
                f"check `dataset` and `revision` on {HUB}/datasets/{name}",
            )
        try:
            info = json.loads(response.body) if response.outcome == "ok" else None
        except ValueError:
            info = None
        if not isinstance(info, dict) or not info.get("sha") or not isinstance(info.get("siblings"), list):
            fetcher.fetched.drop(url, "unreachable", response.reason)
            raise RunError(
                f"source {self._hub.name}: the Hub says nothing of {name}"
                f" ({response.outcome}: {response.reason or 'not what its interface gives'})",
                "see that it is up and run the same command again; it goes on from here",
            )
        return info

    def _listed(self, info: dict[str, Any]) -> list[_Shard]:
        name, revision = self._hub.dataset, self._hub.revision
        files = [file for file in info["siblings"] if isinstance(file, dict) and file.get("rfilename")]
        if strange := [file["rfilename"] for file in files if not isinstance(file.get("lfs") or {}, dict)]:
            raise RunError(
                f"source {self._hub.name}: what the Hub says of {strange[0]} of {name} is not what its interface gives",
                "see that it is up and run the same command again; it goes on from here",
            )
        digests = {
            str(file["rfilename"]): str((file.get("lfs") or {}).get("sha256") or file.get("blobId") or "")
            for file in files
        }
        paths = split_files(name, list(digests), info.get("cardData"), self._hub.config, self._hub.split)
        root = f"hf://datasets/{name}" + ("" if revision == "main" else f"@{quote(revision, safe='')}")
        return [_Shard(path, f"{root}/{quote(path)}", digests[path]) for path in paths]

    def _unchanged(self) -> set[str]:
        """The files that the edition before has as they are; with `max_rows` all or none."""
        if not self._before.same_settings:
            return set()
        before = self._before.etags("hf://")
        same = {shard.locator for shard in self._shards if shard.digest and before.get(shard.locator) == shard.digest}
        whole = len(same) == len(self._shards) == len(before)
        return same if whole or not self._hub.max_rows else set()

    def _download(self, fetcher: Fetcher, site: str, shard: _Shard) -> Path:
        url = f"{site}/datasets/{self._hub.dataset}/resolve/{self._commit}/{quote(shard.path)}"
        response, path = fetcher.download(url)
        if response.outcome == "ok" and not _is(path, shard.digest):
            path.unlink()
            response = replace(response, outcome="truncated", reason="not the bytes that the Hub lists")
        if response.status in (401, 403):
            fetcher.fetched.drop(url, "unreachable", response.reason)
            raise UserError(
                f"source {self._hub.name}: the Hub does not give {shard.path} of {self._hub.dataset} to everyone",
                f"ask for access on {HUB}/datasets/{self._hub.dataset} and give a token (HF_TOKEN, or the Secret block "
                "hf-token)",
            )
        if response.outcome not in ("ok", "too_large"):  # a data set with a hole in it is none
            fetcher.fetched.drop(url, "unreachable", response.reason)  # so that the next run asks again
            raise RunError(
                f"source {self._hub.name}: {shard.path} of {self._hub.dataset} could not be had"
                f" ({response.outcome}: {response.reason})",
                "run the same command again; it goes on from what has come",
            )
        # A redirect to a store of files has a signature in its URL that opens it for a while.
        self._downloads[shard.locator] = replace(response, url=shard.locator, final_url=url), path
        return path

    def _answer(self, shard: _Shard, outcome: str, size: int) -> Response:
        """The file by its digest; with a size it has a body, which is not kept."""
        return Response(shard.locator, shard.locator, outcome, etag=shard.digest, size=size)

    def _rows_in(self, path: Path, shard: _Shard) -> int:
        try:
            with opened(path, PurePosixPath(shard.path).name, self._work, self._hub.max_bytes, _is_read) as members:
                return sum(count_rows(member, self._hub.max_bytes) for member in members if not member.refusal)
        except Unreadable:
            return 0  # the reading says so again, for the log

    def _found(self) -> list[Found]:
        return [
            Found(
                locator, path, None if response.outcome in ("ok", "unchanged") else (response.outcome, response.reason)
            )
            for locator, (response, path) in self._downloads.items()
        ]

    def _reader(self, name: str) -> Read | None:
        return self._items if _is_read(name) else None

    def _items(self, member: Member, _: Any) -> Iterator[Item]:
        yield from items_of(self._limited(rows_of(member, self._hub.max_bytes)), self._hub)

    def _limited(self, rows: Iterator[JsonRow]) -> Iterator[JsonRow]:
        left = self._hub.max_rows - self._read_rows if self._hub.max_rows else None
        for row in islice(rows, left):
            self._read_rows += 1
            yield row


def _is_read(name: str) -> bool:
    return plain_name(name.lower()).endswith(SUFFIXES)


def _is(path: Path, digest: str) -> bool:
    """Whether a file has this digest: sha256, or the one that git gives a blob; true where the Hub says none."""
    if len(digest) not in (40, 64):
        return True
    found = hashlib.sha256() if len(digest) == 64 else hashlib.sha1(usedforsecurity=False)
    if len(digest) == 40:
        found.update(b"blob %d\0" % path.stat().st_size)
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            found.update(piece)
    return found.hexdigest() == digest
