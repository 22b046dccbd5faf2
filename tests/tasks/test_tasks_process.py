import json
import sys
import time

import psutil
import pytest

from storage.errors import RunError, UserError
from tasks import process
from tasks.process import run_process


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """launch(code, tick=...): run a Python program of this text; its log and error file are in tmp_path."""
    monkeypatch.setattr(process, "TICK_SECONDS", 0.02)

    def run(code, *, tick=lambda: None):
        run_process([sys.executable, "-c", code], log=tmp_path / "log", error_file=tmp_path / "error.json", tick=tick)

    return run


def test_output_is_appended_to_the_log_as_it_comes(launch, tmp_path):
    (tmp_path / "log").write_text("before\n")
    seen, go_on = [], tmp_path / "go on"
    code = (
        f"import os, sys, time\nprint('out')\nwhile not os.path.exists({str(go_on)!r}):\n    time.sleep(.01)\n"
        "print('err', file=sys.stderr)"
    )

    def tick():
        seen.append((tmp_path / "log").read_text())
        if "out" in seen[-1]:
            go_on.touch()

    launch(code, tick=tick)
    assert (tmp_path / "log").read_text() == "before\nout\nerr\n"
    assert "before\nout\n" in seen, "seen while it ran"
    assert seen[-1] == "before\nout\nerr\n", "looked at once more at the end"


def test_it_reads_nothing_from_the_terminal(launch, tmp_path):
    launch("import sys; print(repr(sys.stdin.read()))")
    assert (tmp_path / "log").read_text() == "''\n"


@pytest.mark.parametrize(("exit_code", "kind"), [(2, UserError), (1, RunError)])
def test_the_program_s_own_error_is_handed_on(launch, tmp_path, exit_code, kind):
    left = {"what": "loss is NaN at step 7", "mend": "lower train.lr", "exit_code": exit_code}
    code = f"open({str(tmp_path / 'error.json')!r}, 'w').write({json.dumps(left)!r}); raise SystemExit({exit_code})"
    with pytest.raises(kind) as error:
        launch(code)
    assert (error.value.what, error.value.mend) == (left["what"], left["mend"])
    assert error.value.exit_code == exit_code


def test_an_earlier_attempt_s_error_is_not_told_again(launch, tmp_path):
    (tmp_path / "error.json").write_text(json.dumps({"what": "old", "mend": "old", "exit_code": 2}))
    with pytest.raises(RunError, match="SIGKILL"):
        launch("import os; os.kill(os.getpid(), 9)")


def test_another_failure_shows_the_end_of_the_log(launch, tmp_path):
    with pytest.raises(RunError) as error:
        launch("for n in range(40): print('line', n)\nraise LookupError('lost')")
    assert error.value.what.endswith("ended with code 1: LookupError: lost")
    assert str(tmp_path / "log") in error.value.mend


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM"])
def test_a_signal_is_named(launch, tmp_path, name):
    with pytest.raises(RunError, match=name) as error:
        launch(f"import os, signal; os.kill(os.getpid(), signal.{name})")
    assert ("memory" in error.value.mend) is (name == "SIGKILL")
    assert str(tmp_path / "log") in error.value.mend


class Left(Exception):
    """The run is cancelled."""


def leaving(path):
    """A tick that is left by an exception as soon as `path` exists."""

    def tick():
        if path.exists():
            raise Left

    return tick


def test_a_cancelled_run_asks_the_program_to_stop_and_waits_for_it(launch, tmp_path):
    code = (
        "import pathlib, signal, sys, time\n"
        "def stop(number, frame):\n"
        "    time.sleep(.3); print('saved'); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(60)"
    )
    with pytest.raises(Left):
        launch(code, tick=leaving(tmp_path / "ready"))
    assert (tmp_path / "log").read_text() == "saved\n"


@pytest.mark.parametrize("own_session", [False, True], ids=["same session", "own session"])
def test_a_stubborn_program_is_killed_with_its_children(launch, tmp_path, monkeypatch, own_session):
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.5)
    code = (
        "import os, pathlib, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', "
        "'import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)'], "
        f"stdout=subprocess.PIPE, start_new_session={own_session})\n"
        "child.stdout.readline()\n"
        f"path = pathlib.Path({str(tmp_path / 'ready')!r})\n"
        "path.with_suffix('.new').write_text(f'{os.getpid()} {child.pid}')\n"
        "path.with_suffix('.new').rename(path)\n"
        "time.sleep(60)"
    )
    with pytest.raises(Left):
        launch(code, tick=leaving(tmp_path / "ready"))
    pids = [int(pid) for pid in (tmp_path / "ready").read_text().split()]
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "something still runs"
        time.sleep(0.05)


def alive(pid):
    """Whether a process runs; a dead one that nobody has waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_it_has_a_process_group_of_its_own_so_that_ctrl_c_is_for_the_run(launch, tmp_path):
    launch("import os; print(os.getpgid(0) == os.getpid(), os.getsid(0) == os.getpid())")
    assert (tmp_path / "log").read_text() == "True True\n"
