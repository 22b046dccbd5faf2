"""Binds the journal and the log of a run (tasks/journal.py) to the process that builds it."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from prefect.runtime import deployment

from flows.plan import Plan, read_plan, run_folder
from flows.stages import Range
from storage.errors import CollectTrainError
from storage.store import Store
from tasks.alive import describe
from tasks.journal import RunJournal, log, note_event, read_events, recording
from tasks.prefect_ui import showing
from tasks.progress import say_here

TRACED = 6  # innermost frames of a fault's traceback; those before are Prefect's and ours, always the same


@contextlib.contextmanager
def record_run(store: Store, plan: Plan, wanted: Range) -> Iterator[None]:
    """Record what happens in the block as an attempt at the run: its beginning, what is told, its end and why.

    Raises StorageError when the files cannot be opened. A disk that refuses later costs lines, not the run.
    """
    folder = run_folder(store, plan.run)
    number = 1 + sum(event["event"] == "attempt" for event in read_events(folder))
    about = {"recipe": plan.recipe["name"], "edition": plan.edition.name}
    process, command = describe(os.getpid()), _command()
    deployed = bool(deployment.id)
    with recording(RunJournal(folder, say_here)), showing(about["recipe"]):
        log(
            f"attempt {number} at run {plan.run}: {about['recipe']}, edition {about['edition']}; "
            f"process {process['pid']} on {process['host']}; {'from a deployment' if deployed else command}"
        )
        note_event(
            "attempt",
            run=plan.run,
            number=number,
            **about,
            first=wanted.first,
            last=wanted.last,
            command=command,
            deployed=deployed,
            **process,
        )
        started = time.monotonic()
        state, what, mend = "Completed", "", ""
        try:
            yield
        except CollectTrainError as error:
            state, what, mend = "Failed", error.what, error.mend
            raise
        except Exception as error:
            state, what = "Failed", "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
            mend = "the traceback is in run.log; run again to continue"
            log(traceback.format_exc(limit=-TRACED))
            raise
        except BaseException:  # Ctrl-C, SIGTERM, a cancelled run
            state, mend = "Stopped", "run again to continue"
            raise
        finally:
            seconds = time.monotonic() - started
            log(f"{state} after {seconds:,.1f} s" + (f": {what}" if what else ""))
            if mend:
                log(f"  to mend: {mend}")
            note_event("end", state=state, what=what, mend=mend, seconds=round(seconds, 3), **about)


@contextlib.contextmanager
def join_run(store: Store, run: str) -> Iterator[None]:
    """Record what this process does for a run that another process builds."""
    recipe = read_plan(store, run).recipe["name"]
    with recording(RunJournal(run_folder(store, run), say_here)), showing(recipe):
        yield


def _command() -> str:
    program = Path(sys.argv[0]).name
    name = "collect-train" if program in ("collect-train", "cli.py") else sys.argv[0]
    return shlex.join([name, *sys.argv[1:]])
