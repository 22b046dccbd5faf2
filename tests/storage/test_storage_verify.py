import json
import os

import pytest
from store_made import published, run

from storage.manifest import MANIFEST, ManifestDamaged, read_manifest
from storage.store import ArtifactDamaged

KEY = "0123456789abcdef01234567"


def test_a_changed_size_is_seen_at_once_and_the_file_named(store):
    artifact = published(store, "curate", KEY, {"a.txt": "hello", "b.txt": "world", "provenance/c": "c"})
    (artifact.path / "provenance/c").unlink()
    assert store.find("curate", KEY) == artifact, "provenance is not needed to use an artifact"
    with open(artifact.path / "b.txt", "a") as file:
        file.write("!")
    with pytest.raises(ArtifactDamaged, match=r"b\.txt has 6 bytes, its manifest says 5") as error:
        store.find("curate", KEY)
    assert str(artifact.path) in error.value.what
    assert error.value.fault_found.startswith("b.txt")
    (artifact.path / "b.txt").unlink()
    with pytest.raises(ArtifactDamaged, match=r"b\.txt is missing"):
        store.find("curate", KEY)


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", '{"format": 1}', "\x00" * 200, '{"format":1,"stage":"curate","key":"a","content":{}}'],
)
def test_an_unreadable_manifest_is_damage(store, text):
    artifact = published(store, "curate", KEY)
    (artifact.path / MANIFEST).write_text(text)
    with pytest.raises(ManifestDamaged, match=MANIFEST):
        read_manifest(artifact.path)
    with pytest.raises(ArtifactDamaged, match=MANIFEST):
        store.find("curate", KEY)
    assert list(store.readable()) == []
    (damage,) = store.verify()
    assert (damage.key, damage.content) == (KEY, True)
    assert store.find("curate", KEY) is None


def test_a_manifest_of_another_format_is_refused(store):
    artifact = published(store, "curate", KEY)
    values = json.loads((artifact.path / MANIFEST).read_text())
    (artifact.path / MANIFEST).write_text(json.dumps(values | {"format": 2}))
    with pytest.raises(ManifestDamaged, match="format 2"):
        read_manifest(artifact.path)
    (artifact.path / MANIFEST).write_bytes(b"\xff\xfe{}")
    with pytest.raises(ManifestDamaged):
        read_manifest(artifact.path)


def test_damaged_artifacts_are_numbered_and_keep_their_reason(store):
    for number in (1, 2, 3):
        published(store, "curate", KEY, {"data.txt": f"attempt {number}"})
        aside = store.set_aside("curate", KEY, f"reason {number}")
        assert aside == store.root / ".aside" / f"curate-{KEY}-{number}"
        assert (aside / "reason.txt").read_text() == f"reason {number}\n"
        assert (aside / "data.txt").read_text() == f"attempt {number}"
        assert store.find("curate", KEY) is None
    assert list(store.artifacts()) == []


def test_descendants_are_all_that_was_built_from_it(store, chain):
    collect, curate, tokenizer, tokens = chain
    assert store.descendants(collect.digest) == (curate, tokenizer, tokens)
    assert store.descendants(tokenizer.digest) == (tokens,)
    assert store.descendants(tokens.digest) == ()
    assert store.descendants("f" * 64) == ()


def test_verify_finds_a_flipped_bit_and_names_what_is_stale(store, chain):
    collect, curate, tokenizer, tokens = chain
    assert store.verify() == []
    path = curate.file("data.txt")
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    assert store.find("curate", "d0") == curate, "the size is right, so only verify can see it"
    seen = []
    (damage,) = store.verify(seen.append)
    assert len(seen) == 5
    assert (damage.stage, damage.key, damage.content) == ("curate", "d0", True)
    assert damage.fault_found == "data.txt has other bytes than its manifest says"
    assert damage.stale == (tokenizer, tokens)
    assert damage.aside == store.root / ".aside" / "curate-d0-1"
    assert damage.aside.is_dir()
    assert store.find("curate", "d0") is None
    assert store.find("collect", "c0") == collect
    assert store.verify() == []


@pytest.mark.parametrize("how", ["missing", "truncated", "grown"])
def test_verify_finds_files_that_are_not_whole(store, chain, how):
    path = chain[0].file("data.txt")
    if how == "missing":
        path.unlink()
    else:
        os.truncate(path, 2) if how == "truncated" else path.write_text("x" * 99)
    (damage,) = store.verify()
    assert (damage.key, damage.content) == ("c0", True)
    assert "data.txt" in damage.fault_found
    assert damage.stale == chain[1:]


def test_verify_finds_a_truncated_manifest(store, chain):
    manifest = chain[2].path / MANIFEST
    os.truncate(manifest, 100)
    (damage,) = store.verify()
    assert (damage.stage, damage.content) == ("tokenizer", True)
    assert damage.stale == (chain[3],), "its users know by its key that they were built from it"
    assert str(manifest) in damage.fault_found
    assert store.find("tokenizer", "e0") is None


def test_verify_finds_a_list_of_files_that_was_edited(store):
    artifact = published(store, "curate", KEY, {"a.txt": "a", "b.txt": "b"})
    values = json.loads((artifact.path / MANIFEST).read_text())
    del values["content"]["files"]["b.txt"]
    (artifact.path / MANIFEST).write_text(json.dumps(values))
    (damage,) = store.verify()
    assert "content digest" in damage.fault_found


def test_damage_to_provenance_alone_is_told_and_changes_nothing(store):
    artifact = published(store, "curate", KEY, {"a.txt": "a", "provenance/log.txt": "fetched"})
    (artifact.path / "provenance/log.txt").write_text("Fetched")
    (damage,) = store.verify()
    assert (damage.content, damage.aside, damage.stale) == (False, None, ())
    assert "provenance/log.txt" in damage.fault_found
    assert store.find("curate", KEY) == artifact


REPLACE = """
import sys
from store_made import published
from storage.store import Store
store = Store(sys.argv[1])
store.set_aside("curate", "abc", "by another program")
published(store, "curate", "abc", {"data.txt": "rebuilt, and other"})
"""


def test_a_rebuild_by_another_process_is_seen(store):
    before = published(store, "curate", "abc", pure=False).digest
    assert run(REPLACE, store.root).returncode == 0
    artifact = store.find("curate", "abc")
    assert artifact is not None
    assert artifact.digest != before, "a digest of an artifact that is gone would give wrong keys downstream"
