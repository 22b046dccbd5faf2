"""`collect-train logs`: the log of a run, and what is added to it until the run ends."""

import signal
import time

import pytest
from helpers_flows import collect, finish, start
from helpers_runs import keepers

from flows.logs import print_log
from storage.errors import RunError
from storage.store import Store


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def keep(store):
    with keepers(store) as keep:
        yield keep


def follow(store, *args):
    """`logs -f` as a process that has printed its first line."""
    process = start("logs", "-f", *args, store=store)
    assert process.stdout.readline().endswith("  begun\n")
    return process


def test_the_newest_run_is_printed_and_any_other_by_name(store, keep, capsys):
    for name in ("first-1", "second-2"):
        run = keep(name)
        run.attempt()
        run.write("log", text=f"{name} says\nhello")
        run.end()
    print_log(Store(store), "", follow=False)
    assert [line[22:] for line in capsys.readouterr().out.splitlines()] == ["second-2 says", "hello"]
    print_log(Store(store), "fir", follow=True)
    assert capsys.readouterr().out.endswith("  hello\n"), "it has ended, so there is nothing to follow"


def test_it_is_followed_to_its_end(store, keep):
    run = keep("run-1")
    run.attempt()
    run.write("log", text="begun")
    process = follow(store)
    run.write("log", text="in the midst")
    assert process.stdout.readline().endswith("  in the midst\n"), "as it is told"
    run.write("log", text="Completed after 1.5 s")
    run.end()
    done = finish(process)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("  Completed after 1.5 s\n")


def test_it_is_followed_across_a_restart(store, keep):
    run = keep("run-1")
    run.attempt(deployed=True, command="")
    run.write("log", text="begun")
    process = follow(store, "run")
    run.kill()
    time.sleep(1.0)
    assert process.poll() is None, "its worker may resume it"
    again = keep("run-1")
    again.attempt(number=2, deployed=True, command="")
    again.write("log", text="goes on")
    assert process.stdout.readline().endswith("  goes on\n")
    again.end()
    done = finish(process)
    assert done.code == 0
    assert done.err.count("its process is gone; to continue: ") == 1


def test_a_run_by_hand_that_dies_is_over(store, keep):
    run = keep("run-1")
    run.attempt(command="collect-train run tiny.yaml")
    run.write("log", text="begun")
    process = follow(store)
    run.kill()
    done = finish(process)
    assert done.code == 0
    assert "to continue: collect-train run tiny.yaml" in done.err


def test_ctrl_c_ends_it_quietly(store, keep):
    run = keep("run-1")
    run.attempt()
    run.write("log", text="begun")
    process = follow(store)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert (done.code, done.err) == (0, "")


def test_a_lost_log_is_named(store, keep):
    run = keep("run-1")
    run.attempt()
    (run.folder / "run.log").unlink()
    with pytest.raises(RunError, match=r"run-1/run.log is gone"):
        print_log(Store(store), "", follow=False)


def test_without_a_run_it_says_so(store):
    assert "has no run with a journal" in collect("logs", store=store, code=2).error[0]


def test_what_a_site_wrote_into_a_log_does_not_move_the_cursor(store, keep, capsys):
    run = keep("run-1")
    run.attempt()
    with open(run.folder / "run.log", "ab") as file:
        file.write(b"\x1b[31mred\n")
    print_log(Store(store), "", follow=False)
    assert capsys.readouterr().out == "\ufffd[31mred\n"
