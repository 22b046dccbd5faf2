"""kill -9 in the midst of forgetting: run again it ends the same, and what runs between finds a whole store."""

from __future__ import annotations

import ast
import json
import signal

import pytest
import store_of_texts as shop

from lmcore.collect.editions import load_edition
from storage.store import Store
from storage.tombstones import read_tombstones

pytestmark = pytest.mark.slow

NUMBER = 4  # in the training split of both corpora
URL = f"file:{NUMBER:02d}.txt"
POINTS = (
    "atomic.write.before-rename",
    "forget.after-tombstone",
    "forget.blotted:1",
    "forget.blotted:2",
    "forget.after-quotes",
    "forget.leftover-removed",
    "store.rewrite.before-manifest:1",
    "store.rewrite.after-manifest:2",
    "store.rewrite.between-files:3",
    "forget.rewritten:1",
    "forget.rewritten:3",
    "store.rewrite.before-manifest:5",
    "store.rewrite.after-manifest:6",
    "store.rewrite.between-files:14",
    "forget.rewritten:5",
    "forget.rewritten:6",
    "forget.rewritten:7",
    "forget.before-finished",
)


def test_every_fault_point_of_forgetting_is_killed_at():
    found = {"atomic.write.before-rename"}
    for path in [shop.ROOT / "storage" / "rewrite.py", *(shop.ROOT / "lmcore" / "forget").glob("*.py")]:
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        found |= {call.args[0].value for call in calls if isinstance(call.func, ast.Name) and call.func.id == "fault"}
    assert {point.partition(":")[0] for point in POINTS} == found


@pytest.fixture
def prepared(shelf):
    """With quotes and leftovers to deal with."""
    store, line = shelf.store, shop.sentence(NUMBER, 1)
    judged = shop.evaluation(store, shelf.old, shelf.third, samples=[line])
    (store.root / "runs" / "one").mkdir(parents=True)
    (store.root / "runs" / "one" / "run.log").write_text(f"said: {line}\n")
    store.work("tokens", "ff").joinpath("00000.bin").write_bytes(b"12")
    return shelf, judged


def content(store: Store) -> dict[str, str]:
    """Content digest of every artifact, and every other file but locks and the time of the tombstone."""
    found = {f"{a.stage}/{a.key}": a.digest for a in store.artifacts()}
    for folder in ("runs", ".work", ".aside", ".gone", "registry", "editions"):
        for path in (store.root / folder).rglob("*"):
            if path.is_file():
                found[str(path.relative_to(store.root))] = path.read_bytes().hex()
    tombstone = json.loads((store.root / "tombstones.json").read_text())["tombstones"][0]
    assert tombstone.pop("finished")
    tombstone.pop("when")
    return found | {"tombstone": json.dumps(tombstone, sort_keys=True)}


@pytest.fixture(scope="module")
def undisturbed():
    return {}


def test_undisturbed(prepared, undisturbed):
    shelf, _ = prepared
    done = shop.forget_in_a_process(shelf.store, URL)
    assert done.returncode == 0, done.stderr
    assert "nothing of it is left" in done.stdout
    undisturbed.update(content(shelf.store))


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_run_again(prepared, undisturbed, point):
    shelf, judged = prepared
    store = shelf.store
    killed = shop.forget_in_a_process(store, URL, fault=point)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    # whoever comes now finds whole artifacts, those of before or those of after
    assert store.verify() == []
    for edition in ("one", "two", "three"):
        texts = load_edition(getattr(shelf, edition).path, lambda digest: store.by_digest(digest, "collect").path)
        assert texts.num_rows in (13, 14, 15)
    assert store.find(judged.stage, judged.key) == judged
    if read_tombstones(store.root):
        assert read_tombstones(store.root)[0].models, "models are known before anything is changed"
    again = shop.forget_in_a_process(store, URL)
    assert again.returncode == 0, again.stderr
    assert undisturbed, "the test before this one gives what to compare with"
    assert content(store) == undisturbed
    assert store.verify() == []
    assert list(store.root.rglob(".rewrite")) == []
    line = shop.sentence(NUMBER, 1)
    assert [name for name, text in shop.everything_readable(store.root).items() if line in text] == []


def test_a_full_disk_is_told_and_the_next_time_ends_it(prepared, undisturbed):
    shelf, _ = prepared
    told = shop.forget_in_a_process(shelf.store, URL, fault="store.rewrite.before-manifest:3=enospc")
    assert told.returncode == 1
    assert "disk full while writing" in told.stderr
    assert shop.forget_in_a_process(shelf.store, URL).returncode == 0
    assert content(shelf.store) == undisturbed
