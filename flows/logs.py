"""`collect-train logs`: what a run told, from its beginning, and as it goes on."""

from __future__ import annotations

import sys
import time

from flows.runs import continuing
from flows.runstate import RunState, find_run
from storage.errors import RunError
from storage.store import Store
from storage.text import printable
from tasks.journal import LOG, Tail

POLL_SECONDS = 0.3


def print_log(store: Store, name: str, *, follow: bool) -> None:
    """Print the log of the run of this name (the newest without one).

    With `follow`, also what is added until the run ends, also by the attempt after one that died; a run by hand that
    died is over, since the next one by hand is another run. Raises RunError when the log is gone.
    """
    run = RunState(find_run(store, name))
    if not (run.folder / LOG).exists():
        raise RunError(f"{run.folder / LOG} is gone", "the journal is there: collect-train status " + run.run)
    tail = Tail(run.folder / LOG)
    told = False
    while True:
        # The state is asked for before the log is read, so that nothing which is told in between is left out.
        over, state = run.over, run.state
        _print(tail.new())
        if state == "interrupted" and not told:
            sys.stdout.flush()
            sys.stderr.write(f"(its process is gone; to continue: {printable(continuing(run))})\n")
        told = state == "interrupted"
        if not follow or over:
            return
        time.sleep(POLL_SECONDS)
        run.update()


def _print(data: bytes) -> None:
    sys.stdout.write(printable(data.decode("utf-8", "replace")))
    sys.stdout.flush()
