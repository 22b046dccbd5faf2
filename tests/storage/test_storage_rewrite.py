"""The one change to a finished artifact: all of it or nothing of it, and found by its old name."""

import signal
import threading

import pytest
from store_made import published, run

from storage.manifest import MANIFEST
from storage.rewrite import FOLDER, rewrite
from storage.store import ArtifactDamaged, Store

FILES = {"a.txt": "one", "b/c.txt": "two", "d.txt": "three", "provenance/log.txt": "when"}


def replace(**files):
    def change(_artifact, target):
        for name, text in files.items():
            path = target / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return change


@pytest.fixture
def artifact(store):
    return published(store, "curate", "abc", FILES)


def test_other_files_another_digest_and_the_old_one_still_finds_it(store, artifact):
    old = artifact.digest
    child = published(store, "tokens", "def", inputs=[artifact])
    rewrite(artifact.path, replace(b__c_txt="zwei"))
    assert artifact.file("b/c.txt").read_text() == "zwei"
    assert artifact.file("a.txt").read_text() == "one"
    assert artifact.digest != old
    assert artifact.digests == (old, artifact.digest)
    assert store.by_digest(old) == store.by_digest(artifact.digest) == store.find("curate", "abc") == artifact
    assert store.verify() == []
    assert not (artifact.path / FOLDER).exists()
    assert store.built_from("curate", "abc") == store.descendants(old) == (child,), "built from it as it was"
    rewrite(artifact.path, replace(a_txt="eins"))
    assert len(artifact.digests) == 3
    assert artifact.digests[0] == old
    assert store.by_digest(old) == artifact


def test_an_artifact_that_has_the_digest_now_comes_before_one_that_had_it(store, artifact):
    rewrite(artifact.path, replace(a_txt="eins"))
    same = published(store, "curate", "fff", FILES)
    assert store.by_digest(same.digest) == same
    assert store.by_digest(artifact.digest) == artifact


def test_provenance_changes_no_digest(store, artifact):
    old = artifact.digest
    rewrite(artifact.path, replace(provenance__log_txt="then"))
    assert artifact.digests == (old,)
    assert (artifact.path / "provenance" / "log.txt").read_text() == "then"
    assert store.verify() == []


def test_figures_that_change_are_those_it_had(store):
    artifact = published(store, "curate", "abc", FILES, metrics={"records": 3, "bytes": 9, "note": "x"})

    def change(_artifact, target):
        (target / "a.txt").write_text("eins")
        return {"records": 2, "unheard_of": 7}

    rewrite(artifact.path, change)
    assert artifact.metrics == {"records": 2, "bytes": 9, "note": "x"}


def test_nothing_to_change_is_nothing_changed(artifact):
    before = (artifact.path / MANIFEST).stat().st_mtime_ns
    assert rewrite(artifact.path, lambda *_: None) is None
    assert (artifact.path / MANIFEST).stat().st_mtime_ns == before
    assert not (artifact.path / FOLDER).exists()


def test_a_change_that_fails_leaves_the_old_artifact(store, artifact):
    def fail(_artifact, target):
        (target / "a.txt").write_text("half")
        raise KeyError

    with pytest.raises(KeyError):
        rewrite(artifact.path, fail)
    assert store.find("curate", "abc").file("a.txt").read_text() == "one"
    assert store.verify() == []
    rewrite(artifact.path, replace(d_txt="drei"))
    assert artifact.file("a.txt").read_text() == "one", "nothing is left of the change that failed"


REWRITE = """
import sys
from storage.rewrite import rewrite
from storage.store import Store
def change(artifact, target):
    for name in ("a.txt", "b/c.txt", "d.txt"):
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text((artifact / name).read_text() + "!" if len(sys.argv) < 3 else sys.argv[2])
rewrite(Store(sys.argv[1]).root / "curate" / "abc", change)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "decided"),
    [
        ("store.rewrite.before-manifest", False),
        ("atomic.write.before-rename", False),
        ("store.rewrite.after-manifest", True),
        ("store.rewrite.between-files:1", True),
        ("store.rewrite.between-files:2", True),
        ("store.rewrite.between-files:3", True),
    ],
)
@pytest.mark.parametrize("look", ["find", "verify", "by_digest"])
def test_a_kill_leaves_the_old_one_or_the_new_one(store, artifact, point, decided, look):
    old = artifact.digest
    assert run(REWRITE, store.root, "new", fault=point).returncode == -signal.SIGKILL
    if look == "find":
        assert store.find("curate", "abc") == artifact
    elif look == "verify":
        assert store.verify() == []
    else:
        assert store.by_digest(old) == artifact
    assert store.verify() == []
    texts = {artifact.file(name).read_text() for name in ("a.txt", "b/c.txt", "d.txt")}
    assert texts == ({"new"} if decided else {"one", "two", "three"})
    assert artifact.digests[0] == old
    assert len(artifact.digests) == 1 + decided
    assert run(REWRITE, store.root, "new").returncode == 0
    assert {artifact.file(name).read_text() for name in ("a.txt", "b/c.txt", "d.txt")} == {"new"}
    assert store.verify() == []
    assert not (artifact.path / FOLDER).exists()


@pytest.mark.slow
def test_many_who_look_finish_it_together(store, artifact):
    for number in range(4):
        killed = run(REWRITE, store.root, f"round {number}", fault="store.rewrite.between-files:1")
        assert killed.returncode == -signal.SIGKILL
        problems = []

        def look(problems=problems):
            try:
                Store(store.root).find("curate", "abc")
            except (ArtifactDamaged, OSError) as error:
                problems.append(error)

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert store.find("curate", "abc").file("a.txt").read_text() == f"round {number}"
        assert store.verify() == []
