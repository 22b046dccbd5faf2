"""When the time of a response is over its socket is closed, whatever the server still drips into it."""

from __future__ import annotations

import contextlib
import itertools
import math
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any


class Deadline:
    """Closes the socket in use when the time of a response is over."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._end

    @contextlib.contextmanager
    def watch(self, local: threading.local) -> Iterator[None]:
        """Close `local.socket`, whatever it is then, should the time be over before this ends."""
        # The watcher's thread cannot see this thread's locals: hand it the dictionary behind them.
        watched = _WATCHER.add(self._end, local.__dict__)
        try:
            yield
        finally:
            _WATCHER.remove(watched)


class _Watcher:
    """One thread that closes the sockets of all requests whose time is over: a timer for each costs a thread each."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: dict[int, tuple[float, dict[str, Any]]] = {}
        self._numbers = itertools.count()
        self._wakes = math.inf
        self._runs = False

    def add(self, end: float, state: dict[str, Any]) -> int:
        """Watch the request of a thread until `end`; gives what `remove` takes."""
        with self._changed:
            number = next(self._numbers)
            self._watched[number] = (end, state)
            if not self._runs:
                threading.Thread(target=self._run, name="deadlines", daemon=True).start()
                self._runs = True
            elif end < self._wakes:
                self._changed.notify()
            return number

    def remove(self, number: int) -> None:
        """The request is over."""
        with self._changed:
            self._watched.pop(number, None)

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for number in [number for number, (end, _) in self._watched.items() if end <= now]:
                    shut(self._watched.pop(number)[1])
                self._wakes = min((end for end, _ in self._watched.values()), default=math.inf)
                self._changed.wait(None if self._wakes == math.inf else self._wakes - now)


_WATCHER = _Watcher()


def shut(state: dict[str, Any]) -> None:
    """Cut off what the `socket` of a thread's state sends and reads."""
    if state.get("socket") is not None:
        with contextlib.suppress(OSError):
            # On the plain socket: SSLSocket.shutdown would pull the TLS layer away under the reading thread.
            socket.socket.shutdown(state["socket"], socket.SHUT_RDWR)
