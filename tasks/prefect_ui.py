"""What Prefect's user interface shows of a step beside its state.

Prefect only looks on: a server that does not answer costs a line and a moment, never the step's work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import cast
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

UPDATE_SECONDS = 2.0
SILENCE_SECONDS = 60.0  # how long a server that did not answer is left alone

_lock = threading.Lock()
_told = False
_silent_until = 0.0


class ProgressArtifact:
    """The progress artifact of one step: a ring in the graph of the run. Nothing outside a task run."""

    def __init__(self, label: str, tell: Callable[[str], None]) -> None:
        """`tell` gets a line when the server does not answer, once in the life of this process."""
        self._key = "".join(c if c.isascii() and c.isalnum() else "-" for c in label.lower()).strip("-")
        self._tell = tell
        self._artifact: UUID | None = None
        self._next = 0.0

    def update(self, percent: float, note: str) -> None:
        """Show how far the step is; at most every two seconds."""
        now = time.monotonic()
        if TaskRunContext.get() is None or now < self._next:
            return
        self._next = now + UPDATE_SECONDS
        to_prefect(lambda: self._send(percent, note), self._tell)

    def _send(self, percent: float, note: str) -> None:
        if self._artifact is None:
            made = create_progress_artifact(progress=percent, key=self._key, description=note)
            self._artifact = cast(UUID, made)  # a coroutine only inside an event loop
        else:
            update_progress_artifact(self._artifact, progress=percent, description=note)


def to_prefect(call: Callable[[], None], tell: Callable[[str], None]) -> None:
    """Make one call to Prefect's API that the run can do without.

    When it fails the run goes on, `tell` gets one line (the first time only), and for a minute no call is made.
    """
    global _told, _silent_until
    if time.monotonic() < _silent_until:
        return
    try:
        # Prefect would try five more times over a minute, and the step's work would stand still meanwhile.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            call()
    except (httpx.HTTPError, PrefectException) as error:
        with _lock:
            _silent_until = time.monotonic() + SILENCE_SECONDS
            first, _told = not _told, True
        if first:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            tell(f"the Prefect server does not answer ({reason}); the work goes on, its page stands still")
