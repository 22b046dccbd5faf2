"""Run a program of ours beside the flow: watch it, end it with us, and hand on its error."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from lmcore.train import PARENT_VARIABLE
from storage.atomic import disk_errors
from storage.errors import CollectTrainError, RunError, UserError
from tasks.stall import Stalled

GRACE_SECONDS = 8.0
TICK_SECONDS = 0.5
STACK_SECONDS = 3.0


def run_process(
    command: list[str],
    *,
    log: Path,
    error_file: Path,
    tick: Callable[[], None],
    on_start: Callable[[int], None] = lambda _: None,
) -> None:
    """Run `command` to its end, its output appended to `log`, calling `tick` about twice a second.

    `on_start` is called once, with its process id. It gets its own process group; when this call is left by an
    exception (Ctrl-C, a cancelled run), the group is asked to stop by SIGTERM and killed after 8 seconds, with all that
    it has started. When `tick` raises Stalled, it is first asked (by SIGUSR1) to write its stacks into the log. Raises
    the CollectTrainError that the program left in `error_file`, else RunError with its last line.
    """
    error_file.unlink(missing_ok=True)  # an earlier attempt's; this one may die before it can write its own
    with disk_errors(log), open(log, "ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", PARENT_VARIABLE: str(os.getpid())},
            start_new_session=True,
        )
    try:
        on_start(process.pid)
        while process.poll() is None:
            tick()
            time.sleep(TICK_SECONDS)
    except Stalled:
        _ask_for_stacks(process, command[-1], log)
        raise
    finally:
        if process.poll() is None:
            _stop(process)
    tick()
    if process.returncode:
        raise _error(command, process.returncode, log, error_file)


def _ask_for_stacks(process: subprocess.Popen[bytes], argument: str, log: Path) -> None:
    """Ask it, and those that it started with the same last argument, for their stacks; wait until they are written."""
    before = last = log.stat().st_size
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(process.pid)
        for asked in [found, *(child for child in found.children(recursive=True) if argument in child.cmdline())]:
            asked.send_signal(signal.SIGUSR1)
            asked.send_signal(signal.SIGCONT)  # one that was stopped answers nothing
    until = time.monotonic() + STACK_SECONDS
    while time.monotonic() < until:
        time.sleep(TICK_SECONDS)
        size = log.stat().st_size
        if size == last > before:
            return
        last = size


def _stop(process: subprocess.Popen[bytes]) -> None:
    started: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        started = psutil.Process(process.pid).children(recursive=True)
    try:
        for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 5.0)):
            os.killpg(process.pid, number)
            if number == signal.SIGTERM:
                os.killpg(process.pid, signal.SIGCONT)  # one that was stopped obeys nothing but SIGKILL
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                return
    except ProcessLookupError:
        return
    finally:
        for child in started:  # torchrun gives each of its processes a session of its own
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def _error(command: list[str], code: int, log: Path, error_file: Path) -> CollectTrainError:
    if error_file.exists():
        left = json.loads(error_file.read_text(encoding="utf-8"))
        kind = UserError if left["exit_code"] == UserError.exit_code else RunError
        return kind(left["what"], left["mend"])
    program = " ".join(command[1:3])
    if code < 0:
        name = signal.Signals(-code).name
        hint = (
            "the kernel may have run out of memory: make the model or batch smaller; "
            if code == -signal.SIGKILL
            else ""
        )
        return RunError(f"{program} was ended by {name}", f"{hint}run again to continue; its log: {log}")
    said = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    return RunError(f"{program} ended with code {code}: {said[-1]}", f"its whole log is {log}; run again to continue")
