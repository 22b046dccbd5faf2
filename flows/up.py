"""`collect-train up`: server, deployments and one worker, until Ctrl-C.

With PREFECT_API_URL set, that server is used and only the worker is ours: its deployments stay as they are, unless
asked, since they offer the recipes of the machine that wrote them. Else a server with its user interface is
started, its database in the store unless PREFECT_SERVER_DATABASE_CONNECTION_URL names another; it tells its address
in `<store>/.prefect/server.json`, where our other commands and Prefect's (through deploy/cli_plugin.py) find it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flows.announced import ANNOUNCED
from flows.embedded import DATABASE_VARIABLE, Server, database_folder, server
from storage.atomic import write_json
from storage.errors import RunError, UserError
from storage.store import VARIABLE, Store

POOL = "collect-train"
WORKER_STOP_SECONDS = 60.0
RESTARTS = 5  # of a worker that dies, within one `up`
RESTART_SECONDS = 3.0
WATCH_SECONDS = 2.0  # between looks at the server
LOOPBACK = ("127.0.0.1", "localhost", "::1")
AUTH_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"


@dataclass(frozen=True)
class Wishes:
    """What `up` was asked for, beyond the store."""

    host: str = "127.0.0.1"
    port: int = 4200
    pool: str = POOL
    runs: int | None = None  # at once; None: as the pool has it
    deploy: bool = False  # also on a server that is configured
    options: tuple[str, ...] = ()  # further ones of deploy.bootstrap


def up(store: Store, wishes: Wishes, console: Console) -> None:
    """Serve, deploy and work until Ctrl-C or SIGTERM. Raises RunError when a part does not start or keeps dying."""
    from prefect.settings import get_current_settings

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `up &` begins with it ignored
    configured = get_current_settings().api.url
    environment = os.environ | {
        VARIABLE: str(store.root.absolute()),
        "DO_NOT_TRACK": "1",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",  # `python` is this one
    }
    environment.setdefault("PREFECT_WORKER_QUERY_SECONDS", "3")
    with contextlib.ExitStack() as stack:
        own = None if configured else stack.enter_context(_own_server(store, wishes, environment))
        url = environment["PREFECT_API_URL"] = own.url if own else str(configured)
        for name in (AUTH_VARIABLE, DATABASE_VARIABLE):  # the server's own; no run has any use for them
            environment.pop(name, None)
        say = _Speaker(console)
        say(f"server    {url.removesuffix('/api')}" + ("  (opens in a browser)" if own else ""))
        pool = _bootstrap(wishes, environment, say, own=own is not None)
        say(f"store     {store.root.absolute()}")
        say(f"worker    of {pool}")
        _tell_how(say, url, store, configured=own is None)
        _work(wishes, environment, say, own)


class _Speaker:
    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)


def _tell_how(say: _Speaker, url: str, store: Store, *, configured: bool) -> None:
    from prefect.settings import get_current_settings

    command = "prefect deployment run collect-train"
    settings = f"PREFECT_API_URL={url} "
    if os.environ.get(AUTH_VARIABLE) or get_current_settings().api.auth_string:
        settings = f"PREFECT_API_AUTH_STRING=user:password {settings}"
    long = f"{settings}{command}/collect-train -p recipe=quickstart"
    plugins = get_current_settings().plugins
    if configured or not plugins.enabled or plugins.safe_mode:  # nobody would find the server
        say(f"start     {long}")
    else:
        found = store.root.resolve() == Path("store").resolve()  # whatever this terminal has in its environment
        where = "" if found else f"{VARIABLE}={shlex.quote(str(store.root.absolute()))} "
        say(f"start     {where}{command}            in this folder")
        say(f"          {long}")
    say("stop      Ctrl-C: what is being built goes on with the next `collect-train up`")


@contextlib.contextmanager
def _own_server(store: Store, wishes: Wishes, environment: dict[str, str]) -> Iterator[Server]:
    if wishes.host not in LOOPBACK and not environment.get(AUTH_VARIABLE):
        raise UserError(
            f"--host {wishes.host} would let anyone who reaches this machine start runs",
            f"set {AUTH_VARIABLE}=user:password first, and PREFECT_API_AUTH_STRING to the same for clients",
        )
    if environment.get(AUTH_VARIABLE):
        environment.setdefault("PREFECT_API_AUTH_STRING", environment[AUTH_VARIABLE])
    with database_folder(store, alone=True) as folder:
        announced = folder / ANNOUNCED
        with server(folder, host=wishes.host, port=wishes.port, ui=True) as own:
            write_json(announced, {"url": own.url, "pid": os.getpid(), "port": wishes.port})
            try:
                yield own
            finally:
                announced.unlink(missing_ok=True)


def _bootstrap(wishes: Wishes, environment: dict[str, str], say: _Speaker, *, own: bool) -> str:
    """Create or update what the server offers; gives the pool and its limit in words.

    In a process of its own, since the layer above us does it.
    """
    options = [*wishes.options]
    options += [] if wishes.runs is None else ["--runs", str(wishes.runs)]
    options += ["--nobody-works"] if own else [] if wishes.deploy else ["--keep"]
    done = subprocess.run(
        [sys.executable, "-m", "deploy.bootstrap", "--pool", wishes.pool, *options],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.strip().splitlines()
    for line in lines:
        if line.startswith("warning: "):
            say(line, "yellow")
    if done.returncode:
        what = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), "")
        mend = next((line.strip().removeprefix("to mend: ") for line in lines if "to mend: " in line), "")
        kind = UserError if done.returncode == UserError.exit_code else RunError
        raise kind(
            what or f"the deployments were not made: {lines[-1] if lines else 'no reason given'}",
            mend or "run `python -m deploy.bootstrap` by hand to see all it says",
        )
    return done.stdout.splitlines()[0]


def _work(wishes: Wishes, environment: dict[str, str], say: _Speaker, own: Server | None) -> None:
    """Keep one worker working until this process is told to stop, or our server ends (RunError)."""
    for _ in range(RESTARTS + 1):
        worker = _start_worker(wishes, environment)
        try:
            code = _ended(worker, own)
        except BaseException:  # Ctrl-C, SIGTERM, or the server is gone
            say("stopping", "yellow")
            _stop(worker)
            raise
        say(f"the worker ended with code {code}; starting it again", "yellow")
        time.sleep(RESTART_SECONDS)
    raise RunError(f"the worker of pool {wishes.pool} ended {RESTARTS + 1} times", "see what it printed above")


def _ended(worker: subprocess.Popen[bytes], own: Server | None) -> int:
    """Wait for the worker's exit code. Raises RunError when our server ends: a service manager starts both again."""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return worker.wait(WATCH_SECONDS)
        if own:
            own.check()


def _start_worker(wishes: Wishes, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    # Without --limit: the pool's own limit holds, and Prefect's worker dies when a limited one is offered a run again
    # before it has let go of it, as after every crash.
    command = ["--pool", wishes.pool, "--name", _worker_name()]
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.launch", "--", "python", "-m", "deploy.worker", *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us; we stop it in our order
    )


def _worker_name() -> str:
    return f"{socket.gethostname()}-{Path(sys.prefix).parent.name}".rstrip("-")[:60]


def _stop(worker: subprocess.Popen[bytes]) -> None:
    """Ask the worker to end, which stops its runs; then whatever is left of its group."""
    worker.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(WORKER_STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
