"""What may go from a store, and that it goes whole or not at all."""

import os
import shutil
import signal
import time

import pytest
from store_made import fill, published, run, start

from storage.gc import GONE, YOUNG_SECONDS, clear, judge
from storage.rewrite import FOLDER, rewrite

DAY = 86_400.0


def age(path, seconds):
    """Make a file or a folder and all in it look as old as that."""
    then = time.time() - seconds
    paths = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    for each in paths:
        os.utime(each, (then, then), follow_symlinks=False)


@pytest.fixture
def old(store, chain):
    """The chain, made long ago."""
    shutil.rmtree(store.root / ".work")
    age(store.root, 30 * DAY)
    return chain


def swept(store, roots=(), needs=lambda _: (), older_than=7 * DAY):
    return judge(store, {(a.stage, a.key): "a root" for a in roots}, needs, older_than=older_than)


def going(sweep):
    return [f"{v.stage}/{v.key}" for v in sweep.verdicts if v.goes]


def whys(sweep):
    return {f"{v.stage}/{v.key}": v.why for v in sweep.verdicts}


def test_what_a_root_was_built_from_stays_and_the_rest_goes(store, old):
    _, curate, tokenizer, tokens = old
    assert going(swept(store, [tokens])) == ["collect/c1"]
    assert going(swept(store, [tokenizer])) == ["collect/c1", "tokens/f0"]
    assert going(swept(store, [curate])) == ["collect/c1", "tokenizer/e0", "tokens/f0"]
    told = whys(swept(store, [tokens]))
    assert told["tokens/f0"] == "a root"
    assert told["curate/d0"] == told["collect/c0"] == "needed by a root"
    assert len(going(swept(store))) == 5
    sizes = {v.key: v.size for v in swept(store).verdicts}
    assert sizes["d0"] >= len("curate d0") + 500, "the manifest counts too"


def test_a_collection_needs_those_it_refers_to_and_not_every_edition_before(store):
    first = published(store, "collect", "a1", {"x": "1"})
    second = published(store, "collect", "a2", {"x": "2"}, inputs=[first])
    third = published(store, "collect", "a3", {"x": "3"}, inputs=[second])
    age(store.root, 30 * DAY)
    refers = {third.key: [first.digest]}
    assert going(swept(store, [third], lambda a: refers.get(a.key, ()))) == ["collect/a2"]


def test_an_artifact_is_found_by_the_digest_it_had(store):
    first = published(store, "curate", "a1", {"x.txt": "1"})
    second = published(store, "tokens", "a2", inputs=[first])
    rewrite(first.path, lambda _, target: (target / "x.txt").write_text("2") and None)
    age(store.root, 30 * DAY)
    assert going(swept(store, [second])) == []


def test_a_root_that_is_gone_and_a_lost_input_are_no_trouble(store, old):
    store.set_aside("curate", "d0", "test")
    sweep = judge(store, {("train", "99"): "x", ("tokens", "f0"): "y"}, lambda _: (), older_than=DAY)
    assert going(sweep) == ["collect/c0", "collect/c1"]


def test_the_young_the_locked_and_the_unreadable_stay(store, old):
    age(store.root / "collect" / "c1", YOUNG_SECONDS / 2)
    (store.root / "tokens" / "f0" / "manifest.json").write_text("{")
    age(store.root / "tokens" / "f0", 30 * DAY)
    with store.lock("curate", "d0"):
        sweep = swept(store)
        assert going(sweep) == ["collect/c0", "tokenizer/e0"]
        told = whys(sweep)
        assert told["collect/c1"] == "younger than an hour"
        assert told["curate/d0"] == f"process {os.getpid()} works on it"
        assert "verify" in told["tokens/f0"]
        verdict = next(v for v in swept(store).verdicts if v.key == "d0")
        assert clear(store, verdict) == f"process {os.getpid()} works on it"
    assert store.find("curate", "d0")


def test_clearing(store, old):
    for verdict in swept(store).verdicts:
        assert clear(store, verdict) == ""
    assert list(store.artifacts()) == []
    assert list((store.root / GONE).iterdir()) == []
    assert swept(store).verdicts == ()
    assert clear(store, verdict) == "", "gone already"


def test_what_was_built_again_meanwhile_stays(store, old):
    verdict = next(v for v in swept(store).verdicts if v.key == "c1")
    age(store.root / "collect" / "c1", 5)
    assert clear(store, verdict) == "it has changed meanwhile"
    assert store.find("collect", "c1")


def test_leftovers(store, old):
    for name, seconds in (("train-a1", 8 * DAY), ("train-a2", 6 * DAY), ("train-a3", 8 * DAY), ("collect-b1", 9 * DAY)):
        fill(store.root / ".work" / name / "deep", {"checkpoint": "x" * 1000})
        age(store.root / ".work" / name, seconds)
    age(store.root / ".work" / "collect-b1" / "deep" / "checkpoint", 60)  # something is written in it
    store.set_aside("collect", "c1", "test")
    age(store.root / ".aside", 8 * DAY)
    fill(store.root / GONE / "curate-dd-1234", {"data": "y"})
    for name, seconds in (("runs/one/.plan.json.1.ab.part", 2 * 3600), ("registry/.tiny.json.1.ab.part", 60)):
        fill(store.root, {name: "half"})
        age(store.root / name, seconds)
    staged = store.root / "tokens" / "f0" / FOLDER
    fill(staged, {"a.txt": "never decided"})
    age(staged, 2 * 3600)
    with store.lock("train", "a3"):
        sweep = swept(store, old)
    assert sorted(str(left.path.relative_to(store.root)) for left in sweep.leftovers) == [
        ".aside/collect-c1-1", ".gone/curate-dd-1234", ".work/train-a1", "runs/one/.plan.json.1.ab.part",
        f"tokens/f0/{FOLDER}",
    ]  # fmt: skip
    assert next(left for left in sweep.leftovers if left.path.name == "train-a1").size > 1000
    for left in sweep.leftovers:
        assert clear(store, left) == ""
        assert not left.path.exists()
    assert sorted(path.name for path in (store.root / ".work").iterdir()) == ["collect-b1", "train-a2", "train-a3"]
    assert (store.root / "registry" / ".tiny.json.1.ab.part").exists()
    assert store.verify() == []


def test_work_that_somebody_took_up_again_stays(store):
    fill(store.work("train", "a1"), {"checkpoint": "x"})
    age(store.root, 8 * DAY)
    (left,) = swept(store).leftovers
    with store.lock("train", "a1"):
        assert "works on it" in clear(store, left)
    age(store.root / ".work" / "train-a1" / "checkpoint", 1)
    assert clear(store, left) == "it has changed meanwhile"
    assert store.has_work("train", "a1")


def test_links_are_never_followed(store, old, tmp_path):
    outside = fill(tmp_path / "outside", {"precious.txt": "mine"})
    published(store, "train", "aa", {"model": "w"})
    os.rename(store.root / "train" / "aa", outside / "aa")
    (store.root / "train" / "aa").symlink_to(outside / "aa")
    (store.root / "collect" / "c1" / "link").symlink_to(outside)
    (store.root / ".work").mkdir(exist_ok=True)
    (store.root / ".work" / "train-bb").symlink_to(outside)
    fill(store.root / ".work" / "train-cc", {"x": "y"})
    (store.root / ".work" / "train-cc" / "link").symlink_to(outside)
    os.rename(store.root / "export", tmp_path / "elsewhere") if (store.root / "export").exists() else None
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    (store.root / "export").symlink_to(tmp_path / "elsewhere")
    published(store, "export", "ee", {"hf": "w"})
    for path in (store.root, outside, tmp_path / "elsewhere"):
        age(path, 30 * DAY)
    sweep = swept(store)
    told = whys(sweep)
    assert told["train/aa"] == told["export/ee"] == "a link out of the store: left alone"
    for thing in (*sweep.verdicts, *sweep.leftovers):
        if getattr(thing, "goes", True):
            clear(store, thing)
    assert (outside / "precious.txt").read_text() == "mine"
    assert (outside / "aa" / "model").read_text() == "w"
    assert (tmp_path / "elsewhere" / "ee" / "hf").read_text() == "w"
    assert not (store.root / "collect" / "c1").exists()
    assert not (store.root / ".work" / "train-cc").exists()


CLEAR = """
import sys
from storage.gc import clear, judge
from storage.store import Store
store = Store(sys.argv[1])
sweep = judge(store, {}, lambda _: (), older_than=7 * 86400)
for thing in (*reversed(sweep.verdicts), *sweep.leftovers):
    assert clear(store, thing) == "", thing
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", ["gc.before-delete", "gc.after-rename"])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_a_kill_leaves_whole_artifacts_and_the_next_time_ends_it(store, old, point, count):
    fill(store.work("train", "a1"), {"checkpoint": "x"})
    age(store.root / ".work", 8 * DAY)
    before = {(a.stage, a.key) for a in store.artifacts()}
    killed = run(CLEAR, store.root, fault=f"{point}:{count}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert store.verify() == []
    left = {(a.stage, a.key) for a in store.artifacts()}
    for stage, key in left:
        assert store.find(stage, key)
    gone = count - (point == "gc.before-delete")
    assert len(before) - len(left) == min(gone, 5)
    assert all(not (store.root / stage / key).exists() for stage, key in before - left)
    assert run(CLEAR, store.root).returncode == 0
    assert list(store.artifacts()) == []
    assert list((store.root / GONE).iterdir()) == []
    assert not store.has_work("train", "a1")


BUILD = """
import sys, time
from store_made import published
from storage.store import Store
store = Store(sys.argv[1])
for number in range(40):
    with store.lock("curate", f"{number % 4:x}"):
        if store.find("curate", f"{number % 4:x}") is None:
            published(store, "curate", f"{number % 4:x}", {"data.txt": "x" * 1000, "b/more.txt": "y"})
        assert store.find("curate", f"{number % 4:x}").file("b/more.txt").read_text() == "y"
"""


EAGER = """
import sys
import storage.gc
from storage.store import Store
storage.gc.YOUNG_SECONDS = 0  # everything is young here: the locks alone keep a builder's artifact whole
store = Store(sys.argv[1])
for _ in range(30):
    sweep = storage.gc.judge(store, {}, lambda _: (), older_than=7 * 86400)
    for thing in (*sweep.verdicts, *sweep.leftovers):
        getattr(thing, "goes", True) and storage.gc.clear(store, thing)
"""


@pytest.mark.slow
def test_builders_and_two_sweeps_at_once(store):
    store.root.mkdir()
    processes = [start(code, store.root) for code in (BUILD, EAGER, EAGER)]
    ended = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], ended
    assert store.verify() == []
