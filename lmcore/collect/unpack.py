"""From a file on disk to the plain files in it: compression undone with a cap, archives opened with checked names.

A packed file (`.gz`, `.zst`, `.bz2`, `.xz`) holds one plain file. An archive (`.zip`, `.7z`, `.tar`, also packed) holds
members; each is written to a numbered file in the work folder, so that no name in an archive ever becomes a path.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import itertools
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

import zstandard

PACKINGS = (".gz", ".zst", ".bz2", ".xz")
ARCHIVES = (".zip", ".7z", ".tar", ".tgz", ".tar.gz", ".tar.zst", ".tar.bz2", ".tar.xz")
PIECE = 64 * 1024
# zstandard cannot be told to stop: 4 bytes may unpack to 128 KiB, so small pieces bound what one call gives.
ZSTD_PIECE = 1024
ZSTD_WINDOW = 128 * 1024 * 1024
XZ_MEMORY = 256 * 1024 * 1024
MAX_MEMBERS = 100_000
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, ValueError, IndexError, OverflowError),
)


class Unreadable(Exception):
    """A file that gives nothing: the outcome, and the reason in one line."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(f"{outcome}: {reason}")
        self.outcome = outcome
        self.reason = reason

    @classmethod
    def of(cls, error: OSError) -> Unreadable:
        """For a file that the system does not let us read."""
        return cls("unreadable", os.strerror(error.errno or 0))


@dataclass(frozen=True)
class Member:
    """A plain file to read. `inside` is its path within an archive, "" for a file that is none."""

    name: str  # the last part of its name
    path: Path
    inside: str = ""
    refusal: tuple[str, str] | None = None  # outcome and reason, for a member that may not be read
    others: Mapping[str, Path] = field(default_factory=dict)  # the archive's other members by `inside`
    room: Path | None = None  # a folder for what a reader has to put by, removed afterwards; None is the system's
    near: Callable[[str], Path | None] | None = None  # the file of a name next to one that is in no archive

    def beside(self, name: str) -> Path | None:
        """The plain file of that name, or the packed one unpacked, next to this one: in the archive, in the folder, or
        of the same source at the same place of a server; None when there is none. Raises Unreadable for a damaged one.
        """
        if self.inside:
            wanted = (str(PurePosixPath(self.inside).with_name(spelling)) for spelling in spellings(name))
            return next((self.others[spelling] for spelling in wanted if spelling in self.others), None)
        if self.near:
            return self.near(name)
        path = self.path.with_name(name)
        return path if path.is_file() and not path.is_symlink() else None


def plain_name(name: str) -> str:
    """The name without its packing: `a.txt` for `a.txt.gz`."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in PACKINGS else name


def spellings(name: str) -> tuple[str, ...]:
    """The names under which a plain file may lie: its own, and packed."""
    return name, *(name + packing for packing in PACKINGS)


def is_archive(name: str) -> bool:
    """Whether a file of this name holds members."""
    return name.lower().endswith(ARCHIVES)


@contextlib.contextmanager
def opened(
    path: Path,
    name: str,
    work: Path,
    max_bytes: int,
    wanted: Callable[[str], bool],
    near: Callable[[str], Path | None] | None = None,
) -> Iterator[list[Member]]:
    """The plain files in a file, ordered by name; unpacked copies in `work` are removed afterwards.

    `name` tells how it is packed; of an archive only members `wanted` by name are unpacked, at most `max_bytes` of
    them together. `near` gives, by its name as it lies there, the file next to this one. Raises Unreadable for what is
    no plain file, too large when unpacked, truncated or damaged.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise Unreadable("unreadable", "not a plain file")
        # Opened once here so that a missing permission is one outcome for all formats.
        path.open("rb").close()
    except OSError as error:
        raise Unreadable.of(error) from error
    folder = work / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    def beside(wanted_name: str) -> Path | None:
        for spelling in spellings(wanted_name):
            if found := near(spelling) if near else None:
                try:
                    return _plain(found, spelling, folder / "beside", max_bytes)
                except Unreadable as error:
                    raise Unreadable(error.outcome, f"{spelling} beside it: {error.reason}") from error
        return None

    try:
        if is_archive(name):
            yield _members(path, name, folder, max_bytes, wanted)
        else:
            yield [
                Member(
                    name, _plain(path, name, folder / "plain", max_bytes), room=folder, near=beside if near else None
                )
            ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _plain(path: Path, name: str, target: Path, max_bytes: int) -> Path:
    """Where the plain file is: a packed one is unpacked into `target`."""
    if plain_name(name) != name:
        _unpack(path, name, target, max_bytes)
        return target
    size = path.stat().st_size
    if size > max_bytes:
        raise Unreadable("too_large", f"{size:,} bytes, more than {max_bytes:,}")
    return path


def _members(path: Path, name: str, folder: Path, max_bytes: int, wanted: Callable[[str], bool]) -> list[Member]:
    suffix = os.path.splitext(name.lower())[1]
    if suffix == ".zip":
        return _from_zip(path, folder, max_bytes, wanted)
    if suffix == ".7z":
        from lmcore.collect.unpack_7z import members

        return members(path, Room(folder, max_bytes), max_bytes, wanted)
    if suffix == ".tar":
        return _from_tar(path, folder, max_bytes, wanted)
    tar = folder / "archive.tar"
    _unpack(path, name, tar, max_bytes)
    return _from_tar(tar, folder, max_bytes, wanted)


class Room:
    """Writes members to numbered files, at most `max_bytes` in all."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self._left = self._cap = max_bytes
        self.found: dict[str, Path] = {}
        self.refused: dict[str, tuple[str, str]] = {}

    def place(self) -> Path:
        """Where the next member is to be written."""
        return self.folder / f"{len(self.found) + len(self.refused):06d}"

    def take(self, inside: str, read: Callable[[int], bytes]) -> None:
        """Write a member, which `read` gives piece by piece. Raises Unreadable when there is no room left."""
        path = self.place()
        with open(path, "wb") as target:
            while piece := read(PIECE):
                self._left -= len(piece)
                if self._left < 0:
                    raise Unreadable("too_large", f"more than {self._cap:,} bytes unpacked")
                target.write(piece)
        self.keep(inside, path)

    def keep(self, inside: str, path: Path) -> None:
        """A member that has been written, unpacked where it is packed. Raises Unreadable when there is no room left."""
        if plain_name(inside) != inside and not is_archive(inside):
            packed, path = path, path.with_name(f"{path.name}-plain")
            try:
                _unpack(packed, inside, path, self._left)
            except Unreadable as error:
                if error.outcome == "too_large":
                    raise Unreadable("too_large", f"more than {self._cap:,} bytes unpacked") from error
                self.refuse(inside, error.outcome, error.reason)
                return
            finally:
                packed.unlink()
            self._left -= path.stat().st_size
        self.found[inside] = path

    def refuse(self, inside: str, outcome: str, reason: str) -> None:
        """A member that may not be read."""
        self.refused[inside] = outcome, reason

    def members(self) -> list[Member]:
        """All of them, ordered by name."""
        good = [
            Member(PurePosixPath(name).name, path, name, others=self.found, room=self.folder)
            for name, path in self.found.items()
        ]
        bad = [Member(PurePosixPath(name).name, self.folder, name, why) for name, why in self.refused.items()]
        return sorted(good + bad, key=lambda member: member.inside)


@contextlib.contextmanager
def _read_from(what: str) -> Iterator[None]:
    """Damage that the reader of an archive finds, in all the ways it has of saying so, as Unreadable."""
    try:
        yield
    except OSError as error:
        # bz2's word for bytes that are not its own has no number; EINVAL is a place before the file's beginning.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise Unreadable("damaged", _one_line(error, what)) from error
    except _DAMAGE as error:
        raise Unreadable("damaged", _one_line(error, what)) from error


def _one_line(error: Exception, what: str) -> str:
    said = error.strerror if isinstance(error, OSError) and error.errno else str(error)
    return " ".join((said or "").split())[:300] or f"not a {what} archive"


def _reader(source: IO[bytes], what: str) -> Callable[[int], bytes]:
    """`read` of a member. Only this is told as damage, not the writing: a full disk is not the archive's fault."""

    def read(size: int) -> bytes:
        with _read_from(what):
            return source.read(size)

    return read


def _from_zip(path: Path, folder: Path, max_bytes: int, wanted: Callable[[str], bool]) -> list[Member]:
    room = Room(folder, max_bytes)
    with contextlib.ExitStack() as stack:
        with _read_from("zip"):
            archive = stack.enter_context(zipfile.ZipFile(path))
            entries = archive.infolist()
            check_count(len(entries))
            files = [entry for entry in entries if not entry.is_dir() and wanted(entry.filename)]
        for entry in files:
            link = stat.S_ISLNK(entry.external_attr >> 16)
            if why := refusal(entry.filename, entry.filename in room.found, link):
                room.refuse(entry.filename, *why)
            elif entry.flag_bits & 1:
                room.refuse(entry.filename, "encrypted", "the member is encrypted")
            else:
                with _read_from("zip"):
                    source = archive.open(entry)
                with source:
                    room.take(entry.filename, _reader(source, "zip"))
    return room.members()


def _from_tar(path: Path, folder: Path, max_bytes: int, wanted: Callable[[str], bool]) -> list[Member]:
    room = Room(folder, max_bytes)
    with contextlib.ExitStack() as stack:
        with _read_from("tar"):
            archive = stack.enter_context(tarfile.open(path, "r:"))
        for count in itertools.count():
            with _read_from("tar"):
                entry = archive.next()
            if entry is None:
                break
            check_count(count)
            if entry.isdir() or not wanted(entry.name):
                continue
            if why := refusal(entry.name, entry.name in room.found, not entry.isreg()):
                room.refuse(entry.name, *why)
                continue
            with _read_from("tar"):
                source = archive.extractfile(entry)
            assert source is not None
            with source:
                room.take(entry.name, _reader(source, "tar"))
    return room.members()


def check_count(count: int) -> None:
    """Raise Unreadable for an archive of too many members."""
    if count > MAX_MEMBERS:
        raise Unreadable("too_large", f"more than {MAX_MEMBERS:,} members")


def refusal(inside: str, doubled: bool, special: bool) -> tuple[str, str] | None:
    """Why a member is left out: names are only labels here, but one that climbs is no honest archive's."""
    parts = PurePosixPath(inside.replace("\\", "/")).parts
    if inside.startswith(("/", "\\")) or ".." in parts or (parts and parts[0].endswith(":")):
        return "outside", "the name of the member leads out of the archive"
    if special:
        return "unreadable", "a link or a device, not a plain file"
    return ("duplicate", "the archive holds another member of that name") if doubled else None


def _unpack(path: Path, name: str, plain: Path, max_bytes: int) -> None:
    written = 0
    try:
        # Writing may fail too, and that is not the input's fault: it is let through.
        with open(plain, "wb") as target:
            for piece in _pieces(path, os.path.splitext(name.lower())[1]):
                written += len(piece)
                if written > max_bytes:
                    raise Unreadable("too_large", f"more than {max_bytes:,} bytes unpacked")
                target.write(piece)
    except EOFError as error:
        raise Unreadable("truncated", f"breaks off after {written:,} unpacked bytes") from error
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError, lzma.LZMAError) as error:
        raise Unreadable("damaged", " ".join(str(error).split())) from error


def _pieces(path: Path, suffix: str) -> Iterator[bytes]:
    if suffix in (".gz", ".tgz"):
        with gzip.open(path, "rb") as source:
            yield from iter(lambda: source.read(PIECE), b"")
    elif suffix == ".zst":
        yield from _unzstd(path)
    else:
        new = bz2.BZ2Decompressor if suffix == ".bz2" else lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY)
        yield from _streams(path, new)


def _streams(path: Path, new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]) -> Iterator[bytes]:
    """Streams one after the other in bounded pieces. Raises EOFError when the last is not complete."""
    with open(path, "rb") as source:
        data, stream = source.read(PIECE), new()
        while True:
            try:
                yield stream.decompress(data, PIECE)
            except OSError as error:  # bz2's name for bytes that are not its own
                raise Unreadable("damaged", " ".join(str(error).split())) from error
            if stream.eof:
                data = stream.unused_data or source.read(PIECE)
                if not data.strip(b"\0"):  # padding
                    return
                stream = new()
            else:
                data = source.read(PIECE) if stream.needs_input else b""
                if stream.needs_input and not data:
                    raise EOFError


def _unzstd(path: Path) -> Iterator[bytes]:
    """Raises EOFError when the last frame is not complete."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    frame = None
    with open(path, "rb") as source:
        while piece := source.read(ZSTD_PIECE):
            while piece:
                frame = frame or decompressor.decompressobj()
                yield frame.decompress(piece)
                piece = frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame = None
    if frame is not None:
        raise EOFError
