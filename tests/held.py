"""Trainings that stand still where a test wants them, so that no machine is too fast for it to look or to kill.

    env = {FAULT_VARIABLE: every(40)}       # it stops itself (SIGSTOP) at its 40th step, its 80th and so on
    (trainer,) = until_held(lambda: [...])  # there it stands, as long as the test needs
    goes_on_when_told(trainer)              # if somebody tells it to stop, or its parent dies, it goes on and obeys
    trainer.resume()                        # or it goes on to the next stop

A process that continues a training counts from its own first step: with fewer steps left than the count, it does not
stop again. A run whose trainer stands still for more than a minute takes it for stalled (tasks/stall.py), unless it
has written less than four lines.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

PATIENCE = 280.0
PAUSE = 3.0  # seconds: more than between two lines of a trainer (1), or two of its events in a run's journal (2)


def every(steps: int) -> str:
    """The fault that makes a trainer stand still at every so many steps of its process."""
    return f"train.step:{steps}=stop"


def held(process: psutil.Process) -> bool:
    """Whether it stands still; False also when it is gone."""
    try:
        return process.status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False


def until_held(
    find: Callable[[], Sequence[psutil.Process]], count: int = 1, why_not: Callable[[], object] = lambda: ""
) -> list[psutil.Process]:
    """Wait until `find` gives `count` processes that all stand still; `why_not` says something when it never does."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            found = list(find())
        except psutil.Error:  # one is just beginning or ending
            found = []
        if len(found) == count and all(map(held, found)):
            return found
        assert time.monotonic() < until, f"{len(found)} of {count} trainers, not all held: {why_not()}"
        time.sleep(0.02)


def next_stop(trainer: psutil.Process) -> None:
    """Let it go on to where it stands still again; of the steps between, the first is in its progress file at least."""
    time.sleep(PAUSE)
    trainer.resume()
    until_held(lambda: [trainer], why_not=lambda: trainer)


def told_to_stop(process: psutil.Process) -> bool:
    """Whether SIGTERM or SIGINT waits for a process that stands still."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    waiting = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(mask & 1 << number - 1 for mask in waiting for number in (signal.SIGTERM, signal.SIGINT))


def goes_on_when_told(*processes: psutil.Process) -> None:
    """Let each go on as soon as it is told to stop: it then obeys, as one would that never stood still."""

    def watch() -> None:
        left = list(processes)
        while left:
            for process in left[:]:
                try:
                    if told_to_stop(process):
                        process.resume()
                    elif held(process):
                        continue
                except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                    pass
                left.remove(process)
            time.sleep(0.02)

    threading.Thread(target=watch, daemon=True).start()
