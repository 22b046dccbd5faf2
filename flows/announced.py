"""Where the server of `collect-train up` is told. Needs nothing but Python, since every `prefect` command loads it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path

ANNOUNCED = "server.json"  # url, pid and port of the server of `collect-train up`
LOCK = "lock"  # held as long as a server works on the folder


def announced_server(root: Path) -> str | None:
    """The API's URL of the server that `collect-train up` runs for the store at `root`, None when there is none.

    What a killed `up` has left, and what cannot be read, is no server: whoever holds the lock has announced itself.
    """
    folder = root / ".prefect"
    try:
        told = json.loads((folder / ANNOUNCED).read_bytes())
        url, pid = told["url"], told["pid"]
        if not (isinstance(url, str) and url.startswith("http") and isinstance(pid, int) and pid > 0):
            return None
        with contextlib.suppress(PermissionError):
            os.kill(pid, 0)  # on a store that machines share, the lock may be another machine's
        return url if _held(folder / LOCK) else None
    except (OSError, OverflowError, ValueError, KeyError, TypeError):
        return None


def _held(path: Path) -> bool:
    with open(path, "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
