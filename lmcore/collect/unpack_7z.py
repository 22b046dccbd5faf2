"""Archives in 7-Zip's format, by py7zr (the extra `sevenzip`: LGPL, and it brings eight packages)."""

from __future__ import annotations

import errno
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmcore.collect.unpack import Member, Room, Unreadable, check_count, refusal
from storage.errors import RunError

if TYPE_CHECKING:
    import py7zr

MAX_DICTIONARY = 2**30  # bytes that LZMA may ask for; 7z's "ultra" takes 64 MiB, Stack Exchange's dumps 256
_LZMA, _LZMA2 = b"\x03\x01\x01", b"\x21"


def members(path: Path, room: Room, max_bytes: int, wanted: Callable[[str], bool]) -> list[Member]:
    """The members that are wanted by name, ordered by name. Raises Unreadable, or RunError where py7zr is missing."""
    try:
        import py7zr
        from py7zr.exceptions import ArchiveError, DecompressionBombError, PasswordRequired
    except ImportError as error:
        raise RunError(
            f"{path.name} is a 7-Zip archive, and py7zr is not installed",
            "install it (pip install 'collect-train[sevenzip]'), or unpack the archive with 7z and name the folder",
        ) from error
    damaged = (ArchiveError, lzma.LZMAError, zlib.error, EOFError, ValueError, LookupError, TypeError, AttributeError)
    try:
        # Given an open file, py7zr unpacks one member after the other; given a path, in threads of its own.
        with open(path, "rb") as file, py7zr.SevenZipFile(file, max_extract_size=max_bytes) as archive:
            _check(archive)
            names = _names(archive, room, wanted)
            if names:
                places = _unpacked(archive, names, room.folder)
                for name in names:
                    if name in places:
                        room.keep(name, places[name])
    except PasswordRequired as error:
        raise Unreadable("encrypted", "the archive is encrypted") from error
    except DecompressionBombError as error:
        raise Unreadable("too_large", f"more than {max_bytes:,} bytes unpacked") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the file's beginning; anything else is not the input's fault
            raise
        raise Unreadable("damaged", "not a 7-Zip archive") from error
    except damaged as error:
        raise Unreadable("damaged", _line(error)) from error
    return room.members()


def _check(archive: py7zr.SevenZipFile) -> None:
    """Raise Unreadable for what may not be unpacked, before anything is."""
    check_count(len(archive.files))
    if archive.needs_password():
        raise Unreadable("encrypted", "the archive is encrypted")
    streams = archive.header.main_streams
    for folder in streams.unpackinfo.folders if streams else []:
        for coder in folder.coders:
            if _dictionary(coder) > MAX_DICTIONARY:
                raise Unreadable("too_large", f"unpacking needs more than {MAX_DICTIONARY:,} bytes of memory")


def _dictionary(coder: dict[str, Any]) -> int:
    """Bytes of memory that a coder asks for, by the format's description (7zFormat.txt, LZMA2's in xz's)."""
    properties = coder.get("properties") or b""
    if coder.get("method") == _LZMA and len(properties) >= 5:
        return int.from_bytes(properties[1:5], "little")
    if coder.get("method") == _LZMA2 and properties:
        bits = properties[0]
        return 2**32 - 1 if bits >= 40 else (2 | (bits & 1)) << (bits // 2 + 11)
    return 0


def _unpacked(archive: py7zr.SevenZipFile, names: list[str], folder: Path) -> dict[str, Path]:
    """Write members to numbered files; gives where each is."""
    from py7zr.helpers import get_sanitized_output_path
    from py7zr.io import Py7zIO, WriterFactory

    called = {get_sanitized_output_path(name, None).as_posix(): name for name in names}
    places: dict[str, Path] = {}

    class Target(Py7zIO):
        """A file that py7zr writes to from its beginning to its end."""

        def __init__(self, path: Path) -> None:
            self._file = open(path, "wb")  # noqa: SIM115 - py7zr closes it
            self._size = 0

        def write(self, s: bytes | bytearray) -> int:
            self._size += len(s)
            return self._file.write(s)

        def read(self, size: int | None = None) -> bytes:  # noqa: ARG002
            return b""

        def seek(self, offset: int, whence: int = 0) -> int:  # noqa: ARG002
            return 0

        def flush(self) -> None:
            self._file.flush()

        def size(self) -> int:
            return self._size

        def close(self) -> None:
            self._file.close()

    class Targets(WriterFactory):
        """Gives each member its file, whatever py7zr makes of its name."""

        def create(self, filename: str) -> Py7zIO:
            path = folder / f"7z-{len(places):06d}"
            places[called.get(filename, f"\0{len(places)}")] = path  # a second one of a name is nobody's
            return Target(path)

    archive.extract(targets=names, factory=Targets())
    return places


def _names(archive: py7zr.SevenZipFile, room: Room, wanted: Callable[[str], bool]) -> list[str]:
    """The members to unpack; those that may not be read are refused in the room."""
    names: dict[str, None] = {}
    for entry in archive.files:
        if entry.is_directory or not wanted(entry.filename):
            continue
        special = entry.is_symlink or entry.is_junction or entry.is_socket
        if why := refusal(entry.filename, entry.filename in names, special):
            room.refuse(entry.filename, *why)
        else:
            names[entry.filename] = None
    return list(names)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or "not a 7-Zip archive"
