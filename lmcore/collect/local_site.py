"""Python's own documentation server: a real site of some 2,000 pages on every machine that has Python.

pydoc prints the environment, the home folder and the working folder on its pages, so the server gets an
environment with nothing but a default PATH, and empty temporary folders.

It dies with us: the kernel closes our end of its standard input when we die, also by kill -9. pydoc leaves at
the end of its input too, but hangs for ever once it has shown threading.html (it imports threading anew in the
serving thread, which takes away the lock that joining this thread waits for). So the input is watched by a
thread of our own, which removes the temporary folders and takes the process down at once, and pydoc reads a pipe
that never ends.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from storage.errors import RunError

READY_SECONDS = 60.0
STOP_SECONDS = 2.0
MAX_STARTS = 10
# What `python -m pydoc -n 127.0.0.1 -p 0` does, with the watch. Port 0: the kernel chooses a free one, so that
# no other server can be met by mistake.
_PROGRAM = """
import os, shutil, sys, _thread
def watch(lifeline, folder, read=os.read, remove=shutil.rmtree, leave=os._exit):
    while read(lifeline, 4096):
        pass
    remove(folder, ignore_errors=True)
    leave(0)
lifeline = os.dup(0)
os.dup2(os.pipe()[0], 0)
_thread.start_new_thread(watch, (lifeline, os.path.dirname(os.getcwd())))
sys.argv = ["pydoc", "-n", "127.0.0.1", "-p", "0"]
import pydoc
pydoc.cli()
"""
_READY = re.compile(rb"Server ready at (http://\S+)")


class PydocSite:
    """The running server; a context manager. `address()` gives its `host:port` and starts it again when it died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ""
        self._starts = 0

    def __enter__(self) -> PydocSite:
        self._folder = Path(tempfile.mkdtemp(prefix="collect-train-pydoc-"))
        self.address()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        return self._process.pid if self._process else None

    def address(self) -> str:
        """`127.0.0.1:PORT` of the living server. Raises RunError when it cannot be started, or dies again and again."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._stop()
                self._start()
            return self._address

    def _start(self) -> None:
        assert self._folder is not None, "use PydocSite as a context manager"
        self._starts += 1
        if self._starts > MAX_STARTS:
            raise RunError(
                f"Python's documentation server died {MAX_STARTS} times",
                "add the page it was asked for last to `deny` in the source's settings",
            )
        home, folder = self._folder / "home", self._folder / "work"
        home.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        output = self._folder / "output"
        with open(output, "wb") as file:
            self._process = subprocess.Popen(
                [_base_python(), "-I", "-S", "-u", "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=folder,
                # A relative HOME: its name appears on a page, and is to be the same every time.
                env={"PATH": os.defpath, "HOME": "../home"},
            )
        self._address = self._wait_until_ready(output)

    def _wait_until_ready(self, output: Path) -> str:
        assert self._process is not None
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            found = _READY.search(output.read_bytes())
            if found:
                return urlsplit(found[1].decode()).netloc
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        said = output.read_bytes().decode("utf-8", "replace").strip().splitlines()
        self._stop()
        raise RunError(
            f"Python's documentation server did not start: {said[-1] if said else 'it said nothing'}",
            f"try `{sys.executable} -m pydoc -p 0`; on Debian and Ubuntu it is in the python3 package, not in -minimal",
        )

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _base_python() -> str:
    """The interpreter behind a virtual environment: its path shows on a page, and names no project folder."""
    return str(getattr(sys, "_base_executable", sys.executable))
