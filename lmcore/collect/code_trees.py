"""The files of a repository, wherever it lies: a folder, a commit of a git repository, an archive."""

from __future__ import annotations

import logging
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lmcore.collect.code_git import GitTree
from lmcore.collect.unpack import Member, Unreadable, opened

if TYPE_CHECKING:
    import pathspec

LINK = ("link", "a symbolic link, which is not followed")
DAMAGED = ("damaged", "git cannot read the object")
SUBMODULE = ("submodule", "a repository of its own; name it in `paths`")
_HASH_DIGITS = 40
# Each star of a name multiplies the time of matching by the length of the name, each ** by the depth of the path.
_MAX_STARS = 3
_MAX_FOLDERS = 2


@dataclass(frozen=True)
class Blob:
    """A file of a repository, by its path there; `refusal` says why it may not be read."""

    path: str
    size: int
    read: Callable[[], bytes]
    refusal: tuple[str, str] | None = None


@dataclass(frozen=True)
class Tree:
    """The files of a repository, ordered by path. `name` and `commit` are "" where nothing says them."""

    blobs: list[Blob]
    name: str = ""
    commit: str = ""
    prefix: str = ""  # the one folder that everything in an archive is in


@contextmanager
def folder_tree(root: Path) -> Iterator[Tree]:
    """What lies in a folder, but for what its .gitignore files name."""
    yield Tree(sorted(_walk(root, "", []), key=lambda blob: blob.path))


@contextmanager
def git_tree(repository: Path, revision: str, work: Path) -> Iterator[Tree]:
    """A commit. Raises Unreadable when there is none, or the repository is damaged."""
    with GitTree(repository, revision, work) as tree:
        yield Tree([_git_blob(tree, *entry) for entry in tree.entries()], commit=tree.commit)


@contextmanager
def archive_tree(path: Path, name: str, work: Path, max_bytes: int, wanted: Callable[[str], bool]) -> Iterator[Tree]:
    """What is in an archive, as GitHub and others make them: in one folder, and with the commit beside it."""
    with opened(path, name, work, max_bytes, wanted) as members:
        tops = {PurePosixPath(member.inside).parts[0] for member in members if member.inside}
        deep = all("/" in member.inside for member in members)
        prefix = f"{min(tops)}/" if deep and len(tops) == 1 else ""
        blobs = [_member_blob(member, prefix) for member in members]
        yield Tree(blobs, prefix.rstrip("/"), _archived_commit(path, name), prefix)


def _member_blob(member: Member, prefix: str) -> Blob:
    size = 0 if member.refusal else member.path.stat().st_size
    return Blob(member.inside.removeprefix(prefix), size, lambda: _bytes(member.path), member.refusal)


def _git_blob(tree: GitTree, mode: str, name: str, path: str, size: int) -> Blob:
    refusal = {"160000": SUBMODULE, "120000": LINK}.get(mode) or (DAMAGED if size < 0 else None)
    return Blob(path, max(size, 0), lambda: tree.read(name), refusal)


def _walk(folder: Path, inside: str, ignores: list[tuple[str, pathspec.GitIgnoreSpec]]) -> Iterator[Blob]:
    """The files of a folder and those below; `ignores` are the patterns of the folders above, with these folders."""
    import pathspec

    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Blob(inside.rstrip("/"), 0, bytes, ("unreadable", os.strerror(error.errno or 0)))
        return
    own = folder / ".gitignore"
    if own.is_file() and not own.is_symlink():
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
        ignores = [*ignores, (inside, pathspec.GitIgnoreSpec.from_lines(_patterns(lines)))]
    for entry in entries:
        path = inside + os.fsencode(entry.name).decode("utf-8", "backslashreplace")
        directory = entry.is_dir(follow_symlinks=False)
        if entry.name == ".git" or _ignored(f"{path}/" if directory else path, ignores):
            continue
        if entry.is_symlink():
            yield Blob(path, 0, bytes, LINK)
        elif directory and os.path.lexists(Path(entry.path, ".git")):
            yield Blob(path, 0, bytes, SUBMODULE)
        elif directory:
            yield from _walk(Path(entry.path), f"{path}/", ignores)
        else:
            yield _file_blob(path, Path(entry.path))


def _file_blob(path: str, file: Path) -> Blob:
    try:
        facts = file.lstat()
    except OSError as error:
        return Blob(path, 0, bytes, ("unreadable", os.strerror(error.errno or 0)))
    refusal = None if stat.S_ISREG(facts.st_mode) else ("unreadable", "not a plain file")
    return Blob(path, facts.st_size, lambda: _bytes(file), refusal)


def _patterns(lines: list[str]) -> Iterator[str]:
    """The patterns that can be read: git passes over the others too. So is one of more stars than any needs: matching
    it may take hours.
    """
    import pathspec

    for line in lines:
        names = line.removeprefix("!").rstrip().split("/")
        stars = max((name.count("*") for name in names if name != "**"), default=0)
        if stars > _MAX_STARS or names.count("**") > _MAX_FOLDERS:
            logging.getLogger(__name__).warning(".gitignore: a pattern of too many stars is passed over: %.60s", line)
            continue
        try:
            pathspec.GitIgnoreSpec.from_lines([line])
        except (ValueError, TypeError):
            continue
        yield line


def _ignored(path: str, ignores: list[tuple[str, pathspec.GitIgnoreSpec]]) -> bool:
    """The innermost .gitignore that says anything of a path decides."""
    for folder, spec in reversed(ignores):
        said = spec.check_file(path.removeprefix(folder)).include
        if said is not None:
            return bool(said)
    return False


def _bytes(path: Path) -> bytes:
    """The file, unless it has become a link meanwhile."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            return file.read()
    except OSError as error:
        raise Unreadable.of(error) from error


def _archived_commit(path: Path, name: str) -> str:
    """The commit that `git archive` has written into its archive."""
    try:
        if name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                said = archive.comment.decode("ascii", "replace")
        elif name.lower().endswith((".tar", ".gz", ".tgz", ".bz2", ".xz")):
            with tarfile.open(path) as tar:
                said = tar.pax_headers.get("comment", "")
        else:
            return ""
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, ValueError):
        return ""
    return said if len(said) == _HASH_DIGITS and set(said) <= set("0123456789abcdef") else ""
