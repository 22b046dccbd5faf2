"""Files of every kind, whole, damaged and misleading."""

import csv
import gzip
import io
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from helpers_collect import FilesSource, broken, damage, digests, documents, log, read, run, try_read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmcore.collect.charset import clean
from lmcore.collect.file_formats import FORMATS
from lmcore.collect.files import find_files
from lmcore.collect.items import Item
from lmcore.collect.qa import QaSource
from lmcore.collect.unpack import Unreadable
from storage.errors import RunError

STORY = "Once there was a mill by the river.\nNobody knew who had built it."
MAIN = f"<nav>Menu</nav><main><p>{STORY * 9}</p></main>"
HTML = f"<html lang='en'><head><title>The mill</title></head><body>{MAIN}</body></html>"


def source(base, *paths, **params):
    return FilesSource(name="local", base=str(base), paths=paths or (".",), **params)


def by_url(work):
    return {row["url"]: row for row in documents(work)}


def results(work):
    return {(row["url"], row["outcome"]): row["reason"] for row in log(work)}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "recipe"
    folder.mkdir()
    return folder


def pack(suffix, data):
    return {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix](data)


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("suffix", ["txt", "md", "html", "htm", "py"])
def test_whole_files(folder, tmp_path, suffix, packing):
    text = {"md": "# The mill\n\n" + STORY, "html": HTML, "htm": HTML}.get(suffix, STORY)
    (folder / f"a.{suffix}{packing}").write_bytes(pack(packing, text.encode()))
    run(tmp_path / "work", source(folder, f"*.{suffix}{packing}"))
    (row,) = documents(tmp_path / "work")
    assert row["url"] == row["page_of_origin"] == f"file:a.{suffix}{packing}"
    assert row["title"] == ("The mill" if suffix in ("md", "html", "htm") else f"a.{suffix}{packing}")
    assert "Nobody knew who had built it." in row["text"]
    assert "Menu" not in row["text"]


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_rows_of_jsonl(folder, tmp_path, packing):
    lines = [{"text": STORY, "title": "One"}, {"text": STORY + " Two"}]
    data = "\ufeff" + "\n\n".join(json.dumps(line) for line in lines)
    (folder / f"a.jsonl{packing}").write_bytes(pack(packing, data.encode()))
    run(tmp_path / "work", source(folder, "."))
    rows = by_url(tmp_path / "work")
    assert list(rows) == [f"file:a.jsonl{packing}#1", f"file:a.jsonl{packing}#3"]
    assert [row["title"] for row in rows.values()] == ["One", ""]


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_rows_of_parquet(folder, tmp_path, packing):
    table = pa.table({"body": ["first text", None, "third text"], "name": ["A", "B", None], "n": [1, 2, 3]})
    pq.write_table(table, tmp_path / "t", compression="zstd")
    (folder / f"a.parquet{packing}").write_bytes(pack(packing, (tmp_path / "t").read_bytes()))
    run(tmp_path / "work", source(folder, "a.*", text_field="body", title_field="name"))
    assert [(row["text"], row["title"]) for row in documents(tmp_path / "work")] == [
        ("first text", "A"),
        ("third text", ""),
    ]
    assert results(tmp_path / "work")[f"file:a.parquet{packing}", "bad_rows"] == "1 rows: no body; the first is row 2"


def test_bad_rows_are_counted(folder, tmp_path):
    good = json.dumps({"text": STORY}).encode()
    lines = [
        good,
        b"{broken",
        b'{"text": "\xff"}',
        b"[1]",
        b'{"other": 1}',
        b'{"text": 5}',
        b'{"text": " "}',
        b"{broken",
    ]
    lines += [b"[" * 100_000, b'{"text": "lone \\ud800 surrogate"}', b"1" * 5000]
    (folder / "a.jsonl").write_bytes(b"\n".join(lines))
    metrics = run(tmp_path / "work", source(folder, "a.jsonl"))
    assert metrics["records"] == 2
    assert by_url(tmp_path / "work")["file:a.jsonl#10"]["text"] == "lone \ufffd surrogate"
    stats = json.loads((tmp_path / "work" / "out" / "stats.json").read_text())
    bad = stats["bad_rows"]
    assert bad.pop("not JSON") >= 3
    assert bad == {
        "not UTF-8": 1,
        "not a JSON object": bad["not a JSON object"],
        "no text": 1,
        "text is not a string": 1,
        "short": 1,
    }
    assert results(tmp_path / "work")["file:a.jsonl", "bad_rows"]


def test_damaged_files_give_nothing_and_say_why(folder, tmp_path):
    packed = gzip.compress(STORY.encode() * 1000)
    rows = "\n".join(json.dumps({"text": f"{STORY} {n}"}) for n in range(2000)).encode()
    pq.write_table(
        pa.table({"text": [STORY] * 5000}), tmp_path / "p", row_group_size=100, compression="none", use_dictionary=False
    )
    parquet = bytearray((tmp_path / "p").read_bytes())
    files = {
        "good.txt": STORY.encode(),
        "cut.txt.gz": packed[: len(packed) // 2],
        "cut.jsonl.gz": gzip.compress(rows)[:-2000],
        "cut.jsonl.zst": zstandard.compress(rows)[:-2000],
        "no.gz.txt.gz": b"this is no gzip",
        "no.txt.zst": b"this is no zstd",
        "cut.parquet": bytes(parquet[:-100]),
        "no.parquet": b"PAR1 nothing PAR1",
        "column.parquet": (tmp_path / "p").read_bytes().replace(b"text", b"tuxt"),
        "big.txt": b"x" * 20_000,
        "bomb.txt.gz": gzip.compress(b"x" * 5_000_000),
        "bomb.txt.zst": zstandard.compress(b"x" * 5_000_000),
        "empty.txt": b"",
        "empty.jsonl": b"\n\n",
        "what.docx": b"PK",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "secret.txt").write_bytes(b"x")
    (folder / "secret.txt").chmod(0)
    (folder / "gone.txt").symlink_to(folder / "nowhere.txt")
    os.mkfifo(folder / "pipe.txt")
    metrics = run(tmp_path / "work", source(folder, ".", "what.docx", max_bytes=10_000))
    assert metrics["records"] == 1 + (os.geteuid() == 0)
    got = {
        row["url"].removeprefix("file:"): row["outcome"]
        for row in log(tmp_path / "work")
        if row["outcome"] != "bad_rows"
    }
    assert got == {
        "good.txt": "ok",
        "cut.txt.gz": "truncated",
        "cut.jsonl.gz": "too_large" if got["cut.jsonl.gz"] == "too_large" else "truncated",
        "cut.jsonl.zst": "too_large" if got["cut.jsonl.zst"] == "too_large" else "truncated",
        "no.gz.txt.gz": "damaged",
        "no.txt.zst": "damaged",
        "cut.parquet": "too_large",
        "no.parquet": "damaged",
        "column.parquet": "too_large",
        "big.txt": "too_large",
        "bomb.txt.gz": "too_large",
        "bomb.txt.zst": "too_large",
        "empty.txt": "short",
        "empty.jsonl": "no_text",
        "what.docx": "unknown_format",
        "secret.txt": "ok" if os.geteuid() == 0 else "unreadable",
        "gone.txt": "unreadable",
        "pipe.txt": "unreadable",
    }
    assert all(row["reason"] for row in log(tmp_path / "work") if row["outcome"] != "ok")
    again = run(tmp_path / "again", source(folder, ".", "what.docx"))
    got = {
        row["url"].removeprefix("file:"): row["outcome"]
        for row in log(tmp_path / "again")
        if row["outcome"] != "bad_rows"
    }
    assert got["cut.jsonl.gz"] == got["cut.jsonl.zst"] == "truncated"
    assert got["cut.parquet"] == "damaged"
    assert got["column.parquet"] == "no_text_field"
    assert again["failed"] == metrics["failed"] - 3


def test_parquet_damaged_in_the_middle_gives_nothing(folder, tmp_path):
    pq.write_table(pa.table({"text": [f"{STORY} {n}" for n in range(3000)]}), folder / "a.parquet", row_group_size=500)
    data = bytearray((folder / "a.parquet").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = b"\xff" * 400
    (folder / "a.parquet").write_bytes(data)
    (folder / "b.txt").write_text(STORY)
    assert run(tmp_path / "work", source(folder, "."))["records"] == 1
    assert ("file:a.parquet", "damaged") in results(tmp_path / "work")


def test_charsets_of_files(folder, tmp_path):
    (folder / "latin.txt").write_bytes("Un été à la plage, déjà vu, garçon, forêt, à bientôt.".encode("cp1252"))
    (folder / "sixteen.txt").write_bytes("Ünïcödé in sixteen bits.".encode("utf-16"))
    (folder / "cookie.py").write_bytes("# -*- coding: koi8-r -*-\n# Привет\n".encode("koi8-r"))
    (folder / "broken.txt").write_bytes(b"good \xff\xfe\xfd\x81 \x8d\x8f\x90 bad")
    run(tmp_path / "work", source(folder, "."))
    rows = by_url(tmp_path / "work")
    assert rows["file:latin.txt"]["text"].startswith("Un été à la plage")
    assert rows["file:sixteen.txt"]["text"] == "Ünïcödé in sixteen bits."
    assert "Привет" in rows["file:cookie.py"]["text"]
    assert json.loads(rows["file:cookie.py"]["meta"])["charset"] == "koi8-r"
    assert "file:broken.txt" in rows


def test_which_files(folder, tmp_path):
    for name in ("b.txt", "a/x.txt", "a/deep/y.md", "a/.hidden.txt", "a/picture.png", "[odd] name.txt", "ünï.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(STORY)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "o.txt").write_text(STORY)

    def found(*paths):
        return [entry.locator.removeprefix("file:") for entry in find_files(source(folder, *paths))]

    assert found("a") == ["a/deep/y.md", "a/x.txt"]
    assert found("*.txt") == ["%5Bodd%5D%20name.txt", "%C3%BCn%C3%AF.txt", "b.txt"]
    assert found("**/*.txt", "b.txt", "./a/../b.txt") == [
        "%5Bodd%5D%20name.txt",
        "%C3%BCn%C3%AF.txt",
        "a/x.txt",
        "b.txt",
    ]
    assert found("[odd] name.txt") == ["%5Bodd%5D%20name.txt"]
    assert found("a/picture.png") == ["a/picture.png"]
    assert found("../outside/*.txt") == [str(outside / "o.txt")]
    assert found(str(outside)) == [str(outside / "o.txt")]


def test_symbolic_links_do_not_lead_out(folder, tmp_path):
    (tmp_path / "secret.txt").write_text("the secret")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "s.txt").write_text("more secrets")
    (folder / "real.txt").write_text(STORY)
    (folder / "inside.txt").symlink_to("real.txt")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "links").symlink_to(tmp_path / "secrets")
    (folder / "loop").symlink_to(folder)
    run(tmp_path / "work", source(folder, "**/*.txt", "link.txt", "links/s.txt"))
    assert [row["text"] for row in documents(tmp_path / "work")] == [STORY]
    refused = {url for url, outcome in results(tmp_path / "work") if outcome == "outside"}
    assert refused == {"file:link.txt", "file:links/s.txt"}


def test_no_file_and_no_text_are_errors(folder, tmp_path):
    with pytest.raises(RunError, match=r"no file matches \*\.txt, \*\.md"):
        run(tmp_path / "work", source(folder, "*.txt", "*.md"))
    (folder / "a.txt").write_text("  ")
    (folder / "b.jsonl").write_text("{}\n{}\n")
    with pytest.raises(RunError, match=r"no record in 2 files: 1 no_text, 1 short, 2 rows: no text"):
        run(tmp_path / "work", source(folder, "."))
    assert not (tmp_path / "work" / "out").exists()


def test_order_and_digests(folder, tmp_path):
    for number in range(30):
        (folder / f"{number * 7 % 30:02d}.jsonl").write_text(
            "\n".join(json.dumps({"text": f"{number} {row}"}) for row in range(12))
        )
    run(tmp_path / "1", source(folder, "."))
    run(tmp_path / "2", source(folder, "*.jsonl"))
    assert digests(tmp_path / "1" / "out") == digests(tmp_path / "2" / "out")
    urls = [row["url"] for row in documents(tmp_path / "1")]
    assert urls == sorted(urls, key=lambda url: (url.split("#")[0], int(url.split("#")[1])))


def test_many_rows_make_several_files(folder, tmp_path):
    (folder / "a.jsonl").write_text("\n".join(json.dumps({"text": f"text {row}"}) for row in range(12_001)))
    assert run(tmp_path / "work", source(folder, "a.jsonl"))["records"] == 12_001
    names = [name for name in digests(tmp_path / "work" / "out") if name.startswith("documents/")]
    assert names == ["documents/00000.parquet", "documents/00001.parquet", "documents/00002.parquet"]
    assert len(documents(tmp_path / "work")) == 12_001


def test_names_of_bad_texts_in_the_log(folder, tmp_path):
    """A row has a number, another text its name; what is wrong with a file that is one text is counted too."""
    context = "Anna built it."
    questions = [{"id": "q 1", "question": "Who?", "answers": [{"text": "Bert", "answer_start": 0}]}]
    data = {"data": [{"title": "T", "paragraphs": [{"context": context, "qas": questions}]}]}
    (folder / "a.json").write_text(json.dumps(data))
    params = QaSource(name="q", base=str(folder), paths=("a.json",))
    with pytest.raises(RunError, match="1 rows: a span that is not its answer") as error:
        run(tmp_path / "work", params)
    assert "text_field" not in error.value.mend
    questions.append({"id": "good", "question": "Who?", "answers": [{"text": "Anna", "answer_start": 0}]})
    (folder / "a.json").write_text(json.dumps(data))
    run(tmp_path / "again", params)
    assert results(tmp_path / "again")["file:a.json", "bad_rows"] == (
        "1 rows: a span that is not its answer; the first is q%201"
    )


def test_a_name_that_comes_twice_is_a_bad_row(folder, tmp_path, monkeypatch):
    """Whatever a reader does, two records never have one URL; our own readers all see to it themselves."""

    def names(member, _):
        for name in member.path.read_text().split():
            yield Item(int(name) if name.isdigit() else name, STORY + name, meta={"extractor": "names"})

    monkeypatch.setitem(FORMATS, ".names", names)
    (folder / "a.names").write_text("a b a 1 1 2")
    run(tmp_path / "work", source(folder, "a.names"))
    assert list(by_url(tmp_path / "work")) == [f"file:a.names#{name}" for name in ("a", "b", "1", "2")]
    assert results(tmp_path / "work")["file:a.names", "bad_rows"] == (
        "2 rows: a second text of this name; the first is a"
    )


TABLE = 'title,text,n\nOne,"Once there was, a mill\nby the river.",1\n\nTwo,"He said ""no"".",2\n'


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_rows_of_csv(folder, tmp_path, packing, charset):
    (folder / f"a.csv{packing}").write_bytes(
        pack(packing, TABLE.replace("no", "né").replace("\n", "\r\n").encode(charset))
    )
    run(tmp_path / "work", source(folder, "."))
    rows = by_url(tmp_path / "work")
    assert {url: (row["title"], row["text"]) for url, row in rows.items()} == {
        f"file:a.csv{packing}#2": ("One", "Once there was, a mill\nby the river."),
        f"file:a.csv{packing}#4": ("Two", 'He said "né".'),
    }


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_are_told_by_the_column(tmp_path, delimiter):
    data = f"n{delimiter}text\n1{delimiter}a, b, c, and d\n2{delimiter}e, f\n".encode()
    good, _ = read(source(tmp_path), "a.csv", data, tmp_path)
    assert [item.text for item in good] == ["a, b, c, and d", "e, f"]


def test_quotes_in_tsv(tmp_path):
    good, _ = read(source(tmp_path), "a.tsv", b'text\tn\n"Oh!" she said.\t1\n"open\t2\n', tmp_path)
    assert [item.text for item in good] == ['"Oh!" she said.', '"open']
    good, _ = read(source(tmp_path), "a.tsv", b'text\tn\n"two\nlines"\t1\n"a\tb"\t2\n', tmp_path)
    assert [item.text for item in good] == ["two\nlines", "a\tb"]


def test_bad_rows_of_csv(tmp_path):
    huge = "x" * 1_000_000
    data = f'n,text\n1,"a"b\n2,fine,or not\n3\n4,{huge}\n5,"{huge}\n6,lost\n'.encode()
    good, bad = read(source(tmp_path), "a.csv", data, tmp_path)
    assert [(item.part, len(item.text)) for item in good] == [(5, 1_000_000)]
    assert bad == {
        "a quote in the middle of a field": [2],
        "more fields than names": [3],
        "no text": [4],
        "a quote that is never closed": [6],
    }
    for head, told in (
        (b"id,body\n1,x\n", "there are id, body"),
        (b"", "there are none"),
        (b"a;b\n", "there are a, b"),
    ):
        with pytest.raises(Unreadable, match=f"no_text_field: no column text in the first row; {told}"):
            read(source(tmp_path), "a.csv", head, tmp_path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from(["csv", "tsv"]), junk=st.binary(max_size=300), text=st.text(max_size=100))
def test_any_bytes_as_a_table(tmp_path, suffix, junk, text):
    for data in (junk, b"text,title\n" + junk, b"text\ttitle\n" + text.encode("utf-8", "surrogatepass")):
        try_read(source(tmp_path), f"a.{suffix}", data, tmp_path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@damage
def test_a_damaged_table(tmp_path, at, junk, cut):
    try_read(source(tmp_path), "a.csv", broken(TABLE.encode(), at, junk, cut), tmp_path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=8))
def test_what_csv_writes_is_read(tmp_path, rows):
    out = io.StringIO()
    csv.writer(out).writerows([["text", "n"], *([row, "x"] for row in rows)])
    good, bad = read(source(tmp_path), "a.csv", out.getvalue().encode(), tmp_path)
    assert ([item.text for item in good], bad) == ([clean(row) for row in rows], {})
