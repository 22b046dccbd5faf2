"""Repositories as a source: which files of them become records, and what became of the others.

A file is its own page of origin, so that a single repository gives training and validation text; copies and
near-copies within it are found by curation, which keeps all of a group on one side. `split_by: repository` is for many
repositories, where files that use each other's names are to stay together.
"""

from __future__ import annotations

import glob
import io
import os
import time
import tokenize
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from lmcore.collect.charset import clean, decode
from lmcore.collect.code import CodeSource
from lmcore.collect.code_git import git_dir
from lmcore.collect.code_language import generated_name, generated_text, language_of, minified, vendored_folder
from lmcore.collect.code_licence import Licence, is_licence, licence, nearest, stated
from lmcore.collect.code_trees import Blob, Tree, archive_tree, folder_tree, git_tree
from lmcore.collect.files import FilesReading, locator_of, url_name
from lmcore.collect.params import CollectRuntime, is_url
from lmcore.collect.records import Kept, Record
from lmcore.collect.responses import Before
from lmcore.collect.tokens import NO_TOKENS, Tokens
from lmcore.collect.unpack import ARCHIVES, Unreadable, is_archive
from lmcore.progress import Report
from storage.errors import RunError

if TYPE_CHECKING:
    import pathspec

_BINARY_BYTES = 8000  # git's own rule: a NUL among the first ones
_ARCHIVE_SUFFIXES = sorted(ARCHIVES, key=len, reverse=True)


@dataclass(frozen=True)
class Repository:
    """Where a repository lies. `git` is its objects' folder where a commit of it is read."""

    locator: str
    path: Path
    name: str
    git: Path | None = None
    refusal: tuple[str, str] | None = None


class CodeReading(FilesReading):
    """Reads the repositories of a source; `log` and `counts` are complete once `records` has been walked through."""

    def __init__(
        self,
        work: Path,
        params: CodeSource,
        runtime: CollectRuntime,
        report: Report,
        before: Before,
        tokens: Tokens = NO_TOKENS,
    ) -> None:
        super().__init__(work, params, runtime, report, before, tokens)
        self._code = params
        self._allow, self._deny = _spec(params.allow), _spec(params.deny)

    def records(self) -> Iterator[Record | Kept]:
        """One record a file, ordered by (repository, path). Raises RunError when the paths match nothing."""
        downloads = [
            Repository(url, path, _stem(url_name(url)), refusal=_failed(response.outcome, response.reason))
            for url, (response, path) in self._downloads.items()
        ]
        found = sorted(repositories(self._code) + downloads, key=lambda repository: repository.locator)
        if not found:
            raise RunError(
                f"source {self._code.name}: no repository matches {', '.join(self._code.paths)} in {self._code.base}",
                f"check `paths`: folders, git repositories, or archives ({', '.join(ARCHIVES)})",
            )
        self._log, self._outcomes, self._bad_rows = [], Counter(), Counter()
        for done, repository in enumerate(found):
            self._report(done, len(found), f"{done} of {len(found)} repositories")
            if repository.locator in self._downloads and self._keeps(repository.locator):
                yield Kept(repository.locator)
                continue
            try:
                if repository.refusal:
                    raise Unreadable(*repository.refusal)
                with self._tree(repository) as tree:
                    yield from self._read_tree(repository, tree)
            except Unreadable as error:
                self._end(repository.locator, error.outcome, error.reason, 0, "", 0.0)
        self._report(len(found), len(found), f"{len(found)} of {len(found)} repositories")

    def _tree(self, repository: Repository) -> AbstractContextManager[Tree]:
        if repository.git:
            return git_tree(repository.git, self._code.revision, self._work)
        if repository.locator not in self._downloads and repository.path.is_dir():
            return folder_tree(repository.path)
        name = url_name(repository.locator) if repository.locator in self._downloads else repository.path.name
        if not is_archive(name):
            raise Unreadable("unknown_format", f"{name} is no folder and no archive ({', '.join(ARCHIVES)})")
        if self._code.revision:
            raise Unreadable("no_revision", "an archive has no revisions; leave `revision` empty")
        return archive_tree(repository.path, name, self._work, self._code.max_bytes, lambda inside: bool(_kind(inside)))

    def _read_tree(self, repository: Repository, tree: Tree) -> Iterator[Record]:
        vendor = "vendored" in self._code.leave_out
        licences = _licences([blob for blob in tree.blobs if not (vendor and vendored_folder(blob.path))])
        vendored: Counter[str] = Counter()
        before = len(self._log)
        name = tree.name or repository.name
        for blob in tree.blobs:
            language = language_of(blob.path)
            known = language and (not self._code.languages or language in self._code.languages)
            if not blob.refusal and not (known and self._passes(blob.path)):
                continue
            others = vendored_folder(blob.path) if vendor else ""
            if others:
                vendored[others] += 1
                continue
            if blob.refusal and not (known or blob.refusal[0] == "submodule"):
                continue
            url = _url(repository, tree.prefix + blob.path)
            started = time.monotonic()
            try:
                record = self._record(blob, url, language, name, tree, licences, repository)
            except Unreadable as error:
                self._end(url, error.outcome, error.reason, blob.size, "", time.monotonic() - started)
                continue
            self._end(url, "ok", "", blob.size, "", time.monotonic() - started)
            yield record
        if len(self._log) == before and not vendored:
            self._end(repository.locator, "no_text", "no file of a language that is wanted", 0, "", 0.0)
        for folder, files in sorted(vendored.items()):
            reason = f"{files:,} files of others' code, by the name of their folder"
            self._end(_url(repository, f"{tree.prefix}{folder}/"), "vendored", reason, 0, "", 0.0)

    def _record(
        self,
        blob: Blob,
        url: str,
        language: str,
        name: str,
        tree: Tree,
        licences: dict[str, Licence],
        repository: Repository,
    ) -> Record:
        """The record of a file. Raises Unreadable with the reason why it is none."""
        text, charset = self._text(blob, language)
        own, near = stated(text), nearest(blob.path, licences)
        meta = {"extractor": "as is", "charset": charset, "path": blob.path}
        if tree.commit:
            meta["commit"] = tree.commit
        if near:
            meta |= {"license_file": near.path, "license_sha256": near.sha256}
        whole = self._code.split_by == "repository"
        return Record(
            url,
            blob.path,
            text,
            page_of_origin=repository.locator if whole else url,
            license=own or (near.spdx if near else ""),
            tags={"language": language, "repository": clean(name)},
            meta=meta,
        )

    def _text(self, blob: Blob, language: str) -> tuple[str, str]:
        """The text and its charset. Raises Unreadable for what is no code that a person wrote."""
        if blob.refusal:
            raise Unreadable(*blob.refusal)
        if "generated" in self._code.leave_out and generated_name(blob.path):
            raise Unreadable("generated", "its name says so")
        if blob.size > self._code.max_file_bytes:
            raise Unreadable("too_large", f"{blob.size:,} bytes, more than {self._code.max_file_bytes:,}")
        data = blob.read()
        if b"\0" in data[:_BINARY_BYTES] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise Unreadable("binary", "no text")
        text, charset = _decoded(data, language)
        text = text.strip("\n")
        if not text.strip():
            raise Unreadable("no_text", "empty")
        if len(text) < self._code.min_chars:
            raise Unreadable("short", "too little text")
        if "generated" in self._code.leave_out and (words := generated_text(text)):
            raise Unreadable("generated", f"it says: {words}")
        if "minified" in self._code.leave_out and (why := minified(blob.path, text)):
            raise Unreadable("minified", why)
        return text, charset

    def _passes(self, path: str) -> bool:
        if self._allow and not self._allow.match_file(path):
            return False
        return not (self._deny and self._deny.match_file(path))


def repositories(params: CodeSource) -> list[Repository]:
    """The repositories on this machine that the source's paths name, each once, ordered by locator."""
    base = Path(params.base).absolute()
    found: dict[Path, Repository] = {}
    for pattern in params.paths:
        if is_url(pattern):
            continue
        whole = Path(os.path.normpath(base / pattern))
        named = os.path.lexists(whole)
        paths = [whole] if named else [Path(name) for name in sorted(glob.glob(str(whole), recursive=True))]
        for path in paths:
            if not named and not path.is_dir() and not is_archive(path.name):
                continue
            entry = _repository(path, base, named, params)
            other = found.get(path.resolve())
            if other is None or entry.locator < other.locator:
                found[path.resolve()] = entry
    return sorted(found.values(), key=lambda repository: repository.locator)


def _repository(path: Path, base: Path, named: bool, params: CodeSource) -> Repository:
    locator = locator_of(path, base)
    name = _stem(path.resolve().name)
    if path.is_symlink() and not named:
        return Repository(locator, path, name, refusal=("link", "a symbolic link, which is not followed"))
    if not path.is_dir():
        return Repository(locator, path, name)
    try:
        bare = not os.path.lexists(path / ".git")
        git = git_dir(path) if params.revision or bare else None
    except Unreadable as error:
        return Repository(locator, path, name, refusal=(error.outcome, error.reason))
    if params.revision and git is None:
        return Repository(locator, path, name, refusal=("no_revision", "no git repository; leave `revision` empty"))
    return Repository(locator, path, name, git)


def _licences(blobs: list[Blob]) -> dict[str, Licence]:
    """The licence file of each folder that has one, by folder; of several the first by name."""
    found: dict[str, Licence] = {}
    for blob in blobs:
        folder = str(PurePosixPath(blob.path).parent)
        if folder in found and found[folder].spdx:
            continue
        if blob.refusal is None and is_licence(blob.path) and blob.size <= 10_000_000:
            try:
                told = licence(blob.path, blob.read())
            except Unreadable:
                continue
            if folder not in found or told.spdx:
                found[folder] = told
    return found


def _decoded(data: bytes, language: str) -> tuple[str, str]:
    if language == "python":
        try:
            charset, _ = tokenize.detect_encoding(io.BytesIO(data).readline)  # PEP 263
            return clean(data.decode(charset)), charset
        except (SyntaxError, UnicodeDecodeError, LookupError):
            pass
    decoded = decode(data)
    if decoded.source == "replaced":
        raise Unreadable("binary", "text of no charset that is known")
    return clean(decoded.text), decoded.charset


def _kind(path: str) -> str:
    return language_of(path) or ("licence" if is_licence(path) else "")


def _spec(patterns: tuple[str, ...]) -> pathspec.GitIgnoreSpec | None:
    if not patterns:
        return None
    import pathspec

    return pathspec.GitIgnoreSpec.from_lines(patterns)


def _url(repository: Repository, path: str) -> str:
    folder = repository.git is None and repository.path.is_dir() and not is_url(repository.locator)
    if not folder:
        return f"{repository.locator}#{quote(path)}"
    return f"{'file:' if repository.locator == 'file:.' else repository.locator + '/'}{quote(path)}"


def _stem(name: str) -> str:
    lower = name.lower()
    suffix = next((suffix for suffix in [*_ARCHIVE_SUFFIXES, ".git"] if lower.endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def _failed(outcome: str, reason: str) -> tuple[str, str] | None:
    return None if outcome in ("ok", "unchanged") else (outcome, reason)
