"""The training process, watched: what it tells is told on, and when it stands still it is ended."""

from __future__ import annotations

import sys
from pathlib import Path

from lmcore.progress import Report
from lmcore.report.words import real
from lmcore.train.journal import FILE, for_people, is_step
from lmcore.train.params import Job
from storage.atomic import write_text
from storage.errors import CollectTrainError
from tasks.alive import describe
from tasks.journal import Tail, log, note_event
from tasks.process import run_process
from tasks.progress import say
from tasks.stall import Patience, Silence
from tasks.ui_training import TrainingPages

LOGGED_LINES = 40  # of a training process that failed


def run_trainer(job: Job, report: Report, *, patience: Patience | None = None) -> None:
    """Run a job in a process of its own until `job.work / "out"` is complete.

    Raises what the process says went wrong, Stalled when it stands still for longer than `patience`.
    """
    job_file = job.work / "job.json"
    write_text(job_file, job.model_dump_json(indent=1))
    watcher = _Watcher(job.work / FILE, report, patience or Patience())
    try:
        run_process(
            [sys.executable, "-m", "lmcore.train", str(job_file)],
            log=job.work / "train.log",
            error_file=job.work / "error.json",
            tick=watcher.tick,
            on_start=lambda pid: note_event("process", stage="train", **describe(pid)),
        )
    except CollectTrainError:
        _log_end_of(job.work / "train.log")
        raise
    finally:
        watcher.close()


class _Watcher:
    """Turns the lines that the trainer adds to its progress file into reports, notes and pages."""

    def __init__(self, path: Path, report: Report, patience: Patience) -> None:
        self._tail = Tail(path)
        before = self._tail.events()  # told when it happened, to an earlier attempt
        self._report = report
        self._pages = TrainingPages(before)
        self._silence = Silence(patience)
        self._silence.expect(before)

    def tick(self) -> None:
        """Tell what is new. Raises Stalled after too long a silence."""
        lines = self._tail.events()
        self._silence.heard(lines)
        for line in lines:
            if for_people(line):
                say(f"  {'train':<26} {line['text']}", "yellow")
        if at := next((line for line in reversed(lines) if is_step(line)), None):
            left = int(at.get("eta_seconds") or 0)
            self._report(
                at["progress"],
                1.0,
                f"step {at['step']:,}  {real(at['bits_per_byte'])} bits/byte  {at['tokens_per_second']:,.0f} tokens/s  "
                f"{left // 60}:{left % 60:02d} left",
            )
        self._pages.tell(lines)
        self._silence.check()

    def close(self) -> None:
        """Show where it ended."""
        self._pages.tell(self._tail.events(), last=True)


def _log_end_of(path: Path) -> None:
    """What the training process said last, for the run's log; the terminal has its error in two lines."""
    if not path.exists():  # the disk refused it
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOGGED_LINES:]
    log("\n".join([f"the end of {path}:", *(f"  | {line}" for line in lines)]))
