"""Wikitext read in processes of their own: several at a time, and none that takes a run down with it.

A few texts (unbalanced tags within links, say) make the parser take minutes or gigabytes. Such a text costs its worker,
which is replaced, and the page says why it has no text. Results come in the order of the texts.
"""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

from lmcore.collect.wikitext import Names, Plain, Unparsable, plain

CPU_SECONDS = 20.0  # for one text; the longest articles take less than one
MEMORY = 2 * 1024**3  # bytes of address space of a worker
_ROOT = Path(__file__).resolve().parents[2]

Key = TypeVar("Key")


class Workers:
    """`count` processes that read wikitext of one wiki. Use as a context; without a text nothing is started."""

    def __init__(self, count: int, names: Names, cpu_seconds: float = CPU_SECONDS) -> None:
        self._count = count
        self._names = names
        self._cpu_seconds = cpu_seconds
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all: list[_Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.stop()

    def read(self, texts: Iterable[tuple[Key, str | None]]) -> Iterator[tuple[Key, Plain | Unparsable | None]]:
        """What each text says, under the key it came with; None for no text. Texts are taken a few ahead."""
        for _ in range(self._count - len(self._all)):
            self._all.append(_Worker(self._names, self._cpu_seconds))
            self._idle.put(self._all[-1])
        left = iter(texts)
        waiting: deque[tuple[Key, Future[Plain | Unparsable] | None]] = deque()
        with ThreadPoolExecutor(self._count, thread_name_prefix="wikitext") as pool:

            def begin(some: Iterable[tuple[Key, str | None]]) -> None:
                waiting.extend((key, None if text is None else pool.submit(self._read, text)) for key, text in some)

            begin(islice(left, 4 * self._count))
            while waiting:
                key, future = waiting.popleft()
                result = future.result() if future else None
                begin(islice(left, 1))
                yield key, result

    def _read(self, text: str) -> Plain | Unparsable:
        worker = self._idle.get()
        try:
            return worker.read(text)
        finally:
            self._idle.put(worker)


class _Worker:
    """One process; started when it is needed, and again after a text that it died of."""

    def __init__(self, names: Names, cpu_seconds: float) -> None:
        self._names = names
        self._cpu_seconds = cpu_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, text: str) -> Plain | Unparsable:
        process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        try:
            _send(process.stdin, text)
            answer = _receive(process.stdout)
        except BrokenPipeError:
            answer = None
        if answer is None:
            self.stop()
            if process.returncode == -signal.SIGPROF:
                return Unparsable(f"wikitext that takes more than {self._cpu_seconds:g} s to read")
            return Unparsable(f"wikitext that its reader dies of (status {process.returncode})")
        if "problem" in answer:
            return Unparsable(answer["problem"])
        return Plain(answer["text"], tuple(answer["categories"]), answer["disambiguation"])

    def stop(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe
                with contextlib.suppress(OSError):
                    pipe.close()
            self._process.wait()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        # Its end of the pipe is closed when we die, by kill -9 too: then it ends by itself.
        process = subprocess.Popen(
            # -P: no module is looked for in the folder that we happen to be called from.
            [sys.executable, "-P", "-m", __name__],
            env={"PYTHONPATH": str(_ROOT)},
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin
        _send(process.stdin, [self._cpu_seconds, sorted(self._names.files), sorted(self._names.categories)])
        self._process = process
        return process


def _send(pipe: IO[bytes], value: Any) -> None:
    data = json.dumps(value).encode("ascii")  # \uXXXX for the rest: also a lone surrogate comes through
    pipe.write(len(data).to_bytes(8, "big") + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    """The next value; None at the end."""
    head = pipe.read(8)
    size = int.from_bytes(head, "big")
    data = pipe.read(size) if len(head) == 8 else b""
    return json.loads(data) if len(head) == 8 and len(data) == size else None


def _serve() -> None:
    """The worker: texts come in, what they say goes out."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    cpu_seconds, files, categories = _receive(sys.stdin.buffer)
    names = Names(frozenset(files), frozenset(categories))
    while (text := _receive(sys.stdin.buffer)) is not None:
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)  # SIGPROF ends the process, also in the midst of C code
        try:
            found = plain(text, names)
            answer: dict[str, Any] = dict(vars(found))
        except Unparsable as error:
            answer = {"problem": str(error)}
        except MemoryError:
            answer = {"problem": f"wikitext that takes more than {MEMORY // 1024**3} GiB to read"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(sys.stdout.buffer, answer)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        _serve()
