import errno
import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
from store_made import fill, run, start

from storage import atomic
from storage.atomic import disk_errors, fault, publish_folder, remove_parts, write_bytes, write_json, write_text
from storage.errors import CollectTrainError, RunError, StorageError, UserError

WRITE = "import sys, pathlib; from storage.atomic import *; write_bytes(pathlib.Path(sys.argv[1]), b'new' * 1000)"


@pytest.fixture
def armed(monkeypatch):
    """armed(text): arm a fault in this process, counted from here."""

    def arm(text):
        monkeypatch.setenv(atomic.FAULT_VARIABLE, text)
        monkeypatch.setattr(atomic, "_reached", Counter())

    return arm


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_kill_while_writing_leaves_the_old_file(tmp_path, before):
    path = tmp_path / "folder" / "state.json"
    if before is not None:
        write_bytes(path, before)
    assert run(WRITE, path, fault="atomic.write.before-rename").returncode == -signal.SIGKILL
    assert (path.read_bytes() if path.exists() else None) == before
    assert len(list(path.parent.glob(".*.part"))) == 1
    assert run(WRITE, path).returncode == 0
    assert path.read_bytes() == b"new" * 1000
    remove_parts(tmp_path)
    assert list(path.parent.iterdir()) == [path], "what the killed one left is gone, the file stays"


def test_a_reader_never_sees_half_of_a_write(tmp_path):
    path = tmp_path / "state"
    program = (
        "import pathlib, sys, itertools; from storage.atomic import write_bytes\n"
        "for letter in itertools.cycle(b'ab'): write_bytes(pathlib.Path(sys.argv[1]), bytes([letter]) * 2_000_000)"
    )
    write_bytes(path, b"a" * 2_000_000)
    writer = start(program, path)
    seen = Counter()
    try:
        while len(seen) < 2 or sum(seen.values()) < 200:
            seen[path.read_bytes()] += 1
            assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()
    assert set(seen) == {b"a" * 2_000_000, b"b" * 2_000_000}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, armed):
    path = tmp_path / "state.json"
    write_text(path, "old")
    armed("atomic.write.before-rename=enospc")
    with pytest.raises(StorageError, match="disk full"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_written_in_one_spelling(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    write_json(tmp_path / "b.json", {"a": "é", "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"a": "é", "b": 1}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert "é" in (tmp_path / "a.json").read_text()


def test_a_fault_does_nothing_unless_it_is_named(armed):
    fault("room.point")
    armed("room.other=enospc")
    fault("room.point")
    armed("room.point.longer=enospc")
    fault("room.point")
    armed("")
    fault("room.point")


@pytest.mark.parametrize("effect", ["enospc", "erofs", "eio"])
def test_a_fault_can_be_an_error_of_the_system(armed, effect):
    armed(f"room.point={effect}")
    with pytest.raises(OSError) as error:
        fault("room.point")
    assert error.value.errno == getattr(errno, effect.upper())


def test_a_fault_strikes_once_and_at_the_count_that_was_asked_for(armed):
    armed("room.point:3=enospc")
    struck = []
    for number in range(1, 7):
        fault("room.elsewhere")
        try:
            fault("room.point")
        except OSError:
            struck.append(number)
    assert struck == [3]


def test_a_fault_kills_as_kill_9_does():
    program = (
        "from storage.atomic import fault\nfor n in range(1, 9):\n    print(n, flush=True)\n    fault('train.step')"
    )
    ended = run(program, fault="train.step:7")
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.split()[-1] == "7"


@pytest.mark.parametrize(
    ("number", "what", "mend"),
    [
        (errno.ENOSPC, "disk full while writing {}", "--store"),
        (errno.EDQUOT, "disk full while writing {}", "--store"),
        (errno.EROFS, "{} is on a read-only file system", "--store"),
        (errno.EACCES, "no permission to use {}", "owner"),
        (errno.EPERM, "no permission to use {}", "owner"),
    ],
)
def test_the_disk_s_refusals_become_one_line_with_the_path(tmp_path, number, what, mend):
    with pytest.raises(StorageError) as error, disk_errors(tmp_path / "store"):
        raise OSError(number, os.strerror(number))
    assert error.value.what == what.format(tmp_path / "store")
    assert mend in error.value.mend
    assert error.value.exit_code == 1
    inner = str(tmp_path / "store" / "deep" / "file.bin")
    with pytest.raises(StorageError) as error, disk_errors(tmp_path / "store"):
        raise OSError(number, os.strerror(number), inner)
    assert error.value.what == what.format(inner), "the file that was refused says more than the folder"


def test_other_errors_pass_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "nothing").read_bytes()
    with pytest.raises(KeyError), disk_errors(tmp_path):
        raise KeyError("a")
    with pytest.raises(UserError, match="wrong"), disk_errors(tmp_path):
        raise UserError("wrong", "right it")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(StorageError, match=r"no permission to use .*closed"):
        write_text(tmp_path / "closed" / "file", "x")


def test_a_really_full_device_is_told():
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with pytest.raises(StorageError, match="disk full while writing /dev/full"), disk_errors("/dev/full"):
        Path("/dev/full").write_bytes(b"x")


def test_a_folder_appears_whole(tmp_path):
    part = fill(tmp_path / "part", {"a.txt": "a", "deep/b.txt": "b"})
    assert publish_folder(part, tmp_path / "to" / "final", "room.point") is True
    assert not part.exists()
    assert (tmp_path / "to/final/deep/b.txt").read_text() == "b"


def test_a_folder_that_comes_second_gives_way(tmp_path):
    fill(tmp_path / "final", {"a.txt": "first"})
    part = fill(tmp_path / "part", {"a.txt": "second", "b.txt": "b"})
    assert publish_folder(part, tmp_path / "final", "room.point") is False
    assert not part.exists()
    assert [path.read_text() for path in (tmp_path / "final").iterdir()] == ["first"]


def test_a_folder_that_cannot_be_moved_is_kept(tmp_path, armed):
    part = fill(tmp_path / "part", {"a.txt": "a"})
    for point in ("before-fsync", "before-rename"):
        armed(f"room.point.{point}=enospc")
        with pytest.raises(StorageError, match="disk full"):
            publish_folder(part, tmp_path / "final", "room.point")
        assert (part / "a.txt").read_text() == "a"
        assert not (tmp_path / "final").exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotADirectoryError):
        publish_folder(part, tmp_path / "file", "room.point")
    assert (tmp_path / "file").read_text() == "in the way"


def test_an_error_says_what_and_how_to_mend_it_also_from_another_process():
    for kind, code in ((CollectTrainError, 1), (UserError, 2), (RunError, 1), (StorageError, 1)):
        error = kind("disk full", "free space")
        assert str(error) == "disk full\n  to mend: free space"
        made, arguments = error.__reduce__()
        again = made(*arguments)
        assert (type(again), again.what, again.mend, again.exit_code) == (kind, "disk full", "free space", code)


def test_a_small_file_system_that_fills_up_keeps_the_old_file(tmp_path):
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root can mount")
    program = (
        "import ctypes, os, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.unshare(0x00020000) or libc.mount(b'none', b'/', None, 0x44000, None) or "
        "libc.mount(b'tmpfs', sys.argv[1].encode(), b'tmpfs', 0, b'size=64k'):\n"
        "    print('refused', os.strerror(ctypes.get_errno())); raise SystemExit\n"
        "from pathlib import Path\n"
        "from storage.atomic import write_bytes\n"
        "from storage.errors import StorageError\n"
        "path = Path(sys.argv[1], 'file')\n"
        "write_bytes(path, b'old')\n"
        "try:\n    write_bytes(path, b'n' * 200_000)\n"
        "except StorageError as error:\n    print(error.what)\n"
        "print(path.read_bytes(), os.listdir(sys.argv[1]))\n"
    )
    ended = run(program, tmp_path)
    assert ended.returncode == 0, ended.stderr
    if ended.stdout.startswith("refused"):
        pytest.skip(f"mounting is refused here: {ended.stdout.strip()}")
    what, left = ended.stdout.splitlines()
    assert what.startswith(f"disk full while writing {tmp_path}/")
    assert left == "b'old' ['file']"


STOPS = "import sys; from storage.atomic import fault; [(fault('a.b'), print(n, flush=True)) for n in range(1, 6)]"


def test_a_fault_can_stand_still_at_every_so_many_times_until_it_is_told_to_go_on():
    process = start(STOPS, fault="a.b:2=stop")
    for line in ("1", "2\n3", "4\n5"):
        if line != "1":
            assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
            process.send_signal(signal.SIGCONT)
        for number in line.split():
            assert process.stdout.readline() == f"{number}\n"
    process.communicate(timeout=60)
    assert process.returncode == 0
