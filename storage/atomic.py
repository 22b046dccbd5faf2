"""Writing so that a crash at any instant leaves the old file or the new one, never a mixture.

`fault(name)` marks the instants that matter. It does nothing unless the environment variable
COLLECT_TRAIN_FAULT names it, and is the only test hook in product code:

    COLLECT_TRAIN_FAULT=store.publish.before-rename          kill -9 the first time this point is reached
    COLLECT_TRAIN_FAULT=train.step:7                         kill -9 the seventh time
    COLLECT_TRAIN_FAULT=store.publish.before-fsync=enospc    raise OSError(ENOSPC) there instead
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from storage.errors import StorageError

FAULT_VARIABLE = "COLLECT_TRAIN_FAULT"
_reached: Counter[str] = Counter()


def fault(name: str) -> None:
    """Die, fail or stand still here when the tests' fault variable asks for it; otherwise nothing.

    `NAME:3` dies at the third time this point is reached, `NAME:3=enospc` fails with that error of the system, and
    `NAME:3=stop` stands still at every third time, until somebody sends SIGCONT.
    """
    wanted = os.environ.get(FAULT_VARIABLE)
    if not wanted:
        return
    target, _, effect = wanted.partition("=")
    point, _, count = target.partition(":")
    if point != name:
        return
    _reached[name] += 1
    if effect == "stop":
        if _reached[name] % int(count or 1) == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        return
    if _reached[name] != int(count or 1):
        return
    if not effect:
        os.kill(os.getpid(), signal.SIGKILL)
    raise OSError(getattr(errno, effect.upper()), os.strerror(getattr(errno, effect.upper())), f"fault point {name}")


@contextlib.contextmanager
def disk_errors(path: Path | str) -> Iterator[None]:
    """Turn the operating system's refusals under `path` into one message that names the path.

    Raises StorageError for a full disk, a quota, a read-only file system or a missing permission.
    """
    try:
        yield
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) and os.path.isabs(error.filename) else str(path)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"disk full while writing {where}",
                "free space or move the store (--store DIR); what was finished is kept, run the same command again",
            ) from error
        if error.errno == errno.EROFS:
            raise StorageError(
                f"{where} is on a read-only file system", "choose a writable store with --store DIR"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise StorageError(
                f"no permission to use {where}", "change its owner or mode, or choose another store with --store DIR"
            ) from error
        raise


def fsync_path(path: Path) -> None:
    """Flush a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` atomically and durably."""
    write_chunks(path, [data])


def write_chunks(path: Path, chunks: Iterable[bytes]) -> None:
    """Replace `path` by `chunks`, one after the other, atomically and durably."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.part")
        try:
            with open(part, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            fault("atomic.write.before-rename")
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        fsync_path(path.parent)


def remove_parts(folder: Path) -> None:
    """Remove what a kill in the midst of `write_chunks` left anywhere below `folder`."""
    for part in folder.rglob(".*.part"):
        if part.is_file():
            part.unlink()


def write_text(path: Path, text: str) -> None:
    """Replace `path` by UTF-8 `text` atomically and durably."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by indented JSON with sorted keys, atomically and durably; NaN is refused."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def publish_folder(part: Path, final: Path, point: str) -> bool:
    """Make the finished folder `part` appear as `final` in one instant.

    Every file and folder in it is flushed first. Gives False, and removes `part`, when `final` was there
    already: the first complete writer wins. `point` names the fault points `POINT.before-fsync`,
    `POINT.before-rename` and `POINT.after-rename`.
    """
    with disk_errors(part):
        fault(f"{point}.before-fsync")
        for folder, _, names in os.walk(part, topdown=False):
            for name in names:
                fsync_path(Path(folder, name))
            fsync_path(Path(folder))
        final.parent.mkdir(parents=True, exist_ok=True)
        fault(f"{point}.before-rename")
        try:
            os.rename(part, final)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            shutil.rmtree(part)
            return False
        fault(f"{point}.after-rename")
        fsync_path(final.parent)
        return True
