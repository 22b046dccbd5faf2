"""Packed files and archives: what is in them by checked names, and no more of it than allowed."""

import bz2
import gzip
import io
import lzma
import resource
import signal
import tarfile
import zipfile

import pytest
import zstandard
from helpers_collect import FilesSource, documents, log, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmcore.collect.unpack import Unreadable, opened

TEXTS = {"a.txt": b"The first text.", "deep/er/b.txt": b"The second text.", "deep/c.bin": b"\0\1"}
PACK = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress, "": bytes,
}  # fmt: skip


def zipped(texts):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    return packed.getvalue()


def tarred(texts, links=()):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in texts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
        for name, target in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return packed.getvalue()


def collected(tmp_path, name, data, **params):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / name).write_bytes(data)
    run(tmp_path / "work", FilesSource(name="local", base=str(folder), paths=(".",), **params))
    rows = {row["url"]: (row["text"], row["page_of_origin"]) for row in documents(tmp_path / "work")}
    return rows, {row["url"]: (row["outcome"], row["reason"]) for row in log(tmp_path / "work")}


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"])
def test_members_are_records_named_by_their_path(tmp_path, suffix):
    data = (
        zipped(TEXTS) if suffix == ".zip" else PACK[{".tar": "", ".tgz": ".gz"}.get(suffix, suffix[4:])](tarred(TEXTS))
    )
    rows, outcomes = collected(tmp_path, f"all{suffix}", data)
    assert {url: text for url, (text, _) in rows.items()} == {
        f"file:all{suffix}#a.txt": "The first text.",
        f"file:all{suffix}#deep/er/b.txt": "The second text.",
    }
    assert all(url == origin for url, (_, origin) in rows.items())
    assert set(outcomes.values()) == {("ok", "")}
    assert not (tmp_path / "work" / "unpacked").exists()


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("data", [b"A text of a packed file.\n", b"line\n" * 50_000])
def test_packed_files(tmp_path, suffix, data):
    rows, _ = collected(tmp_path, f"a.txt{suffix}", PACK[suffix](data))
    assert rows[f"file:a.txt{suffix}"][0] == data.decode().strip("\n")


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_cut_short(tmp_path, suffix):
    packed = PACK[suffix](b"some text that is long enough " * 400)
    (tmp_path / "x").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(Unreadable) as error, opened(tmp_path / "x", f"a.txt{suffix}", tmp_path, 10**6, bool):
        pass
    assert error.value.outcome in ("truncated", "damaged")


def test_rows_of_a_member(tmp_path):
    rows, _ = collected(tmp_path, "all.zip", zipped({"in/rows.jsonl": b'{"text": "one"}\n{"text": "two"}\n'}))
    assert sorted(rows) == ["file:all.zip#in/rows.jsonl:1", "file:all.zip#in/rows.jsonl:2"]


@pytest.mark.parametrize("name", ["/etc/a.txt", "../a.txt", "in/../../a.txt", "C:\\a.txt", "..\\a.txt"])
def test_a_name_that_climbs_is_refused_and_the_rest_is_read(tmp_path, name):
    rows, outcomes = collected(tmp_path, "all.tar", tarred({name: b"evil", "good.txt": b"A good text."}))
    assert [text for text, _ in rows.values()] == ["A good text."]
    assert "outside" in {outcome for outcome, _ in outcomes.values()}
    assert not list(tmp_path.rglob("a.txt"))


def test_links_and_doubles_are_refused(tmp_path):
    data = tarred({"good.txt": b"A good text."}, links=[("link.txt", "/etc/passwd")])
    rows, outcomes = collected(tmp_path, "all.tar", data)
    assert len(rows) == 1
    assert outcomes["file:all.tar#link.txt"][0] == "unreadable"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "one")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.txt", "two")
    (tmp_path / "second").mkdir()
    rows, outcomes = collected(tmp_path / "second", "all.zip", packed.getvalue())
    assert len(rows) == 1


@pytest.mark.parametrize("kind", ["zip", "gz", "xz", "bz2"])
def test_a_bomb_is_cut_off(tmp_path, kind):
    zeros = b"0" * 30_000_000
    data = zipped({"a.txt": zeros, "b.txt": b"small"}) if kind == "zip" else PACK[f".{kind}"](zeros)
    (tmp_path / "x").write_bytes(data)
    name = "a.zip" if kind == "zip" else f"a.txt.{kind}"
    with pytest.raises(Unreadable, match="too_large"), opened(tmp_path / "x", name, tmp_path, 1_000_000, bool):
        pass
    assert not (tmp_path / "unpacked").exists()


def test_an_encrypted_member_says_so(tmp_path):
    data = bytearray(zipped({"a.txt": b"x" * 100, "b.txt": b"A good text."}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(mark)
        data[at + offset] |= 1
    rows, outcomes = collected(tmp_path, "all.zip", bytes(data))
    assert len(rows) == 1
    assert outcomes["file:all.zip#a.txt"] == ("encrypted", "the member is encrypted")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".zip", ".tar", ".tgz", ".tar.xz", ".txt.bz2", ".txt.gz", ".txt.zst", ".txt.xz"]),
    at=st.floats(0, 1),
    junk=st.binary(max_size=40),
    cut=st.floats(0.1, 1),
)
def test_damaged_bytes_give_members_or_a_reason(tmp_path, suffix, at, junk, cut):
    whole = {".zip": zipped(TEXTS), ".tar": tarred(TEXTS), ".tgz": gzip.compress(tarred(TEXTS))}.get(suffix)
    if whole is None:
        inner = tarred(TEXTS) if suffix.startswith(".tar") else TEXTS["a.txt"] * 50
        whole = PACK["." + suffix.rsplit(".", 1)[1]](inner)
    place = int(at * len(whole))
    damaged = (whole[:place] + junk + whole[place + len(junk) :])[: max(1, int(cut * len(whole)))]
    (tmp_path / "x").write_bytes(damaged)
    try:
        with opened(
            tmp_path / "x", f"a{suffix}", tmp_path / "work", 10**6, lambda name: name.endswith(".txt")
        ) as found:
            for member in found:
                assert member.refusal or len(member.path.read_bytes()) <= 10**6
    except Unreadable as error:
        if "\n" in error.reason or str(tmp_path) in error.reason:
            raise


METHODS = {"stored": 0, "deflate": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}


def zipped_as(method, name="a.txt", text=b"The first text, and the second text. " * 20):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", METHODS[method]) as archive:
        archive.writestr(name, text)
    return packed.getvalue()


@pytest.mark.parametrize("method", ["bzip2", "lzma", "deflate"])
def test_a_damaged_member_of_a_zip_is_an_outcome(tmp_path, method):
    data = bytearray(zipped_as(method))
    start = 30 + len("a.txt")
    data[start : start + 40] = b"\xff" * 40
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "good.txt").write_text("A good text.")
    (tmp_path / "texts" / "bad.zip").write_bytes(data)
    run(tmp_path / "work", FilesSource(name="local", base=str(tmp_path / "texts"), paths=(".",)))
    assert {row["url"]: row["outcome"] for row in log(tmp_path / "work")} == {
        "file:bad.zip": "damaged",
        "file:good.txt": "ok",
    }


def test_a_member_without_a_name_is_damage(tmp_path):
    (tmp_path / "b.zip").write_bytes(zipped({"QQ": b"A text."}).replace(b"QQ", b"\0\0"))  # a name ends at NUL
    with (
        pytest.raises(Unreadable) as error,
        opened(tmp_path / "b.zip", "b.zip", tmp_path / "unpacking", 100_000, lambda _: True),
    ):
        pass
    assert error.value.outcome == "damaged"


def test_a_full_disk_is_not_the_fault_of_the_archive(tmp_path):
    """A limit on the size of files fails like a full disk: with a number, in the writing."""
    (tmp_path / "a.zip").write_bytes(zipped({"a.txt": b"x" * 200_000}))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with (
            pytest.raises(OSError, match="File too large"),
            opened(tmp_path / "a.zip", "a.zip", tmp_path / "unpacking", 1_000_000, lambda _: True),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(sorted(METHODS)),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_mutated_zip_gives_members_or_a_reason(tmp_path, method, changes):
    data = bytearray(zipped_as(method))
    for at, value in changes:
        data[at % len(data)] = value
    path = tmp_path / "mutated.zip"
    path.write_bytes(data)
    try:
        with opened(path, "mutated.zip", tmp_path / "unpacking", 100_000, lambda _: True) as members:
            assert all(member.refusal or member.path.stat().st_size <= 100_000 for member in members)
    except Unreadable as error:
        if error.outcome not in ("damaged", "too_large") or not error.reason:
            raise
