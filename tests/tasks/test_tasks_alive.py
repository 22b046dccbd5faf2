"""Which process a journal means, whether it lives, what it uses."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from tasks import alive
from tasks.alive import describe, lives, usage

BUSY = "import os, sys\nif len(sys.argv) > 1:\n    os.fork()\ndata = bytearray(60_000_000)\nprint('on', flush=True)\n"


@pytest.fixture
def start():
    """start(code, *arguments): a Python process that has printed a line; killed with its children in the end."""
    started = []

    def run(code, *arguments, **options):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )
        started.append(process)
        process.stdout.readline()
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_a_process_lives_until_it_is_gone(start):
    process = start("print('on', flush=True); import time; time.sleep(60)")
    found = describe(process.pid)
    assert (found["pid"], found["host"]) == (process.pid, socket.gethostname())
    assert lives(found) is True
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert lives(found) is False, "a zombie is dead"
    process.wait()
    assert lives(found) is False


def test_another_process_of_the_same_number_is_not_it(start):
    found = describe(os.getpid())
    assert lives(found) is True
    assert lives(found | {"born": found["born"] - 60}) is False
    assert lives(found | {"born": None}) is False


def test_a_process_of_another_machine_cannot_be_seen():
    assert lives(describe(os.getpid()) | {"host": "elsewhere"}) is None


def test_one_that_has_ended_can_still_be_named():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    found = describe(process.pid)
    assert found["pid"] == process.pid
    assert lives(found) is False


@pytest.mark.skipif(sys.platform != "linux", reason="cores and limits of another process")
def test_resources_are_those_of_the_process(start, monkeypatch):
    core = min(os.sched_getaffinity(0))
    code = (
        f"import os, resource, time\nos.sched_setaffinity(0, {{{core}}})\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (10**9, 10**9))\nprint('on', flush=True)\ntime.sleep(60)"
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLLECT_TRAIN_RESOURCES", '{"cpus": 1}')
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert describe(start(code).pid)["resources"] == {
        "cores": [core],
        "memory_bytes": 10**9,
        "OMP_NUM_THREADS": "1",
        "COLLECT_TRAIN_RESOURCES": '{"cpus": 1}',
    }
    assert describe(os.getpid())["resources"]["memory_bytes"] is None


def test_usage_counts_a_process_and_its_children_but_for_those_left_out(start):
    idle = start(BUSY + "import time; time.sleep(60)", "fork")
    described = describe(idle.pid)
    found = usage([described])[idle.pid]
    assert found.memory > 100e6, "two processes with 60 MB each"
    assert found.cpu_percent < 50
    children = alive.psutil.Process(idle.pid).children()
    assert usage([described], [child.pid for child in children])[idle.pid].memory < found.memory - 40e6


def test_usage_sees_a_busy_one_and_leaves_out_the_dead(start):
    busy = start(BUSY + "\nwhile True: pass")
    dead = describe(busy.pid) | {"born": 1.0}
    found = usage([describe(busy.pid)])
    assert found[busy.pid].cpu_percent > 3, "of one core, on a machine that others use too"
    assert usage([dead]) == {}
