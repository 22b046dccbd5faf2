"""The files of a git repository at a revision, read by git itself out of the objects alone.

A repository's own settings can name programs that git runs, and its hooks are programs. So git is given a repository
of ours, empty but for the place of the objects, and an environment with nothing else in it: nothing that the other
repository says is ever read but objects and the names of its branches and tags.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lmcore.collect.unpack import PIECE, Unreadable, check_count
from storage.errors import RunError

SECONDS = 600  # for one question to git
_NAME_BYTES = 1000
_LISTING_BYTES = 100_000_000
_NAMES_BYTES = 1_000_000  # of one path
_PACKED_REFS_BYTES = 100_000_000
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF = re.compile(r"refs/(?!.*\.\.)[\w./+@-]+")
_CONFIG = "[core]\n\trepositoryformatversion = {version}\n\tbare = true\n{more}"


def git_dir(path: Path) -> Path | None:
    """Where the repository of a folder is: itself (bare) or its .git. Raises Unreadable for one that lies elsewhere."""
    own = path / ".git"
    if own.is_symlink() or own.is_file():
        raise Unreadable("outside", "its .git leads to another folder; name the repository that it belongs to")
    for folder in (own, path):
        if (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir():
            return folder
    return None


class GitTree:
    """One commit of a repository. Use as a context manager: a git process is running."""

    def __init__(self, repository: Path, revision: str, work: Path) -> None:
        """`work` is where our own repository is made. Raises Unreadable when there is no such revision."""
        program = shutil.which("git")
        if program is None:
            raise RunError(
                "git repositories are read with git, and there is none", "install git, or name an archive of the code"
            )
        for name in ("objects/info/alternates", "objects/info/http-alternates"):
            if (repository / name).exists():
                raise Unreadable("outside", "some of its objects lie in another repository; clone it whole")
        if (repository / "reftable").exists():
            raise Unreadable("unknown_format", "its branches are kept in a reftable; clone it with files")
        self._repository = repository
        commit = revision if _HASH.fullmatch(revision) else self._ref(revision)
        self._git = [program, "--no-pager"]
        self._environment = _own(work, repository, commit)
        self.commit = self._commit(commit or revision or "HEAD")
        self._batch: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> GitTree:
        return self

    def __exit__(self, *_: object) -> None:
        if self._batch:
            self._batch.kill()
            self._batch.communicate()

    def entries(self) -> Iterator[tuple[str, str, str, int]]:
        """(mode, object, path, bytes) of everything in the tree, ordered by path; submodules are not entered.

        -1 bytes are those of an object that is missing or damaged. Raises Unreadable for a damaged tree and for one of
        too many entries: a tree may hold another a million times and take a kilobyte.
        """
        arguments = ["ls-tree", "-r", "-z", "--long", "--full-tree", self.commit]
        with subprocess.Popen(
            [*self._git, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdout
            late = threading.Timer(SECONDS, process.kill)
            late.start()
            try:
                for count, line in enumerate(_lines(process.stdout), 1):
                    check_count(count)
                    facts, _, path = line.partition(b"\t")
                    mode, _, name, size = facts.decode("ascii").split()
                    length = int(size) if size.isdecimal() else 0 if size == "-" else -1
                    yield mode, name, path.decode("utf-8", "backslashreplace"), length
            except BaseException:
                process.kill()  # the listing is not wanted to its end
                raise
            finally:
                late.cancel()
        if process.returncode:
            raise Unreadable("damaged", "git ls-tree cannot read it")

    def read(self, name: str) -> bytes:
        """The bytes of an object whose size is known to be small."""
        if self._batch is None:
            self._batch = subprocess.Popen(
                [*self._git, "cat-file", "--batch"],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        ask, answer = self._batch.stdin, self._batch.stdout
        assert ask is not None and answer is not None  # noqa: PT018
        try:
            ask.write(f"{name}\n".encode())
            ask.flush()
            return _answer(answer)
        except (OSError, ValueError) as error:
            self.__exit__()
            self._batch = None
            raise Unreadable("damaged", "git cannot read the object") from error

    def _commit(self, name: str) -> str:
        try:
            return self._ask("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}").decode("ascii").strip()
        except Unreadable as error:
            raise Unreadable("no_revision", f"no commit {name} in it") from error

    def _ask(self, *arguments: str) -> bytes:
        try:
            done = subprocess.run(
                [*self._git, *arguments], env=self._environment, capture_output=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise Unreadable("damaged", f"git has not answered in {SECONDS} seconds") from error
        if done.returncode:
            raise Unreadable("damaged", f"git {arguments[0]} cannot read it")
        return done.stdout

    def _ref(self, revision: str) -> str:
        """The object that a branch or tag names; "" when none is called so (a short hash, most likely)."""
        if revision in ("", "HEAD"):
            said = _line(self._repository / "HEAD")
            if _HASH.fullmatch(said):
                return said
            revision = said.removeprefix("ref: ")
        packed = self._packed()
        for prefix in ("", "refs/tags/", "refs/heads/", "refs/remotes/", "refs/remotes/origin/"):
            name = prefix + revision
            if _REF.fullmatch(name):
                said = _line(self._repository / name)
                if _HASH.fullmatch(said):
                    return said
                if name in packed:
                    return packed[name]
        return ""

    def _packed(self) -> dict[str, str]:
        try:
            with open(self._repository / "packed-refs", encoding="utf-8", errors="replace") as file:
                words = [line.split() for line in file.read(_PACKED_REFS_BYTES).split("\n")]
        except OSError:
            return {}
        return {word[1]: word[0] for word in words if len(word) == 2 and _HASH.fullmatch(word[0])}


def _lines(listing: IO[bytes]) -> Iterator[bytes]:
    """What stands before each NUL. Raises Unreadable when it is more than a listing of many files."""
    left, rest = _LISTING_BYTES, b""
    while piece := listing.read(PIECE):
        left -= len(piece)
        if left < 0 or len(rest) > _NAMES_BYTES:
            raise Unreadable("too_large", "the names of its files are too long")
        *whole, rest = (rest + piece).split(b"\0")
        yield from whole


def _line(path: Path) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_NAME_BYTES).strip()
    except OSError:
        return ""


def _answer(answer: IO[bytes]) -> bytes:
    """The body of one answer of `cat-file --batch`. Raises ValueError when it is no whole blob."""
    kind, size = answer.readline().decode("ascii", "replace").split()[1:3] or ("", "")
    data = answer.read(int(size))
    if kind != "blob" or len(data) != int(size) or answer.read(1) != b"\n":
        raise ValueError(kind)
    return data


def _own(work: Path, repository: Path, commit: str) -> dict[str, str]:
    """Make an empty repository that borrows the other's objects; gives git's whole environment."""
    own = work / "git"
    shutil.rmtree(own, ignore_errors=True)
    for folder in ("objects", "refs"):
        (own / folder).mkdir(parents=True)
    (own / "HEAD").write_text("ref: refs/heads/none\n", encoding="ascii")
    longer = len(commit) == 64
    more = "[extensions]\n\tobjectformat = sha256\n" if longer else ""
    (own / "config").write_text(_CONFIG.format(version=int(longer), more=more), encoding="ascii")
    return {
        "GIT_DIR": os.fspath(own.absolute()),
        "GIT_OBJECT_DIRECTORY": os.fspath((repository / "objects").absolute()),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C",
    }
