"""The files in a package: a wheel, a source package, npm's tarball or Debian's, opened without trust in any name."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from lmcore.collect.unpack import PIECE, Member, Unreadable, opened

MAX_BYTES = 4_000_000_000  # unpacked, of one package
_AR = b"!<arch>\n"
_HEADER = 60  # bytes before each member of an ar archive


@contextlib.contextmanager
def files_in(path: Path, work: Path, wanted: Callable[[str], bool]) -> Iterator[list[Member]]:
    """The plain files whose path within the package is `wanted`, ordered by it; gone afterwards.

    Links and names that lead out of the package are passed over. Raises Unreadable for a damaged package or one that is
    too large.
    """
    name = path.name.lower()
    archive, alias = path, f"{name}.zip" if name.endswith(".whl") else name
    work.mkdir(parents=True, exist_ok=True)
    try:
        if name.endswith(".deb"):
            archive, alias = _data_of(path, work)
        with opened(archive, alias, work, MAX_BYTES, lambda inside: wanted(tidy(inside))) as members:
            yield [member for member in members if not member.refusal]
    finally:
        shutil.rmtree(work, ignore_errors=True)


def tidy(inside: str) -> str:
    """A member's path as every archive has it: Debian's begin with ./"""
    return inside.removeprefix("./")


def _data_of(path: Path, work: Path) -> tuple[Path, str]:
    """Debian's package is an ar archive; its files are in the member data.tar.*, written into `work`."""
    with open(path, "rb") as source:
        if source.read(len(_AR)) != _AR:
            raise Unreadable("damaged", "not a Debian package")
        while len(header := source.read(_HEADER)) == _HEADER:
            name = header[:16].decode("ascii", "replace").strip().rstrip("/")
            size = header[48:58].strip()
            if not size.isdigit() or header[58:] != b"`\n":
                break
            left = int(size)
            if not name.startswith("data.tar"):
                source.seek(left + left % 2, 1)
                continue
            target = work / "data"
            with open(target, "wb") as file:
                while left and (piece := source.read(min(PIECE, left))):
                    file.write(piece)
                    left -= len(piece)
            if left:
                raise Unreadable("truncated", "breaks off in data.tar")
            return target, name
    raise Unreadable("damaged", "no data.tar in it")
