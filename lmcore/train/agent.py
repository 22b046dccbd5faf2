"""Training in several processes: torchrun starts them, watches them, and ends them together.

The agent is `python -m lmcore.train JOB.json` itself. It does what

    python -m torch.distributed.run --standalone --nproc-per-node=N -m lmcore.train JOB.json

does, in this process, for three things that torchrun leaves to its caller: it ends when its own parent dies, its exit
code is that of the training (torchrun's is always 1), and an error is the training's own.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from lmcore.train import PARENT_VARIABLE, machine
from lmcore.train.params import Job, check_processes
from storage.errors import RunError, UserError

PARENT_SECONDS = 1.0  # between two looks at whether the parent lives
_THREADS = "OMP_NUM_THREADS"
_STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGINT)


def train_in_processes(job: Job, job_file: str, error_file: Path, *, stopped: Callable[[], bool]) -> int:
    """Train in `job.runtime.processes` processes and give the exit code.

    Raises UserError when a step cannot be shared among so many, RunError when one of them was killed, and what one of
    them left in `error_file`.
    """
    count = job.runtime.processes
    check_processes(job.params, count)
    if _THREADS not in os.environ:  # torchrun would say 1
        os.environ[_THREADS] = str(max(1, machine.physical_cores() // count))
    os.environ[PARENT_VARIABLE] = str(os.getpid())
    options = ["--standalone", f"--nproc-per-node={count}", "--local-addr=localhost", f"--log-dir={os.devnull}"]
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _interrupt)  # until torchrun, which is not ready at once, sets the same
        if stopped():
            return 128 + signal.SIGTERM
        threading.Thread(target=_end_with_parent, args=(stopped,), daemon=True).start()
        arguments = torchrun.parse_args([*options, "-m", "lmcore.train", job_file])  # type: ignore[no-untyped-call]
        torchrun.run(arguments)  # type: ignore[no-untyped-call]
    except SignalException as told:
        _raise_left(error_file)
        return 128 + told.sigval
    except ChildFailedError as failed:
        _raise_left(error_file)
        return _code(failed.failures, count)
    return 0


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise SignalException("told to stop", signal.Signals(number))


def _end_with_parent(stopped: Callable[[], bool]) -> None:
    """For systems whose kernel does not tell a process that its parent died."""
    while not stopped():
        time.sleep(PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _raise_left(error_file: Path) -> None:
    if error_file.exists():
        left = json.loads(error_file.read_text(encoding="utf-8"))
        kind = UserError if left["exit_code"] == UserError.exit_code else RunError
        raise kind(left["what"], left["mend"])


def _code(failures: Mapping[int, ProcessFailure], count: int) -> int:
    """The exit code when every rank that failed was only told to stop; else RunError about the one to blame."""
    codes = {rank: failure.exitcode for rank, failure in sorted(failures.items())}
    told = next((code for code in codes.values() if code in _STOPPED), None)
    # Those that lost another one end with 1, and torchrun ends what is left by SIGTERM: neither is the cause.
    killed = [rank for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM]
    failed = [rank for rank, code in codes.items() if code > 0]
    if not killed and (told or not failed):
        return told or 128 + signal.SIGTERM
    to_blame = (killed or failed)[0]
    code = codes[to_blame]
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    hint = "the kernel may have run out of memory: make the model or batch smaller; " if code == -signal.SIGKILL else ""
    raise RunError(
        f"training process {to_blame + 1} of {count} {how}, and the others with it", f"{hint}run again to continue"
    )
