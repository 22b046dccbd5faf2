"""Runs that are only a journal, written by a living process, and commands at a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from helpers_flows import ROOT, environment

# Writes the events it reads, one JSON object a line, into a run's journal; "log" is a line for run.log.
KEEPER = """
import json, os, pathlib, sys
from tasks.alive import describe
from tasks.journal import RunJournal
book = RunJournal(pathlib.Path(sys.argv[1]), print)
for line in sys.stdin:
    event = json.loads(line)
    if event["event"] == "log":
        book.log(event["text"])
    else:
        if event["event"] == "attempt":
            event = event | describe(os.getpid())
        book.event(**event)
    print("ok", flush=True)
"""
ABOUT = {"recipe": "tiny", "edition": "first"}
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Keeper:
    """A process that keeps the journal of one run."""

    def __init__(self, store: Path, run: str) -> None:
        self.folder = store / "runs" / run
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", KEEPER, str(self.folder)],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def write(self, event: str, **values) -> None:
        """One event; it is in the file when this returns."""
        self.process.stdin.write(json.dumps({"event": event, **values}) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n"

    def attempt(self, number: int = 1, **values) -> None:
        """The beginning of an attempt."""
        told = {"first": "collect", "last": "release", "deployed": False, "command": "collect-train run tiny.yaml"}
        self.write("attempt", run=self.folder.name, number=number, **ABOUT, **(told | values))

    def end(self, state: str = "Completed", **values) -> None:
        """The end of an attempt."""
        self.write("end", state=state, **({"what": "", "mend": "", "seconds": 1.5} | values), **ABOUT)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@contextlib.contextmanager
def keepers(store: Path):
    """keepers(store) as keep: keep(run) gives a Keeper; all are killed in the end."""
    started: list[Keeper] = []

    def keep(run: str) -> Keeper:
        started.append(Keeper(store, run))
        return started[-1]

    try:
        yield keep
    finally:
        for keeper in started:
            if keeper.process.returncode is None:
                keeper.kill()


class Terminal:
    """A command at a terminal of 50 lines and 130 columns."""

    def __init__(self, *args: str, env: dict[str, str] | None = None) -> None:
        self._own, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 130, 0, 0))
        shown = environment(**(env or {}))
        del shown["COLUMNS"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *args],
            cwd=ROOT,
            env={**shown, "TERM": "xterm-256color"},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
        )
        os.close(other)
        self.text = ""

    def send(self, keys: str) -> None:
        """Press keys; what is on the screen until now is no longer looked at."""
        self.text = ""
        os.write(self._own, keys.encode())

    def read_until(self, pattern: str, patience: float = 200.0) -> re.Match[str]:
        """Wait for text on the screen; escape sequences are left out of it."""
        end = time.monotonic() + patience
        while not (found := re.search(pattern, ESCAPES.sub("", self.text))):
            assert self._read(), f"it ended without {pattern!r}:\n{self.text[-6000:]}"
            assert time.monotonic() < end, f"no {pattern!r} in:\n{self.text[-6000:]}"
        return found

    def finish(self, patience: float = 200.0) -> int:
        """Wait for the end; gives the exit code."""
        end = time.monotonic() + patience
        while self._read():
            assert time.monotonic() < end, f"it did not end:\n{self.text[-6000:]}"
        return self.process.wait(patience)

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._own)

    def _read(self) -> bool:
        if not select.select([self._own], [], [], 0.2)[0]:
            return self.process.poll() is None
        try:
            data = os.read(self._own, 65536)
        except OSError:  # its other side is closed
            return False
        self.text += data.decode("utf-8", "replace")
        return bool(data)


@contextlib.contextmanager
def terminal(*args: str, env: dict[str, str] | None = None):
    """A command at a terminal, for the length of the block."""
    command = Terminal(*args, env=env)
    try:
        yield command
    finally:
        command.close()
