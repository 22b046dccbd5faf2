"""Shards measured in processes of their own, several at a time.

A worker is a plain child process that is told its work on standard input. When its parent ends, by kill -9 too, it
ends at once, in the middle of a shard: the next attempt may be writing the same files. Shards go there and back as
files: nothing large passes through a pipe.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import Any

from storage.errors import RunError

_ROOT = Path(__file__).resolve().parents[2]


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(module: ModuleType, jobs: Iterable[dict[str, Any]], count: int) -> Generator[Any, None, None]:
    """What `module.answer` says to each job, in their order, from `count` processes of the module (0: one a core).

    A single job, or a single process, is not worth starting one. Close it (`contextlib.closing`), so that the
    processes end when something goes wrong. Raises what a job raised.
    """
    count = count or cores()
    jobs = iter(jobs)
    first = list(islice(jobs, 2))
    if count == 1 or len(first) < 2:
        yield from (module.answer(job) for job in chain(first, jobs))
        return
    with _Workers(module.__name__, count) as workers:
        yield from workers.results(chain(first, jobs))


class _Workers:
    """Up to `count` processes of a module that answers jobs with `serve`; they are started as they are needed."""

    def __init__(self, module: str, count: int) -> None:
        self._module = module
        self._count = count
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all: list[_Worker] = []

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.stop()

    def results(self, jobs: Iterable[dict[str, Any]]) -> Iterator[Any]:
        """The answer to each job, in their order; jobs are taken two a worker ahead. Raises what a job raised."""
        waiting: deque[Future[Any]] = deque()
        with ThreadPoolExecutor(self._count, thread_name_prefix="shards") as pool:
            try:
                for job in jobs:
                    waiting.append(pool.submit(self._ask, job))
                    if len(waiting) > 2 * self._count:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except BaseException:
                for future in waiting:
                    future.cancel()
                for worker in self._all:
                    worker.stop()
                raise

    def _ask(self, job: dict[str, Any]) -> Any:
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            worker = _Worker(self._module)
            self._all.append(worker)
        try:
            return worker.ask(job)
        finally:
            self._idle.put(worker)


class _Worker:
    """One process."""

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],  # -P: no module of the folder that we happen to be called from
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, job: dict[str, Any]) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        line = b""
        with contextlib.suppress(BrokenPipeError, ValueError):  # ValueError: closed by `stop`
            self._process.stdin.write(json.dumps(job).encode("ascii") + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise RunError(
                f"a process that measures texts ended with status {self._process.wait()}",
                "most likely for lack of memory: set runtime.measure.workers=1, or see the system's log",
            )
        answer = json.loads(line)
        if "error" in answer:
            raise RunError(*answer["error"])
        return answer["result"]

    def stop(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.terminate()
        self._process.wait()


def serve(answer: Any) -> None:
    """Be a worker: answer every job that comes in by `answer(job)`."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os._exit(0)  # nobody waits for an answer any more

    threading.Thread(target=listen, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        while True:
            line = lines.get()
            try:
                told = {"result": answer(json.loads(line))}
            except RunError as error:
                told = {"error": [error.what, error.mend]}
            out.write(json.dumps(told).encode("ascii") + b"\n")
            out.flush()
