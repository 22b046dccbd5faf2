"""The trainer process: `python -m lmcore.train JOB.json`.

Exit codes: 0 when `work/out` is complete; 128 + the signal's number (143 for SIGTERM) when it was told to stop and
has saved; 2 for a wrong request and 1 for a failure, with two lines on stderr and in `work/error.json`. It stops as
if told to when its parent dies.

SIGUSR1 makes it write the Python stacks of all its threads to stderr; whoever finds that it stands still asks for them.

With more than one process (`runtime.processes`) it becomes torchrun's agent, which starts as many of itself and hands
on what became of them.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from lmcore.train import PARENT_VARIABLE
from lmcore.train.allocator import raise_thresholds, sleep_at_barriers
from storage.atomic import write_json
from storage.errors import CollectTrainError, StorageError, UserError

if TYPE_CHECKING:
    from lmcore.train.params import Job

_PR_SET_PDEATHSIG = 1  # prctl(2): the kernel sends this signal when the parent dies
ERROR = "error.json"
RANKED = "TORCHELASTIC_RUN_ID" in os.environ  # torchrun started this process, beside others


class StopRequest:
    """Remembers the signal that asked for a stop; the loop looks at it between two steps."""

    def __init__(self) -> None:
        self.signal = 0
        # Told by whoever started us, who may be dead by now: these lines come after seconds of imports.
        self._parent = int(os.environ.pop(PARENT_VARIABLE, "0")) or os.getppid()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def __call__(self) -> bool:
        """True when training should stop."""
        if not self.signal and os.getppid() != self._parent:
            self.signal = signal.SIGTERM  # the parent died before prctl, or the system has no prctl
        return bool(self.signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number


def main(arguments: list[str]) -> int:
    """Run one job and give the exit code."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    stop = StopRequest()
    sleep_at_barriers()
    allocator = raise_thresholds()
    error_file: Path | None = None
    try:
        if len(arguments) != 1:
            raise UserError("the trainer takes one argument", "python -m lmcore.train JOB.json")
        values = _read(Path(arguments[0]))
        if isinstance(values.get("work"), str):
            error_file = Path(values["work"]) / ERROR
            if not RANKED:
                error_file.unlink(missing_ok=True)
        job = _validated(values, arguments[0])
        if job.runtime.processes > 1 and not RANKED:
            from lmcore.train.agent import train_in_processes

            return train_in_processes(job, arguments[0], job.work / ERROR, stopped=stop)
        from lmcore.train.loop import Stopped, train  # torch loads here, after the allocator is set
        from lmcore.train.machine import is_out_of_memory
        from lmcore.train.team import LostPeer, Team

        try:
            train(job, stopped=stop, allocator=allocator, team=Team.of_environment())
        except Stopped:
            return 128 + (stop.signal or signal.SIGTERM)  # another rank was told
        except LostPeer as lost:  # the agent says who was lost, and why
            print(lost.what, file=sys.stderr)
            return lost.exit_code
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            from lmcore.train.memory import untold

            raise untold() from error
    except CollectTrainError as error:
        left = error_file is not None and _leave(error_file, error)
        if not (RANKED and left):  # the agent reads it, and tells once what several ranks may have met
            print(f"error: {error.what}\n  to mend: {error.mend}", file=sys.stderr)
        return error.exit_code
    return 0


def _leave(path: Path, error: CollectTrainError) -> bool:
    try:
        write_json(path, {"what": error.what, "mend": error.mend, "exit_code": error.exit_code})
    except StorageError as refused:  # the disk may be what the error is about
        print(f"{path} could not be written: {refused.what}", file=sys.stderr)
        return False
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the job file {path}: {error}", "give the path of a JSON job file") from error
    if not isinstance(values, dict):
        raise UserError(f"the job file {path} does not hold a JSON object", "give the path of a JSON job file")
    return values


def _validated(values: dict[str, Any], name: str) -> Job:
    from pydantic import ValidationError

    from lmcore.train.params import Job

    try:
        return Job.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "job"
        raise UserError(f"{name}: {where}: {first['msg']}", "correct it in the recipe and run again") from error


if __name__ == "__main__":
    code = main(sys.argv[1:])
    if RANKED:  # gloo's threads now and then abort a process that ends by itself
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
