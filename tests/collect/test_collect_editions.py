"""A second edition holds what is new and refers to the rest, however long the chain."""

import json

import pytest
from frozen_site import FrozenSite, Reply
from helpers_collect import FilesSource, digests, nowhere, run, web

from lmcore.collect.changes import compare, names_of
from lmcore.collect.editions import MAX_DEPTH, load_edition, read_edition
from lmcore.documents import read_documents
from storage.digest import digest_json
from storage.errors import RunError
from storage.parquet import read_parquet, write_parquet


class Chain:
    """Editions of a folder of files, made one after the other."""

    def __init__(self, tmp_path):
        self.base, self.tmp_path = tmp_path / "texts", tmp_path
        self.base.mkdir()
        self.folders, self.digest = {}, None

    def write(self, **texts):
        for name, text in texts.items():
            (self.base / f"{name}.txt").write_text(text)

    def locate(self, digest):
        return self.folders[digest]

    def edition(self):
        number = len(self.folders)
        work = self.tmp_path / f"work{number}"
        params = FilesSource(name="files", base=str(self.base), paths=("*.txt",))
        parent = self.folders[self.digest] if self.digest else None
        self.metrics = run(
            work, params, edition=f"e{number}", parent=parent, parent_digest=self.digest, locate=self.locate
        )
        self.digest = digest_json(digests(work / "out"))
        self.folders[self.digest] = work / "out"
        return work / "out"

    def load(self, folder):
        return {row["url"]: row for row in load_edition(folder, self.locate).to_pylist()}


@pytest.fixture
def chain(tmp_path):
    return Chain(tmp_path)


def own_rows(folder):
    return [row["url"] for row in read_documents(folder / "documents" / "00000.parquet").to_pylist()]


def test_only_what_is_new_is_written(chain):
    chain.write(a="one", b="two")
    first = chain.edition()
    chain.write(b="two, changed", c="three")
    second = chain.edition()
    (chain.base / "a.txt").unlink()
    third = chain.edition()
    assert (chain.metrics["records"], chain.metrics["new"], chain.metrics["unchanged"]) == (2, 0, 2)

    assert own_rows(first) == ["file:a.txt", "file:b.txt"]
    assert own_rows(second) == ["file:b.txt", "file:c.txt"]
    assert own_rows(third) == []
    assert {url: (row["text"], row["edition"]) for url, row in chain.load(second).items()} == {
        "file:a.txt": ("one", "e0"),
        "file:b.txt": ("two, changed", "e1"),
        "file:c.txt": ("three", "e1"),
    }
    assert set(chain.load(third)) == {"file:b.txt", "file:c.txt"}
    assert read_edition(third)["depth"] == 2
    assert json.loads((second / "stats.json").read_text())["unchanged"] == 1


def removed(folder):
    return {row["url"]: row["reason"] for row in read_parquet(folder / "removed.parquet").to_pylist()}


def test_what_is_gone_is_recorded_with_its_reason(chain):
    chain.write(a="one", b="two", c="three", d="four")
    first = chain.edition()
    assert removed(first) == {}
    chain.write(b="two, changed", c="", e="five")
    (chain.base / "a.txt").unlink()
    second = chain.edition()
    assert removed(second) == {"file:a.txt": "not found any more", "file:c.txt": "short: too little text"}
    assert {name: chain.metrics[name] for name in ("new", "changed", "removed", "unchanged")} == {
        "new": 2,
        "changed": 1,
        "removed": 2,
        "unchanged": 1,
    }
    (chain.base / "b.txt").unlink()
    third = chain.edition()
    assert removed(third) == {"file:b.txt": "not found any more"}, "one edition tells only of its own parent"
    old, new = (names_of(folder, chain.locate) for folder in (first, third))
    changes = compare(old, new)
    assert (changes.added, changes.changed) == (["file:e.txt"], [])
    assert (changes.removed, changes.unchanged) == (["file:a.txt", "file:b.txt", "file:c.txt"], 1)


def test_references_name_the_artifact_that_holds_the_row(chain):
    chain.write(a="one")
    chain.edition()
    first = chain.digest
    for number in range(3):
        chain.write(**{f"x{number}": f"text {number}"})
        folder = chain.edition()
    rows = {row["record_id"]: row for row in read_parquet(folder / "references.parquet").to_pylist()}
    row = rows[chain.load(folder)["file:a.txt"]["record_id"]]
    assert (row["artifact_digest"], row["file"]) == (first, "documents/00000.parquet")
    assert list(rows) == sorted(rows)


def test_long_chains_are_compacted(chain):
    chain.write(a="one")
    for number in range(MAX_DEPTH + 2):
        chain.write(**{f"x{number:02d}": f"text {number}"})
        folder = chain.edition()
        depth = read_edition(folder)["depth"]
        assert depth == number % MAX_DEPTH
        if number == MAX_DEPTH:
            assert read_parquet(folder / "references.parquet").num_rows == 0
            assert read_edition(folder)["parent"] is not None
            rows = {row["url"]: row for row in load_edition(folder, nowhere).to_pylist()}
            assert len(rows) == MAX_DEPTH + 2
            # Copied as they were, also the name of the edition that first had them.
            assert rows["file:a.txt"]["edition"] == "e0"
            assert rows["file:x07.txt"]["edition"] == "e7"
    assert len(chain.load(folder)) == MAX_DEPTH + 3


def test_edition_of_a_site(tmp_path):
    text = "<p>" + "A page of the site with quite enough words. " * 9 + "</p>"
    links = '<a href="/a">a</a><a href="/b">b</a>'
    with FrozenSite(pages={"/": Reply(body=text + links), "/a": Reply(body=text), "/b": Reply(body=text)}) as site:
        run(tmp_path / "1", web(site), edition="one")
        first = tmp_path / "1" / "out"
        site.replies["/a"] = [Reply(body=text + "<p>Changed since.</p>")]
        metrics = run(
            tmp_path / "2", web(site), edition="two", parent=first, parent_digest="d1", locate=lambda digest: first
        )
        assert (metrics["records"], metrics["new"], metrics["changed"]) == (3, 1, 1)
        site.replies["/b"] = [Reply(404)]
        run(tmp_path / "3", web(site), edition="three", parent=first, parent_digest="d1", locate=lambda digest: first)
        assert removed(tmp_path / "3" / "out") == {site.url + "/b": "http_error: status 404"}
    loaded = load_edition(tmp_path / "2" / "out", {"d1": first}.__getitem__)
    assert sorted(loaded["edition"].to_pylist()) == ["one", "one", "two"]


def test_broken_references_are_named(chain, tmp_path):
    chain.write(a="one", b="two")
    first = chain.edition()
    chain.write(c="three")
    second = chain.edition()
    kept = read_documents(first / "documents" / "00000.parquet")
    write_parquet(first / "documents" / "00000.parquet", kept.slice(0, 1))
    with pytest.raises(RunError, match="refers to 2 records"):
        chain.load(second)
    (first / "documents" / "00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match="cannot read the Parquet file"):
        chain.load(second)
    table = read_parquet(second / "references.parquet")
    outside = table.set_column(2, table.schema.field(2), [["../../x.parquet"] * table.num_rows])
    write_parquet(second / "references.parquet", outside)
    with pytest.raises(RunError, match="leads out of"):
        chain.load(second)
    (second / "edition.json").write_text("{")
    with pytest.raises(RunError, match=r"edition\.json"):
        read_edition(second)
