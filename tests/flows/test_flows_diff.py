"""`collect-train diff`: what a source's newest edition added, changed and lost."""

import io

import pytest
from rich.console import Console

from flows.diff import show_diff
from lmcore.collect.params import CollectRuntime, FilesSource
from lmcore.collect.source import STAGE_VERSION, collect
from lmcore.progress import silent
from storage.digest import digest_json
from storage.errors import UserError
from storage.manifest import Provenance
from storage.store import Store


class Editions:
    """A folder of texts, collected again and again into a store."""

    def __init__(self, folder):
        self.texts, self.store, self.newest = folder / "texts", Store(folder / "store"), None
        self.texts.mkdir()
        self.count = 0

    def collect(self, name, **texts):
        for file, text in texts.items():
            path = self.texts / f"{file}.txt"
            path.unlink(missing_ok=True) if text is None else path.write_text(text)
        key = digest_json(name)[:24]
        params = FilesSource(name="stories", base=str(self.texts), paths=("*.txt",))
        metrics = collect(
            self.store.work("collect", key),
            edition=name,
            parent=self.newest and self.newest.local(),
            parent_digest=self.newest and self.newest.digest,
            locate=lambda digest: self.store.by_digest(digest, "collect").local(),
            params=params,
            runtime=CollectRuntime(),
            report=silent,
        )
        self.count += 1
        time = f"2026-01-02T03:{self.count:02d}:00+00:00"
        made = Provenance(
            params={"source": params.model_dump(mode="json"), "edition": name},
            stage_version=STAGE_VERSION, pure=False, inputs=[], metrics=metrics, started=time, finished=time,
            seconds=1.0, attempts=1, host="h", environment={}, code={}, run="r",
        )  # fmt: skip
        self.newest = self.store.publish("collect", key, self.store.work("collect", key) / "out", made)


@pytest.fixture
def editions(tmp_path):
    made = Editions(tmp_path)
    made.collect("one", a="first", b="second", c="third")
    made.collect("two", b="second, mended", c=None, d="fourth", e="fifth")
    made.collect("three", e=None)
    return made


def diff(editions, *, edition="", against="", limit=20):
    out = io.StringIO()
    show_diff(editions.store, "stories", Console(file=out, width=100), edition=edition, against=against, limit=limit)
    lines = out.getvalue().splitlines()
    counts = [int(cell) for cell in lines[4].replace("│", " ").split()]
    return lines[0], counts, [line for line in lines if line[:2] in ("+ ", "~ ", "- ")]


def test_the_newest_edition_against_the_one_before(editions):
    title, counts, lines = diff(editions)
    assert title == "stories: three against two"
    assert counts == [0, 0, 1, 3]
    assert lines == ["- file:e.txt  (not found any more)"]


def test_addresses_are_masked(editions):
    editions.collect("four", **{"jane.roe@firm-of-hers.com": "sixth"})
    _, counts, lines = diff(editions)
    assert (counts[0], lines) == (1, ["+ file:<email>.txt"])


def test_two_editions_by_name(editions):
    title, counts, lines = diff(editions, edition="two", against="one")
    assert title == "stories: two against one"
    assert counts == [2, 1, 1, 1]
    assert lines == ["+ file:d.txt", "+ file:e.txt", "~ file:b.txt", "- file:c.txt"]
    assert diff(editions, edition="three", against="one")[1] == [1, 1, 1, 1]
    assert diff(editions, edition="two", limit=1)[2][:2] == ["+ file:d.txt", "+ 1 more: --limit 2"]


def test_the_first_edition_has_only_new_texts(editions):
    title, counts, lines = diff(editions, edition="one")
    assert title == "stories: one against nothing"
    assert counts == [3, 0, 0, 0]
    assert lines == ["+ file:a.txt", "+ file:b.txt", "+ file:c.txt"]


def test_unknown_names_are_answered_with_those_there_are(editions):
    with pytest.raises(UserError, match="no source 'other'") as caught:
        show_diff(editions.store, "other", Console(), edition="", against="", limit=1)
    assert caught.value.mend == "there are: stories"
    with pytest.raises(UserError, match="no edition 'four'") as caught:
        diff(editions, edition="four")
    assert caught.value.mend == "there are: one, two, three"
