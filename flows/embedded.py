"""A Prefect server for one run, when no other is configured.

Prefect's own temporary server outlives a killed parent. This one reads its standard input and ends when that
closes, so that `kill -9` of a run leaves no server behind. Its database is `<store>/.prefect/prefect.db`: history
for people to look at; losing it loses no work. A second run at the same time gets a private, temporary one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from storage.atomic import disk_errors
from storage.errors import RunError, StorageError
from storage.store import Store

START_SECONDS = 90.0
STOP_SECONDS = 20.0
DATABASE_BYTES = 8_000_000  # an empty one is 1.4 MB, and its log grows to 4 MB


@contextlib.contextmanager
def prefect_server(store: Store) -> Iterator[None]:
    """Use the configured Prefect server for the length of the block, or an embedded one when there is none."""
    from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

    if get_current_settings().api.url:
        yield
        return
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_database_folder(store))
        port = _free_port()
        process = stack.enter_context(_server(folder, port))
        url = f"http://127.0.0.1:{port}/api"
        _wait_until_ready(url, process, folder / "server.log")
        stack.enter_context(temporary_settings({PREFECT_API_URL: url}))
        yield


@contextlib.contextmanager
def _database_folder(store: Store) -> Iterator[Path]:
    """The store's own folder when no other run holds it, a temporary one otherwise."""
    folder = store.root / ".prefect"
    with contextlib.ExitStack() as stack:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(folder / "lock", "ab"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="collect-train-prefect-")))
        yield folder


@contextlib.contextmanager
def _server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / 'prefect.db'}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_UI_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "DO_NOT_TRACK": "1",
    }
    with disk_errors(folder), open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.embedded", str(port)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the run; the server ends after it
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # it holds no work; a finished run must not fail because of it
            process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    import requests

    session = requests.Session()
    session.trust_env = False  # a proxy has no business between us and loopback
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(requests.RequestException):
            if session.get(f"{url}/health", timeout=2).ok:
                return
        time.sleep(0.1)
    if shutil.disk_usage(log.parent).free < DATABASE_BYTES:
        raise StorageError(
            f"disk full: no room for the embedded Prefect server's database in {log.parent}",
            "free space or move the store (--store DIR); what was finished is kept, run the same command again",
        )
    last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
    raise RunError(
        f"the embedded Prefect server did not start: {last[0]}",
        f"see {log}; or start one with `prefect server start` and set PREFECT_API_URL",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_parent() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def main() -> None:
    """Serve Prefect's API on loopback until standard input closes."""
    import uvicorn

    threading.Thread(target=_end_with_parent, daemon=True).start()
    uvicorn.run(
        "prefect.server.api.server:create_app",
        factory=True,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="error",
        timeout_keep_alive=10,
    )


if __name__ == "__main__":
    main()
