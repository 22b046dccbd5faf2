import shutil
import signal
import tempfile
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_made import fill, provenance, published, run, start

from storage.errors import RunError, UserError
from storage.manifest import MANIFEST, list_files
from storage.store import Artifact, ArtifactDamaged, Store

KEY = "0123456789abcdef01234567"


# the key


def test_a_key_does_not_change_over_the_years():
    params = {"vocab_size": 4096, "split": "llama3", "lr": 0.004, "prompts": ["Kérem", "ሰላም"], "cap": False, "k": None}
    inputs = {"corpus": "c" * 64, "collected": ["a" * 64, "b" * 64]}
    assert Store.key("tokenizer", 3, params, inputs) == "3c4ec472d1473ef3865500ee", (
        "keys changed: every artifact that anybody has built would be built again"
    )


def test_a_key_depends_on_stage_version_params_and_inputs_and_on_nothing_else():
    def key(stage="curate", version=1, params=None, inputs=None):
        return Store.key(stage, version, params or {"a": 1, "b": [1, 2]}, inputs or {"x": "1", "y": ["2", "3"]})

    changed = [
        key(stage="tokens"),
        key(version=2),
        key(params={"a": 2, "b": [1, 2]}),
        key(params={"a": 1, "b": [2, 1]}),
        key(params={"a": 1, "b": [1, 2], "c": None}),
        key(inputs={"x": "2", "y": ["2", "3"]}),
        key(inputs={"x": "1", "y": ["3", "2"]}),
        key(inputs={"x": "1", "y": ["2", "3", "4"]}),
    ]
    assert len({key(), *changed}) == len(changed) + 1
    assert key(params={"b": [1, 2], "a": 1}) == key(), "the order of settings is no setting"


def test_a_value_that_json_cannot_hold_gets_no_key():
    with pytest.raises(ValueError, match="JSON"):
        Store.key("curate", 1, {"limit": float("nan")}, {})


# publishing


def test_a_folder_without_a_manifest_does_not_exist(store):
    fill(store.root / "curate" / KEY, {"data.txt": "unfinished"})
    assert store.find("curate", KEY) is None
    assert list(store.artifacts()) == []
    with pytest.raises(UserError):
        store.resolve(KEY)
    with pytest.raises(RunError, match=KEY):
        _ = Artifact("curate", KEY, str(store.root)).manifest


def test_what_is_left_of_a_deleted_artifact_makes_room(store):
    whole = published(store, "curate", KEY)
    (whole.path / MANIFEST).unlink()  # rm -r, interrupted
    again = published(store, "curate", KEY, {"data.txt": "built again"})
    assert store.find("curate", KEY) == again
    assert again.file("data.txt").read_text() == "built again"


def test_an_artifact_holds_its_files_and_says_where_they_came_from(store):
    files = {"a/00000.bin": b"\0" * 3000, "b.json": "{}", "provenance/log.txt": "slow today"}
    first = published(store, "collect", "c0", pure=False)
    artifact = published(store, "curate", KEY, files, [first], metrics={"documents": 7}, params={"x": [1]})
    assert artifact.path == store.root / "curate" / KEY
    assert not (store.work("curate", KEY) / "out").exists()
    manifest = artifact.manifest
    assert (manifest.stage, manifest.key, manifest.format) == ("curate", KEY, 1)
    assert sorted(manifest.content.files) == ["a/00000.bin", "b.json"]
    assert manifest.content.files["a/00000.bin"].size == 3000
    assert sorted(manifest.provenance.files) == ["provenance/log.txt"]
    assert manifest.provenance.inputs[0].digest == first.digest
    assert artifact.metrics == {"documents": 7}
    assert artifact.local() == artifact.path
    assert artifact.store.find("curate", KEY) == artifact
    with pytest.raises(ArtifactDamaged, match=r"nothing\.txt is missing"):
        artifact.file("nothing.txt")


def test_equal_files_have_equal_digests_whatever_their_provenance(store):
    files = {"x.txt": "one", "y/z.txt": "two"}
    first = published(store, "curate", "a1", files | {"provenance/log": "morning"}, host="here", attempts=1)
    second = published(store, "curate", "a2", files | {"provenance/log": "night"}, host="there", attempts=9)
    assert first.digest == second.digest
    for other in ({"x.txt": "one", "y/z.txt": "twO"}, {"x.txt": "one", "y/w.txt": "two"}, {"x.txt": "one"}):
        assert published(store, "curate", f"b{len(str(other))}{len(other)}", other).digest != first.digest
    assert first.digest == "60228bd4bc5251ae9300b8bbc6493fe12875084e2e00f9d18739f9514a65cea7", (
        "content digests changed: no store would recognise what it holds"
    )


@settings(max_examples=40, deadline=None)
@given(
    files=st.dictionaries(
        st.from_regex(r"[a-zé][a-z0-9._]{0,6}(/[a-z]{1,3}\.x){0,1}", fullmatch=True), st.binary(max_size=40), max_size=6
    ),
    order=st.randoms(use_true_random=False),
)
def test_the_digest_does_not_depend_on_the_order_of_writing(files, order):
    files = {name: data for name, data in files.items() if not any(o.startswith(name + "/") for o in files)}
    shuffled = list(files.items())
    order.shuffle(shuffled)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        first, _ = list_files(fill(Path(one), files))
        second, _ = list_files(fill(Path(two), dict(shuffled)))
        assert first == second
        assert set(first.files) == set(files)
        for name in files:
            (Path(two) / name).write_bytes(files[name] + b"!")
            assert list_files(Path(two))[0].digest != first.digest
            (Path(two) / name).write_bytes(files[name])


def test_the_first_complete_writer_wins(store):
    first = published(store, "curate", KEY, {"data.txt": "first"})
    second = published(store, "curate", KEY, {"data.txt": "second"})
    assert first == second
    assert second.file("data.txt").read_text() == "first"
    assert not (store.work("curate", KEY) / "out").exists()
    assert store.verify() == []


RACER = """
import pathlib, sys, time
from store_made import fill, provenance
from storage.store import Store
root, who = Store(sys.argv[1]), sys.argv[2]
pathlib.Path(sys.argv[1], f"ready-{who}").touch()
while not pathlib.Path(sys.argv[1], "go").exists():
    time.sleep(0.001)
for number in range(30):
    key = f"{number:04d}"
    out = fill(root.root / f"out-{who}-{key}", {f"{n}.txt": f"{who} {number}" for n in range(5)})
    print(root.publish("curate", key, out, provenance(host=who)).digest)
"""


def test_two_processes_on_one_key_leave_one_whole_artifact(store):
    store.root.mkdir()
    racers = [start(RACER, store.root, who) for who in "ab"]
    while not all((store.root / f"ready-{who}").exists() for who in "ab"):
        assert all(racer.poll() is None for racer in racers), [r.communicate() for r in racers if r.poll() is not None]
    (store.root / "go").touch()
    answers = [racer.communicate(timeout=60) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0], answers
    assert answers[0][0] == answers[1][0], "both were told of the same artifacts"
    for artifact in store.artifacts():
        texts = {path.read_text() for path in artifact.path.glob("*.txt")}
        assert texts == {f"{artifact.manifest.provenance.host} {int(artifact.key)}"}
    assert len(list(store.artifacts())) == 30
    assert store.verify() == []


def test_a_link_is_no_file_of_an_artifact(store, tmp_path):
    (tmp_path / "secret").write_text("elsewhere")
    out = fill(store.work("curate", KEY) / "out", {"data.txt": "x"})
    (out / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(RunError, match="link"):
        store.publish("curate", KEY, out, provenance())
    assert store.find("curate", KEY) is None


def test_a_stage_that_leaves_nothing_is_no_artifact(store):
    with pytest.raises(AssertionError, match="nothing"):
        store.publish("curate", KEY, store.work("curate", KEY) / "out", provenance())
    out = fill(store.work("curate", KEY) / "out", {"provenance/log": "only this"})
    with pytest.raises(AssertionError, match="nothing"):
        store.publish("curate", KEY, out, provenance())


PUBLISH = """
import sys
from store_made import fill, provenance
from storage.store import Store
store = Store(sys.argv[1])
out = fill(store.work("curate", "abc") / "out", {"a.txt": "one", "b/c.txt": "two"})
print(store.publish("curate", "abc", out, provenance()).digest)
"""
POINTS = {
    "store.publish.before-manifest": False,
    "atomic.write.before-rename": False,
    "store.publish.before-fsync": False,
    "store.publish.before-rename": False,
    "store.publish.after-rename": True,
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The digest of what PUBLISH makes."""
    return run(PUBLISH, tmp_path_factory.mktemp("uninterrupted")).stdout.strip()


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_while_publishing_leaves_no_artifact_or_a_whole_one(store, uninterrupted, point):
    assert run(PUBLISH, store.root, fault=point).returncode == -signal.SIGKILL
    found = store.find("curate", "abc")
    assert (found is not None) is POINTS[point]
    assert store.verify() == []
    again = run(PUBLISH, store.root)
    assert again.returncode == 0, again.stderr
    artifact = store.find("curate", "abc")
    assert artifact is not None
    assert sorted(artifact.manifest.content.files) == ["a.txt", "b/c.txt"], "no half-written file of the killed one"
    assert artifact.digest == again.stdout.strip() == uninterrupted
    assert store.verify() == []


def test_a_full_disk_while_publishing_is_told_with_the_path(store):
    program = "from storage.errors import StorageError\ntry:\n"
    program += textwrap.indent(PUBLISH, "    ") + "except StorageError as error:\n    print(error.what)"
    for point in ("store.publish.before-manifest", "store.publish.before-fsync", "store.publish.before-rename"):
        told = run(program, store.root, fault=f"{point}=enospc")
        assert told.returncode == 0, told.stderr
        assert f"disk full while writing {store.root}" in told.stdout
        assert store.find("curate", "abc") is None
    assert run(PUBLISH, store.root).returncode == 0


# names


def test_by_digest(store, chain):
    collect, curate, *_ = chain
    assert store.by_digest(collect.digest) == collect
    assert store.by_digest(curate.digest, "curate") == curate
    with pytest.raises(RunError, match="no collect with content digest") as error:
        store.by_digest(curate.digest, "collect")
    assert curate.digest[:12] in error.value.what
    with pytest.raises(RunError, match="no artifact with content digest ffff"):
        store.by_digest("f" * 64)


def test_resolve_takes_what_people_type(store, chain, monkeypatch):
    _, curate, tokenizer, _ = chain
    for name in ("d0", "d", "curate/d0", "curate/d", curate.digest, curate.digest[:10], str(curate.path)):
        assert store.resolve(name) == curate, name
    monkeypatch.chdir(store.root)
    assert store.resolve("tokenizer/e0") == tokenizer
    assert store.resolve("./tokenizer/e0") == tokenizer


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("", "no artifact"),
        ("curate/", "no artifact"),
        ("999", "no artifact '999'"),
        ("curated/d0", "unknown stage 'curated'"),
        ("tokens/d0", "no artifact 'tokens/d0'"),
        ("../etc/passwd", "unknown stage"),
        ("c", "fits 2 artifacts: collect/c0, collect/c1"),
    ],
)
def test_resolve_says_what_is_wrong_with_a_name(store, chain, name, what):
    with pytest.raises(UserError, match=what):
        store.resolve(name)


@pytest.mark.parametrize(
    "url", ["s3://bucket/store", "gs://b", "https://host/x", "file://otherhost/store", "az://x/y", "ssh://me@host/s"]
)
def test_a_store_elsewhere_is_refused(url):
    with pytest.raises(UserError, match="not a local folder") as error:
        Store(url)
    assert url in error.value.what


def test_a_local_store_may_be_a_path_or_a_url(tmp_path, monkeypatch):
    place = tmp_path / "a store é"
    assert Store(place).root == Store(str(place)).root == Store(f"file://{place}").root == place
    assert Store(f"file://localhost{tmp_path}/a%20store%20%C3%A9").root == place
    monkeypatch.chdir(tmp_path)
    assert Store("s").root == tmp_path / "s"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Store("~/s").root == tmp_path / "s"
    monkeypatch.setenv("COLLECT_TRAIN_STORE", str(place))
    assert Store.default().root == place
    monkeypatch.setenv("COLLECT_TRAIN_STORE", "")
    assert Store.default().root == tmp_path / "store"


def test_artifacts_come_in_the_order_of_the_stages(store, chain):
    shutil.rmtree(store.root / "curate")
    (store.root / "tokens" / ".hidden").mkdir()
    assert [a.stage for a in store.artifacts()] == ["collect", "collect", "tokenizer", "tokens"]
    assert [a.key for a in store.artifacts("tokens", "collect")] == ["f0", "c0", "c1"]


def test_work_in_progress_is_kept_until_it_is_cleared(store):
    assert not store.has_work("train", KEY)
    fill(store.work("train", KEY), {"checkpoint": "step 7"})
    assert (store.work("train", KEY) / "checkpoint").read_text() == "step 7"
    assert store.has_work("train", KEY)
    assert not store.has_work("tokens", KEY)
    store.clear_work("train", KEY)
    store.clear_work("train", KEY)
    assert not store.has_work("train", KEY)
