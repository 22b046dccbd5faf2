"""A process as the journal names it: number, start time and machine; whether it lives, and what it uses.

A number alone says little: the kernel gives it to another process when the first one is gone. Knows no Prefect, so
that commands that only look stay quick.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from tasks.environment import RESOURCES_VARIABLE

SAME_SECONDS = 2.0  # start times are counted from a boot time that a correction of the clock may shift a little
MEASURE_SECONDS = 0.3


@dataclass(frozen=True)
class Usage:
    """What a process and all below it use now."""

    cpu_percent: float  # 100: one core
    memory: int  # resident bytes; pages that several of them share are counted in each


def describe(pid: int) -> dict[str, Any]:
    """`pid`, `born` (Unix time), `host` and `resources` of a process of this machine, for the journal.

    Resources are the core numbers and bytes of memory it may use (None: no limit), its thread and device variables,
    and what the worker was asked to give it.
    """
    found: dict[str, Any] = {"pid": pid, "born": None, "host": socket.gethostname()}
    resources: dict[str, Any] = {}
    with contextlib.suppress(psutil.Error):  # it has ended already; its number is still worth knowing
        process = psutil.Process(pid)
        found["born"] = process.create_time()
        if hasattr(process, "cpu_affinity"):
            resources["cores"] = process.cpu_affinity()
        if hasattr(process, "rlimit"):
            limit = process.rlimit(psutil.RLIMIT_DATA)[0]
            resources["memory_bytes"] = None if limit == psutil.RLIM_INFINITY else limit
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", RESOURCES_VARIABLE):
        if name in os.environ:
            resources[name] = os.environ[name]
    return found | {"resources": resources}


def lives(described: Mapping[str, Any]) -> bool | None:
    """Whether this very process still works; None when it is of another machine, which cannot be seen from here."""
    if described["host"] != socket.gethostname():
        return None
    process = _same(described)
    return process is not None


def usage(described: Iterable[Mapping[str, Any]], without: Iterable[int] = ()) -> dict[int, Usage]:
    """What each of these processes uses, by number, with all below it but for the trees of `without`.

    Takes a third of a second. Those that are gone or of another machine are left out.
    """
    roots = [process for entry in described if lives(entry) and (process := _same(entry))]
    trees = {root.pid: _tree(root, set(without) - {root.pid}) for root in roots}
    members = {process.pid: process for tree in trees.values() for process in tree}
    began, before = time.monotonic(), {pid: _seconds(process) for pid, process in members.items()}
    time.sleep(MEASURE_SECONDS)
    passed, after = time.monotonic() - began, {pid: _seconds(process) for pid, process in members.items()}
    return {
        pid: Usage(
            100.0 * sum(max(0.0, after[p.pid] - before[p.pid]) for p in tree) / passed,
            sum(_resident(p) for p in tree),
        )
        for pid, tree in trees.items()
    }


def _same(described: Mapping[str, Any]) -> psutil.Process | None:
    try:
        process = psutil.Process(described["pid"])
        same = abs(process.create_time() - (described["born"] or 0.0)) < SAME_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _tree(root: psutil.Process, without: set[int]) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    pending = [root]
    while pending:
        process = pending.pop()
        if process.pid in without or process.pid in found:
            continue
        found[process.pid] = process
        with contextlib.suppress(psutil.Error):
            pending += process.children()
    return list(found.values())


def _seconds(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _resident(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0
