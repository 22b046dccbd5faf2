"""How often a run has crashed: one that crashes every time must not be resumed for ever.

A run may begin again for other reasons: a person retries it, or its worker was stopped and the next one goes on.
Those are told apart by the states that it went through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

CRASHES = 3
AFTER_CRASH = "goes on after a crash"  # messages of the states by which deploy/recovery.py resumes a run
AFTER_STOP = "its worker had stopped"


def crashes(states: Sequence[State[Any]]) -> int:
    """How often a run has crashed since a person last retried it, from all its states."""
    count, before = 0, None
    for state in sorted(states, key=lambda state: state.timestamp):
        over = before is not None and before.is_final()
        if over and state.is_scheduled() and state.message not in (AFTER_CRASH, AFTER_STOP):
            count = 0  # by hand: of another name and message in the browser than on the command line
        elif state.is_crashed() and not (before is not None and before.is_crashed()):
            count += 1  # once, when both the worker and the missing heartbeat tell of it
        before = state
    return count
