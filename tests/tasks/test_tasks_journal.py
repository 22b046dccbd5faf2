"""The journal of a run: whole lines from threads and processes, over kills and full disks, without secrets."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lmcore.train.journal import read_lines
from storage.errors import StorageError
from tasks import journal
from tasks.journal import JOURNAL, LOG, RunJournal, Tail, last_event, log, note_event, recording

ROOT = Path(__file__).parents[2]


def no_complaint(text):
    raise AssertionError(text)


@pytest.fixture
def book(tmp_path):
    """A journal that must not complain."""
    return RunJournal(tmp_path / "run", no_complaint)


def test_events_and_lines_have_a_time(book, tmp_path):
    with recording(book):
        note_event("note", stage="train", text="ő")
        log("✓ train\nsecond")
    (event,) = read_lines(tmp_path / "run" / JOURNAL)
    assert event.pop("at").endswith("Z")
    assert event == {"event": "note", "stage": "train", "text": "ő"}
    lines = (tmp_path / "run" / LOG).read_text().splitlines()
    assert [line[20:] for line in lines] == ["  ✓ train", "  second"]
    assert all(line[10] == "T" and line[19] == "Z" for line in lines)


def test_outside_a_run_nothing_is_written(book):
    with recording(book):
        pass
    note_event("note")
    log("nobody")
    assert (book._lines.path.read_bytes(), book._log.path.read_bytes()) == (b"", b"")


def test_numbers_that_json_has_not_and_letters_that_utf8_has_not(book, tmp_path):
    book.event("progress", done=float("nan"), total=float("inf"), note="\udc80 \x1b[31m")
    book.log("\udc80 \x1b[31mred")
    (event,) = read_lines(tmp_path / "run" / JOURNAL)
    assert (event["done"], event["total"], event["note"]) == (None, None, "\udc80 \x1b[31m")
    assert "\x1b" not in (tmp_path / "run" / LOG).read_text()


def test_no_secret_is_written(book, tmp_path, monkeypatch):
    monkeypatch.setenv("SITE_TOKEN", "s3cr3t")
    book.event("note", text="s3cr3t https://me:pass@host/", deep={"a": ["s3cr3t"]})
    book.log("s3cr3t\nhttps://me:pass@host/")
    for name in (JOURNAL, LOG):
        written = (tmp_path / "run" / name).read_text()
        assert "s3cr3t" not in written
        assert "pass@" not in written


def test_lines_of_many_threads_are_whole(book, tmp_path):
    def work(thread):
        for number in range(300):
            book.event("progress", thread=thread, number=number, note="x" * (number % 97))
            book.log(f"{thread} {number}")

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = read_lines(tmp_path / "run" / JOURNAL)
    assert sorted((e["thread"], e["number"]) for e in events) == [(t, n) for t in range(8) for n in range(300)]
    for thread in range(8):
        assert [e["number"] for e in events if e["thread"] == thread] == list(range(300)), "in order"
    assert len((tmp_path / "run" / LOG).read_text().splitlines()) == 8 * 300


WRITER = """
import sys, pathlib
from tasks.journal import RunJournal
book = RunJournal(pathlib.Path(sys.argv[1]), print)
number = 0
while True:
    book.event("said", who=sys.argv[2], number=number, note="x" * 200)
    number += 1
    print(number, flush=True)
"""


def writer(folder, who):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), who], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_what_was_written_outlives_kill_9_of_two_writers(tmp_path):
    writers = [writer(tmp_path, who) for who in "ab"]
    told = {}
    for who, process in zip("ab", writers, strict=True):
        for _ in range(200):
            told[who] = int(process.stdout.readline())
    for process in writers:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    events = read_lines(tmp_path / JOURNAL)
    for who in "ab":
        numbers = [event["number"] for event in events if event["who"] == who]
        assert numbers[: told[who]] == list(range(told[who])), "each line that was told to be written is there, whole"
    assert last_event(tmp_path) == events[-1]


def test_the_next_attempt_starts_on_a_line_of_its_own(book, tmp_path):
    book.event("said", number=1)
    path = tmp_path / "run" / JOURNAL
    with open(path, "ab") as file:
        file.write(b'{"event": "note", "text": "cut in th')
    assert last_event(tmp_path / "run")["number"] == 1
    RunJournal(tmp_path / "run", no_complaint).event("said", number=2)
    assert [event.get("number") for event in read_lines(path)] == [1, 2]
    assert path.read_bytes().count(b"\n") == 3


def test_a_full_disk_is_told_once_and_the_run_goes_on(tmp_path):
    (tmp_path / LOG).symlink_to("/dev/full")
    told = []
    book = RunJournal(tmp_path, told.append)
    for number in range(3):
        book.log(f"line {number}")
        book.event("note", number=number)
    assert told == [f"{tmp_path / LOG} is not written: No space left on device; the run goes on"]
    assert [event["number"] for event in read_lines(tmp_path / JOURNAL)] == [0, 1, 2], "the other file is"


def test_writing_goes_on_when_the_disk_has_room_again(tmp_path):
    """The kernel's own short write: a limit on the size of this process's files, lifted again."""
    code = (
        "import resource, signal, sys, pathlib\n"
        "from tasks.journal import RunJournal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "book = RunJournal(pathlib.Path(sys.argv[1]), lambda text: print('told', text))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, -1))\n"
        "for number in range(20): book.event('note', number=number, text='x' * 60)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
        "book.event('note', number=99)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("told") == 1
    assert "File too large; the run goes on" in done.stdout
    numbers = [event["number"] for event in read_lines(tmp_path / JOURNAL)]
    assert numbers[-1] == 99
    assert numbers[:-1] == list(range(len(numbers) - 1)), "the cut line is left out, the next one is whole"


def test_a_store_that_cannot_be_written_at_all_is_an_error_that_names_it(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("nothing is refused to root")
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match=f"no permission to use {tmp_path}"):
        RunJournal(tmp_path / "run", no_complaint)


def test_a_thread_that_is_still_being_stopped_writes_nowhere(book):
    with recording(book):
        pass
    other = os.open(os.devnull, os.O_WRONLY)  # may get a number that the journal had
    book.event("note")
    book.log("late")
    os.close(other)
    assert journal._current is None


def test_a_tail_gives_whole_lines_once(tmp_path):
    path = tmp_path / "lines"
    tail = Tail(path)
    assert tail.new() == b""
    path.write_bytes(b"one\ntw")
    assert tail.new() == b"one\n"
    with open(path, "ab") as file:
        file.write(b"o\n")
    assert (tail.new(), tail.new()) == (b"two\n", b"")
    assert Tail(path, at_end=True).new() == b""
    path.write_bytes(b"new\n")
    assert tail.new() == b"new\n", "another file of this name"
    path.unlink()
    assert tail.new() == b""


def test_writing_is_cheap(book):
    book.event("warm")
    started = time.process_time()  # of this process: what others do with the cores does not count
    for number in range(1000):
        book.event("progress", stage="train", key="a" * 24, done=number, total=1000, note="step 1 of many")
    assert time.process_time() - started < 2.0, "a thousand events cost this process less than two seconds"


def test_the_last_event_is_found_in_a_long_journal(book, tmp_path):
    assert last_event(tmp_path / "nowhere") is None
    assert last_event(tmp_path / "run") is None
    for number in range(2000):
        book.event("said", number=number, note="x" * 50)
    assert (tmp_path / "run" / JOURNAL).stat().st_size > 100_000
    assert last_event(tmp_path / "run")["number"] == 1999
    assert json.loads((tmp_path / "run" / JOURNAL).read_text().splitlines()[0])["number"] == 0
