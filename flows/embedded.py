"""A Prefect server for one store: for the length of one run, or of `collect-train up`.

Prefect's own temporary server outlives a killed parent. This one reads its standard input and ends when that
closes, so that `kill -9` of its parent leaves no server behind. Its database is `<store>/.prefect/prefect.db`:
history for people to look at; losing it loses no work. A run uses the server that is configured, else the one that
`collect-train up` says it runs for the store (`<store>/.prefect/server.json`), else starts one; a second such run
at the same time gets a private, temporary one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from flows.announced import ANNOUNCED, LOCK, announced_server
from storage.atomic import disk_errors
from storage.errors import RunError, StorageError, UserError
from storage.redact import blank_secrets
from storage.store import Store

START_SECONDS = 90.0
STOP_SECONDS = 20.0
DATABASE_VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
DATABASE_BYTES = 8_000_000  # an empty one is 1.4 MB, and its log grows to 4 MB


@dataclass(frozen=True)
class Server:
    """A server that this process runs."""

    url: str  # of its API
    log: Path
    process: subprocess.Popen[bytes]

    def check(self) -> None:
        """Raises RunError when it has ended."""
        if self.process.poll() is not None:
            raise RunError(
                f"the Prefect server ended with code {self.process.returncode}: {_last_line(self.log)}",
                f"see {self.log}, then start it again; what was being built goes on",
            )


@contextlib.contextmanager
def prefect_server(store: Store) -> Iterator[None]:
    """Use the configured Prefect server for the length of the block, or an embedded one when there is none."""
    from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

    if get_current_settings().api.url:
        yield
        return
    with contextlib.ExitStack() as stack:
        url = running_server(store)
        if url is None:
            folder = stack.enter_context(database_folder(store))
            url = stack.enter_context(server(folder)).url
        stack.enter_context(temporary_settings({PREFECT_API_URL: url}))
        yield


def running_server(store: Store) -> str | None:
    """The API's URL of the server that `collect-train up` runs for this store, None when there is none."""
    return announced_server(store.root)


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """RunError, or UserError for an address that is none, in the place of Prefect's own when no server answers."""
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import get_current_settings

    configured = get_current_settings().api.url
    try:
        yield
    except PrefectHTTPStatusError as error:
        raise _refused(error.response.status_code) from error
    except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:  # nothing of ours uses httpx
        cause: BaseException = error
        if isinstance(error, RuntimeError):
            if not str(error).startswith("Failed to reach API"):
                raise
            cause = error.__cause__ or error
        why = blank_secrets(str(cause)) or type(cause).__name__
        if isinstance(cause, (httpx.UnsupportedProtocol, httpx.InvalidURL)):
            raise UserError(
                f"PREFECT_API_URL is {blank_secrets(str(configured))}: {why}",
                "write it as in http://127.0.0.1:4200/api",
            ) from error
        raise RunError(
            f"the Prefect server does not answer: {why}" + (f" ({blank_secrets(configured)})" if configured else ""),
            ("start it, or unset PREFECT_API_URL to do without; " if configured else "")
            + "what was built is in the store; run the same command again",
        ) from error


def _refused(status: int) -> RunError:
    if status in (401, 403):
        return RunError(
            f"the Prefect server refused us: {status}",
            "set PREFECT_API_AUTH_STRING=user:password as the server's PREFECT_SERVER_API_AUTH_STRING has it",
        )
    return RunError(f"the Prefect server answered {status}", "see the server's log")


@contextlib.contextmanager
def database_folder(store: Store, *, alone: bool = False) -> Iterator[Path]:
    """The store's own folder when no other run holds it; else a temporary one, or UserError when `alone`."""
    folder = store.root / ".prefect"
    with contextlib.ExitStack() as stack:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(folder / LOCK, "ab"))
        if _take(lock):
            with disk_errors(folder):
                (folder / ANNOUNCED).unlink(missing_ok=True)  # of an `up` that was killed
        else:
            if alone:
                raise UserError(
                    f"another server works on {folder}",
                    "wait for the run that started it, stop the other `collect-train up`, or use another --store",
                )
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="collect-train-prefect-")))
        yield folder


def _take(lock: IO[bytes]) -> bool:
    for _ in range(3):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)  # somebody may only look whether it is held
        else:
            return True
    return False


@contextlib.contextmanager
def server(folder: Path, *, host: str = "127.0.0.1", port: int = 0, ui: bool = False) -> Iterator[Server]:
    """Run a Prefect server with its database in `folder` for the length of the block.

    With `ui`, which only `collect-train up` asks for, PREFECT_SERVER_DATABASE_CONNECTION_URL may name another
    database, such as PostgreSQL; a run's own server never uses it. `port` 0 takes a free one. Raises RunError when
    the server does not start, StorageError when its disk is full.
    """
    port = _free_port(host, port)
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - only compared
    url = f"http://{f'[{reached}]' if ':' in reached else reached}:{port}/api"
    own_database = f"sqlite+aiosqlite:///{folder / 'prefect.db'}"
    environment = {
        **os.environ,
        DATABASE_VARIABLE: (ui and os.environ.get(DATABASE_VARIABLE)) or own_database,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_UI_ENABLED": str(ui).lower(),
        "PREFECT_UI_API_URL": "/api",  # of whatever address the browser has reached us by
        "PREFECT_SERVER_UI_V2_ENABLED": "false",  # it asks an analytics service of its own accord
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "DO_NOT_TRACK": "1",
    }
    with disk_errors(folder), open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.embedded", host, str(port)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the run; the server ends after it
        )
    try:
        _wait_until_ready(url, process, folder / "server.log")
        yield Server(url, folder / "server.log", process)
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
    raise RunError(
        f"the embedded Prefect server did not start: {_last_line(log)}",
        f"see {log}; or start one with `prefect server start` and set PREFECT_API_URL",
    )


def _last_line(log: Path) -> str:
    """The exception of the last traceback, which more may follow, else the last line."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    found = lines[-1] if lines else "it said nothing"
    within = False
    for line in lines:
        if line.startswith("Traceback "):
            within = True
        elif within and not line[0].isspace():
            found, within = line, False
    return blank_secrets(re.sub(r"^(?:\w+\.)+(?=\w+: )", "", found.strip()))


def _free_port(host: str, wanted: int) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that just stopped is not in the way
        try:
            probe.bind((host, wanted))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "ports go up to 65535"
            raise UserError(
                f"cannot serve on {host} port {wanted}: {reason}", "choose another with --port and --host"
            ) from error
        return int(probe.getsockname()[1])


def _end_with_parent() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def _mend_sqlite() -> None:
    """Keep Prefect's server from standing still for a minute on SQLite; without effect where its insides differ.

    The cursor of a statement that failed or was cancelled waits for the garbage collector, and that, on the event
    loop's thread, waits for the connection's next statement, which waits for the lock of a transaction that cannot
    end without the event loop. So it is closed at once, on its connection's thread. And SQLite refuses a transaction
    that reads, then writes while another does, and Prefect gives up an event refused four times. So transactions
    take the lock as they begin.
    """
    try:
        from aiosqlite import Cursor
        from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration

        execute: Any = Cursor._execute
        begin: Any = AioSqliteConfiguration.begin_transaction
    except (ImportError, AttributeError):
        return

    async def execute_or_close(cursor: Any, *args: Any, **options: Any) -> Any:
        try:
            return await execute(cursor, *args, **options)
        except BaseException:  # cancelled, too
            with contextlib.suppress(AttributeError):
                cursor._conn._tx.put_nowait((None, cursor._cursor.close))
            raise

    @contextlib.asynccontextmanager
    async def begin_at_once(database: Any, session: Any, with_for_update: bool = False) -> AsyncGenerator[Any]:
        nested = SQLITE_BEGIN_MODE.get() is not None  # it would wait for the one around it
        async with begin(database, session, with_for_update=with_for_update or not nested) as transaction:
            if nested or with_for_update:
                yield transaction
                return
            await session.connection()
            token = SQLITE_BEGIN_MODE.set("DEFERRED")  # tasks that begin in here inherit it
            try:
                yield transaction
            finally:
                SQLITE_BEGIN_MODE.reset(token)

    Cursor._execute = execute_or_close  # type: ignore[assignment, method-assign]
    AioSqliteConfiguration.begin_transaction = begin_at_once  # type: ignore[assignment, method-assign]


def main() -> None:
    """Serve Prefect's API until standard input closes."""
    import uvicorn

    threading.Thread(target=_end_with_parent, daemon=True).start()
    _mend_sqlite()
    uvicorn.run(
        "prefect.server.api.server:create_app",
        factory=True,
        host=sys.argv[1],
        port=int(sys.argv[2]),
        log_level="error",
        timeout_keep_alive=10,
    )


if __name__ == "__main__":
    main()
