"""`collect-train up` as a process of its own, Prefect's command line beside it, and what its API says."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from held import every, goes_on_when_told, until_held
from helpers_flows import ROOT, Done, environment, finish
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun

from deploy.recovery import SILENT
from storage.atomic import FAULT_VARIABLE
from storage.store import VARIABLE

BIN = Path(sys.executable).parent
PATIENCE = 280.0  # seconds: it bounds what hangs, on a machine that others use too
SOON = 60.0  # seconds until what was told to end is gone
UNTIL_FOUND_DEAD = SILENT.total_seconds() + PATIENCE
HOLD = 64  # steps until a held training stands still; the recipe `slow` has fewer left when it is taken up again
HELD = {"env": {FAULT_VARIABLE: every(HOLD)}}  # job variables of a run whose training is to be disturbed


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Up:
    """A running `collect-train up`."""

    def __init__(self, folder: Path, *options: str, recipes: Path, store: Path | None = None, **env: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.store = store or folder / "store"
        self.options = options
        self.log = folder / "up.log"
        self.env = environment(
            COLLECT_TRAIN_RECIPES=str(recipes),
            PREFECT_HOME=str(folder / "prefect-home"),
            PREFECT_WORKER_QUERY_SECONDS="1",
            **{VARIABLE: str(self.store)},
            **env,
        )
        if "PREFECT_API_URL" not in env:
            self.port = free_port()
            self.options += ("--port", str(self.port))
        self.url = env.get("PREFECT_API_URL") or f"http://127.0.0.1:{self.port}/api"
        self.start()

    def start(self) -> None:
        """Start it (again), and wait until its worker works."""
        with open(self.log, "ab") as log:
            begin = log.tell()
            self.process = subprocess.Popen(
                [BIN / "collect-train", "up", "--store", self.store, *self.options],
                env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        wait_for(lambda: "started!" in self.said()[begin:] or self.process.poll() is not None, "the worker to start")
        assert self.process.poll() is None, self.said()

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self) -> float:
        """Ctrl-C; gives the seconds it took. Nothing of it may be left."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)
        took = time.monotonic() - began
        assert not outlived(family), self.said()
        return took

    def prefect(self, *args: str, cwd: Path = ROOT, code: int | None = 0, **env: str) -> Done:
        """Run `prefect ARGS` as a person would in a terminal beside it."""
        command = [str(BIN / "prefect"), *args]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        done = finish(subprocess.Popen(command, env=self.env | env, text=True, cwd=cwd, **pipes))
        assert code is None or done.code == code, f"exit code {done.code}:\n{done.out}\n{done.err}"
        return done

    @contextlib.contextmanager
    def api(self) -> Iterator[SyncPrefectClient]:
        with SyncPrefectClient(self.url) as client:
            yield client

    def begin(self, deployment: str = "collect-train/collect-train", **options: Any) -> FlowRun:
        """Create a run through the API."""
        with self.api() as client:
            found = client.read_deployment_by_name(deployment)
            return client.create_flow_run_from_deployment(found.id, **options)

    def run(self, run: FlowRun) -> FlowRun:
        with self.api() as client:
            return client.read_flow_run(run.id)

    def ended(self, run: FlowRun, state: str = "COMPLETED", patience: float = PATIENCE) -> FlowRun:
        """Wait until a run is over, and expect this state."""
        wait_for(lambda: self.run(run).state.type.value in ("COMPLETED", "FAILED", "CANCELLED"), "the end", patience)
        seen = self.run(run)
        assert seen.state.type.value == state, f"{seen.state.type}: {seen.state.message}\n{self.said()[-6000:]}"
        return seen

    def trainer(self) -> psutil.Process | None:
        """The training process that works in this store."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                line = process.cmdline()
                if "lmcore.train" in line and line[-1].startswith(str(self.store)):
                    return process
        return None

    def training(self, run: FlowRun) -> psutil.Process:
        """Wait until the training process of a run begun with HELD stands still; it has saved something to resume.

        Told to stop, or without its parent, it goes on and obeys.
        """

        def found() -> list[psutil.Process]:
            return [process] if (process := self.trainer()) else []

        (trainer,) = until_held(found, why_not=lambda: f"{self.run(run).state!r}\n{self.said()[-4000:]}")
        assert any(self.store.glob(".work/train-*/checkpoints/*"))
        goes_on_when_told(trainer)
        return trainer


def wait_for(what: Callable[[], Any], name: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not what():
        assert time.monotonic() < deadline, f"waited {patience:.0f} s for {name}"
        time.sleep(0.2)


def outlived(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are still there a while after they were told to end, or after what they belong to ended."""
    _, alive = psutil.wait_procs(processes, timeout=SOON)
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def kill(*processes: psutil.Process) -> None:
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)


def engine(run: FlowRun) -> psutil.Process:
    """The process of a flow run."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "prefect.engine" in process.cmdline() and process.environ().get("PREFECT__FLOW_RUN_ID") == str(run.id):
                return process
    raise AssertionError(f"no process runs {run.id}")


def task_states(up: Up, run: FlowRun) -> list[str]:
    """Names of the states of a run's tasks, as far as the server has recorded them."""
    with up.api() as client:
        return [
            task.state.name
            for task in client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
        ]
