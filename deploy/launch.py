"""Run a command inside the resources that a work pool or a run asked for.

    python -m deploy.launch --cpus 2 --memory 4000 --gpus none -- python -m prefect.engine

The job templates of all pools (`pools/*.json`) start every flow run this way. The limits are set on this process,
which then becomes the command, so that everything it starts, the training process above all, has them too: cores by
CPU affinity (those that the fewest others are bound to), threads by the variables that OpenMP, MKL and Rayon read,
memory by RLIMIT_DATA (per process), GPUs by CUDA_VISIBLE_DEVICES. What was asked for is handed on in
COLLECT_TRAIN_RESOURCES and ends in the provenance of every artifact. So is what this machine cannot give: the run then
begins, only to fail with that reason, where a process that does not begin would leave nothing but its exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import resource
import signal
import sys
from collections import Counter
from collections.abc import Sequence

import psutil

VARIABLE = "COLLECT_TRAIN_RESOURCES"
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
HEARTBEAT_SECONDS = "30"  # Prefect's least; its default of 180 would find a dead run after nine minutes
NO_LIMIT = 2**20  # MiB; a number, so that the job template can check it
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Limit this process as far as the machine can, and become the command."""
    asked, command = _parse(sys.argv[1:])
    refused = _limit_cores(asked.cpus)
    threads = asked.threads or asked.cpus
    if threads:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    if asked.memory < NO_LIMIT:
        limit = asked.memory * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    if asked.gpus != "all":
        os.environ["CUDA_VISIBLE_DEVICES"] = "" if asked.gpus == "none" else asked.gpus
    os.environ[VARIABLE] = json.dumps(vars(asked) | ({"refused": refused} if refused else {}))
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", HEARTBEAT_SECONDS)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # nobody could cancel a run without its worker
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # a shell's `&` ignores SIGINT, for all that is started from there
    if command[0] == "python":
        command[0] = sys.executable
    os.execvp(command[0], command)  # noqa: S606 - to become the command is what this is for


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog="python -m deploy.launch", description=__doc__.partition("\n")[0])
    parser.add_argument("--cpus", type=int, default=0, help="cores; 0: all that this process may use")
    parser.add_argument("--threads", type=int, default=0, help="threads of one process; 0: as many as cores")
    parser.add_argument("--memory", type=int, default=NO_LIMIT, help="MiB of one process; 1048576: no limit")
    parser.add_argument("--gpus", default="all", help="all, none, or numbers of CUDA devices such as 0,1")
    parser.add_argument("--processes", type=int, default=1, help="training processes on this machine")
    parser.add_argument("--nodes", type=int, default=1, help="machines that train together")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args(arguments)
    command = asked.command[1:] if asked.command[:1] == ["--"] else asked.command
    del asked.command
    if not command:
        parser.error("no command: write it after --")
    return asked, command


def _limit_cores(cpus: int) -> tuple[str, str] | None:
    """Bind this process to so many cores; else what stands in the way, and how to mend it."""
    if not cpus:
        return None
    if not hasattr(os, "sched_setaffinity"):
        return f"the job variable cpus is {cpus}, but this system cannot bind a process to cores", "set it to 0"
    usable = sorted(os.sched_getaffinity(0))
    if cpus > len(usable):
        return f"the job variable cpus is {cpus}, but this worker may use {len(usable)}", "lower it; 0 takes all"
    random.shuffle(usable)  # containers do not see each other
    claims = _claims(set(usable))
    os.sched_setaffinity(0, sorted(usable, key=lambda core: claims[core])[:cpus])
    return None


def _claims(usable: set[int]) -> Counter[int]:
    """How many processes are bound to each core, so that two runs do not share cores while others are idle."""
    found: Counter[int] = Counter()
    for pid in psutil.pids():
        with contextlib.suppress(OSError):  # it has ended
            bound = os.sched_getaffinity(pid)
            if not bound >= usable:
                found.update(bound)
    return found


if __name__ == "__main__":
    main()
