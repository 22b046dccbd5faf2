"""The stages of curation killed at any instant: the next run leaves what an uninterrupted one does."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from storage import atomic
from storage.errors import RunError

NO_HELD_OUT = {"min_val_documents": 0, "min_test_documents": 0}
SHARD = 20_000  # bytes: some shards a folder
SCRIPT = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import lmcore.curate.measure
from lmcore.curate.params import CurateParams
from three_stages import curate_folders
lmcore.curate.measure.SHARD_BYTES = {SHARD}
work, workers, *folders = sys.argv[1:]
curate_folders(Path(work), [Path(folder) for folder in folders], workers=int(workers),
               params=CurateParams(gates={NO_HELD_OUT}))
"""
CHAIN = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from lmcore.curate.params import CurateParams
from three_stages import curate_folders
root, name, fault, *folders = sys.argv[1:]
root, folders, params = Path(root), [Path(folder) for folder in folders], CurateParams(gates={NO_HELD_OUT})
first = curate_folders(root / "first", folders[:2], params=params)
os.environ["COLLECT_TRAIN_FAULT"] = fault
curate_folders(root / name, folders[1:], params=params, before=first)
"""


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr("lmcore.curate.measure.SHARD_BYTES", SHARD)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, pages, collected):
    root = tmp_path_factory.mktemp("collected")
    return [collected(root / f"in{n}", pages[n::3]) for n in range(3)]


@pytest.fixture(scope="module")
def expected(folders, content, tmp_path_factory):
    """What uninterrupted stages leave, by file."""
    work = tmp_path_factory.mktemp("expected") / "work"
    subprocess.run(command(work, 1, folders), check=True, timeout=120)
    return content(work)


def command(work, workers, folders):
    return [sys.executable, "-c", SCRIPT, str(work), str(workers), *map(str, folders)]


def killed(work, workers, folders, point, **more):
    environment = os.environ | {"COLLECT_TRAIN_FAULT": point} | more
    return subprocess.run(command(work, workers, folders), env=environment, capture_output=True, timeout=120)


def outs(content):
    """The files that stages leave, without what they worked with."""
    return {name: digest for name, digest in content.items() if "/out/" in name and not name.endswith(".part")}


@pytest.mark.parametrize(
    "point",
    ["measure.shard:1", "measure.shard:3", "compare.pairs", "curate.before-decisions", "curate.sorted:1",
     "curate.sorted:4", "curate.file:1", "curate.file:3", "parquet.write:2", "parquet.write:5", "parquet.write:40",
     "atomic.write.before-rename:1", "atomic.write.before-rename:6"],
)  # fmt: skip
def test_killed_and_run_again(tmp_path, folders, run_curate, content, expected, point):
    died = killed(tmp_path / "work", 1, folders, point)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "work").glob("measure/*/out/measured/*.parquet")}
    time.sleep(0.01)
    out, _ = run_curate(folders, work=tmp_path / "work", gates=NO_HELD_OUT)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept, "a finished shard was measured again"
    assert outs(content(tmp_path / "work")) == outs(expected)
    assert not (out.parent / "sorted").exists()


@pytest.mark.parametrize("point", ["curate.sorted:1", "curate.file:1", "parquet.write:3"])
def test_killed_on_top_of_another_corpus(tmp_path, folders, content, point):
    """Links, and files with rows taken out, are there whole or not at all."""

    def run(name, fault=""):
        given = [str(tmp_path), name, fault, *map(str, folders)]
        return subprocess.run([sys.executable, "-c", CHAIN, *given], capture_output=True, timeout=120)

    died = run("again", point)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    for name in ("again", "whole"):
        done = run(name)
        assert done.returncode == 0, done.stderr.decode()
    assert content(tmp_path / "again" / "curate" / "out") == content(tmp_path / "whole" / "curate" / "out")
    names = {path.name for path in (tmp_path / "again").glob("curate/out/*/[0-9]*.parquet")}
    assert names == {"000-00000.parquet", "001-00000.parquet"}, "of the first corpus, and of the new texts"


def test_a_full_disk_is_told_and_the_next_run_goes_on(tmp_path, folders, run_curate, monkeypatch, content, expected):
    for point in ("parquet.write:6=enospc", "parquet.write:30=enospc"):
        monkeypatch.setenv("COLLECT_TRAIN_FAULT", point)
        atomic._reached.clear()
        with pytest.raises(RunError, match="disk full while writing"):
            run_curate(folders, work=tmp_path / "work", gates=NO_HELD_OUT)
    monkeypatch.delenv("COLLECT_TRAIN_FAULT")
    run_curate(folders, work=tmp_path / "work", gates=NO_HELD_OUT)
    assert outs(content(tmp_path / "work")) == outs(expected)


def test_two_workers_leave_the_same_bytes(tmp_path, folders, run_curate, content, expected):
    run_curate(folders, work=tmp_path / "work", workers=2, gates=NO_HELD_OUT)
    assert outs(content(tmp_path / "work")) == outs(expected)


def of_mark(mark):
    """Processes that were given this mark in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_a_killed_parent_leaves_no_worker_behind(tmp_path, folders, run_curate, content, expected):
    mark = uuid.uuid4().hex
    died = killed(tmp_path / "work", 2, folders, "measure.shard:1", TEST_MARK=mark)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    until = time.monotonic() + 60
    while left := of_mark(mark):
        assert time.monotonic() < until, f"processes {left} are still there"
        time.sleep(0.02)
    run_curate(folders, work=tmp_path / "work", workers=2, gates=NO_HELD_OUT)
    assert outs(content(tmp_path / "work")) == outs(expected)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_a_worker_that_dies_is_told_and_the_others_end(tmp_path, folders, run_curate, content, expected, monkeypatch):
    mark = uuid.uuid4().hex
    monkeypatch.setenv("TEST_MARK", mark)  # of this process itself /proc shows what it began with
    monkeypatch.setenv("COLLECT_TRAIN_FAULT", "parquet.write:3")
    monkeypatch.setitem(atomic._reached, "parquet.write", 1000)  # so that workers die of it only
    with pytest.raises(RunError, match="ended with status -9") as caught:
        run_curate(folders, work=tmp_path / "work", workers=2, gates=NO_HELD_OUT)
    assert "runtime.measure.workers=1" in caught.value.mend
    assert of_mark(mark) == [], "the error has ended every process, while it is still held"
    monkeypatch.delenv("COLLECT_TRAIN_FAULT")
    run_curate(folders, work=tmp_path / "work", gates=NO_HELD_OUT)
    assert outs(content(tmp_path / "work")) == outs(expected)
