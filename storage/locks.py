"""One builder per key on one machine. The kernel drops the lock when its holder dies.

The lock is an optimisation, not the guarantee: should two builders run anyway, the first complete artifact
wins and the other one is discarded.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from storage.atomic import disk_errors

POLL_SECONDS = 0.2


class Locked(Exception):
    """Somebody else holds the lock, and waiting was not wanted. `holder` is its process id, as far as it is told."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"held by process {holder}")
        self.holder = holder


def holder(path: Path) -> str | None:
    """The process that holds the lock file `path` alone, None when nobody does."""
    if not path.exists():
        return None
    try:
        with file_lock(path, wait=False, shared=True):
            return None
    except Locked as locked:
        return locked.holder


@contextlib.contextmanager
def file_lock(
    path: Path, on_wait: Callable[[str], None] | None = None, *, shared: bool = False, wait: bool = True
) -> Iterator[None]:
    """Hold a lock on `path` for the length of the block: alone, or, when `shared`, beside others who share it.

    While another process is in the way, wait; `on_wait` is called once with the holder's process id. Raises Locked
    instead when `wait` is False. On a read-only file system a shared lock is nothing: nobody can change what it guards.
    """
    descriptor = _open(path, shared=shared)
    if descriptor is None:
        yield
        return
    try:
        told = False
        while True:
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip() or "unknown"
                if not wait:
                    raise Locked(holder) from None
                if not told and on_wait is not None:
                    on_wait(holder)
                told = True
                time.sleep(POLL_SECONDS)
        if not shared:  # those who share it are many
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path, *, shared: bool) -> int | None:
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if shared and error.errno == errno.EROFS:
                return None
            raise
