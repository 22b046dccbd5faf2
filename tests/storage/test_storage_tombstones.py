import json
import signal
import threading

import pytest
from store_made import run

from storage.errors import RunError
from storage.tombstones import FILE, Tombstone, read_tombstones, write_tombstone

ONE = Tombstone(what="http://s/1", when="2026-01-01", urls=("http://s/1",), records=("a",), models=("m",))


def test_they_are_kept_in_order_and_changed_in_place(tmp_path):
    assert read_tombstones(tmp_path) == ()
    write_tombstone(tmp_path, "http://s/1", lambda known: ONE if known is None else known)
    write_tombstone(tmp_path, "r2", lambda _: Tombstone(what="r2", when="2026-01-02"))
    write_tombstone(tmp_path, "http://s/1", lambda known: known.model_copy(update={"finished": "now"}))
    assert [(t.what, t.finished) for t in read_tombstones(tmp_path)] == [("http://s/1", "now"), ("r2", None)]


def test_two_together_are_one_unfinished(tmp_path):
    other = Tombstone(what="x", when="2027", urls=("http://s/2",), records=("a", "b"), finished="then")
    both = ONE.joined(other)
    assert (both.what, both.when, both.finished) == ("http://s/1", "2026-01-01", None)
    assert (both.urls, both.records, both.models) == (("http://s/1", "http://s/2"), ("a", "b"), ("m",))


@pytest.mark.parametrize(
    "text", ["", "{", "{}", '{"x":1}', "[]", '{"format": 1, "tombstones": [{}]}', '{"format": 1, "others": []}']
)
def test_a_damaged_list_stops_whoever_asks(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(RunError, match=r"tombstones\.json is damaged") as error:
        read_tombstones(tmp_path)
    assert "backup" in error.value.mend


def test_a_list_that_cannot_be_read_is_damaged(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(RunError, match=r"tombstones\.json is damaged: Is a directory"):
        read_tombstones(tmp_path)


def test_a_list_of_a_later_program_is_refused(tmp_path):
    (tmp_path / FILE).write_text(json.dumps({"format": 2, "tombstones": []}))
    with pytest.raises(RunError, match="format 2"):
        read_tombstones(tmp_path)


WRITE = """
import sys
from pathlib import Path
from storage.tombstones import Tombstone, write_tombstone
write_tombstone(Path(sys.argv[1]), sys.argv[2], lambda _: Tombstone(what=sys.argv[2], when="2026"))
"""


def test_a_kill_leaves_the_list_as_it_was(tmp_path):
    assert run(WRITE, tmp_path, "a").returncode == 0
    assert run(WRITE, tmp_path, "b", fault="atomic.write.before-rename").returncode == -signal.SIGKILL
    assert [t.what for t in read_tombstones(tmp_path)] == ["a"]
    assert run(WRITE, tmp_path, "b").returncode == 0
    assert [t.what for t in read_tombstones(tmp_path)] == ["a", "b"]


def test_writers_at_once_lose_nothing(tmp_path):
    def write(number):
        write_tombstone(tmp_path, f"r{number}", lambda _: Tombstone(what=f"r{number}", when="2026"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(t.what for t in read_tombstones(tmp_path)) == sorted(f"r{number}" for number in range(8))
