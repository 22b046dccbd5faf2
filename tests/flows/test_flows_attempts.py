"""What counts as a crash of a run, and what does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prefect.states import AwaitingRetry, Cancelled, Crashed, Failed, Pending, Running, Scheduled, State

from flows.attempts import AFTER_CRASH, AFTER_STOP, crashes

STATES = {
    "S": lambda: Scheduled(),
    "P": lambda: Pending(),
    "R": lambda: Running(),
    "X": lambda: Crashed(message="Process exited with status code: -9."),
    "F": lambda: Failed(message="gave up after 3 crashes"),
    "C": lambda: Cancelled(),
    "a": lambda: AwaitingRetry(message=AFTER_CRASH),  # by the automation
    "u": lambda: AwaitingRetry(message=AFTER_STOP),  # by `up`
    "l": lambda: Scheduled(message="its worker never began it"),
    "h": lambda: AwaitingRetry(message="Retry from the UI"),
    "c": lambda: Scheduled(message="Retried via CLI"),
    "n": lambda: AwaitingRetry(),  # by Prefect, of a run that goes on
}


def history(letters: str) -> list[State]:
    made = [STATES[letter]() for letter in letters]
    for number, state in enumerate(made):
        state.timestamp = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return made


@pytest.mark.parametrize(
    ("letters", "count"),
    [
        ("SPR", 0),
        ("SPRXaPR", 1),
        ("SPRXaPRXaPRXaPR", 3),
        ("SPRXXaPR", 1),  # told of by the worker and by the missing heartbeat
        ("SPRuPRuPRuPRuPR", 0),  # `up` was stopped
        ("SPRXaPRuPlPRXaPR", 2),
        ("SPRChPRChPRChPR", 0),  # cancelled and retried
        ("SPRXaPRXaPRXaPRFhPR", 0),  # a person retries what gave up
        ("SPRXaPRXaPRXaPRFcPRXaPR", 1),
        ("SPRXaPRXhPR", 0),
        ("SPRXaPRXaPnPR", 2),
    ],
)
def test_crashes_since_the_last_retry_by_hand(letters, count):
    states = history(letters)
    assert crashes(states) == count
    assert crashes(states[::-1]) == count, "whatever order the server gives them in"
