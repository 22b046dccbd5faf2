"""`samples:NAME` in a recipe: what comes with the program, or what was fetched, and never silently."""

import shutil
from pathlib import Path

import pytest

from lmcore.curate.licences import LicencesParams, allowed
from lmcore.recipe import load_recipe
from lmcore.samples import FOLDER, TABLE, VARIABLE, Listed, listed, readings, table
from storage.errors import UserError

CHAT = {"name": "talk", "kind": "chat", "paths": ["samples:chat-en"]}
PAIRS = {
    "name": "pairs",
    "kind": "parallel",
    "paths": ["samples:pairs-en-hu"],
    "source_lang": "en",
    "target_lang": "hu",
}


@pytest.fixture
def load(write):
    def make(*sources):
        return load_recipe(write("r.yaml", {"name": "r", "sources": list(sources), "train": {"steps": 1}}))

    return make


def fetched(folder, *names):
    """A folder as `collect-train data` leaves it, with the samples for sets."""
    folder.mkdir()
    rows = [Listed(**{**vars(listed(FOLDER)[name]), "records": 123_456}) for name in names]
    for row in rows:
        shutil.copy(FOLDER / row.file, folder)
    (folder / TABLE).write_text(table(rows), encoding="utf-8")
    return folder


def test_a_sample_is_its_file_with_its_licence_and_language(load):
    source = load(CHAT).sources[0]
    assert (source.base, source.paths) == (str(FOLDER), ("chat-en.jsonl.xz",))
    assert (source.license, source.lang) == ("MIT", "en")
    assert load({**CHAT, "license": "CC0-1.0", "lang": "de"}).sources[0].license == "CC0-1.0"
    assert load(PAIRS).sources[0].lang == "und", "a pair has two"


def test_what_was_fetched_is_read_instead_and_said(load, tmp_path, monkeypatch):
    plain = load(CHAT, PAIRS)
    monkeypatch.setenv(VARIABLE, str(fetched(tmp_path / "data", "chat-en")))
    recipe = load(CHAT, PAIRS)
    talk, pairs = readings(recipe.sources)
    assert talk.startswith(f"source talk reads chat-en as fetched into {tmp_path / 'data'} (123,456 records")
    assert pairs.startswith("source pairs reads the sample pairs-en-hu (")
    assert "`collect-train data` fetches more" in pairs
    assert recipe.sources[0].key_values() != plain.sources[0].key_values(), "another source, another key"
    assert recipe.sources[1].key_values() == plain.sources[1].key_values()


def test_data_beside_one_is_found_without_being_named(load, tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE)
    monkeypatch.chdir(tmp_path)
    assert load(CHAT).sources[0].base == str(FOLDER)
    fetched(tmp_path / "data", "chat-en")
    assert load(CHAT).sources[0].base == str(tmp_path / "data")
    monkeypatch.setenv(VARIABLE, "none")
    assert load(CHAT).sources[0].base == str(FOLDER)


def test_samples_of_one_source_come_from_one_folder(load, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(fetched(tmp_path / "data", "office-am")))
    both = {"name": "am", "kind": "files", "paths": ["samples:office-am", "samples:browser-am"]}
    recipe = load(both)
    assert recipe.sources[0].base == str(FOLDER)
    assert recipe.sources[0].license == "unknown", "of two licences none is the source's"
    assert recipe.sources[0].lang == "am"
    assert len(list(readings(recipe.sources))) == 2


@pytest.mark.parametrize(
    ("change", "what", "mend"),
    [
        ({"paths": ["samples:chat-eng"]}, "source talk: there is no sample 'chat-eng'", "did you mean chat-en?"),
        ({"paths": ["samples:chat-en", "mine.jsonl"]}, "samples and other files", "two sources"),
        ({"base": "."}, "samples and other files", "no `base`"),
    ],
)
def test_mistakes_are_told(load, change, what, mend):
    with pytest.raises(UserError) as error:
        load({**CHAT, **change})
    assert what in error.value.what
    assert mend in error.value.mend


def test_a_folder_without_a_table_or_with_another_is_told(load, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(UserError, match=r"there is no SOURCES\.tsv in it"):
        load(CHAT)
    (tmp_path / TABLE).write_text("what\twhere\n", encoding="utf-8")
    with pytest.raises(UserError, match="is no table of samples"):
        load(CHAT)


def test_a_set_that_is_gone_is_told(load, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(fetched(tmp_path / "data", "chat-en")))
    Path(tmp_path / "data" / "chat-en.jsonl.xz").unlink()
    with pytest.raises(UserError, match="is gone"):
        load(CHAT)


def test_other_sources_are_left_alone(load, tmp_path):
    recipe = load({"name": "mine", "kind": "files", "paths": ["a.txt"]})
    assert recipe.sources[0].base == str(tmp_path)
    assert list(readings(recipe.sources)) == []


def test_other_kinds_of_sources_read_none():
    assert list(readings(load_recipe("quickstart").sources)) == []


def test_a_licence_that_asks_for_its_text_has_it_beside_the_samples():
    """docs/samples.md: what BSD, MIT, MPL and PSF ask for, and what an allow-list without them leaves."""
    rows, texts = listed(FOLDER), {path.name: path.read_text("utf-8") for path in (FOLDER / "licences").iterdir()}
    page = (FOLDER / "README.md").read_text("utf-8")
    says = {"BSD-3-Clause": "Redistribution", "MIT": "Permission", "MPL-2.0": "Mozilla Public", "PSF-2.0": "PYTHON"}
    free = ("LicenseRef-Public-Domain", "CC-*", "PSF-*")
    passed = allowed([row.licence for row in rows.values()], LicencesParams(allow=free))
    kept = {name for name, passes in zip(rows, passed, strict=True) if passes}
    assert len(rows) == 17
    assert rows.keys() - kept == {
        "browser-am", "chat-en", "help-hu", "office-am", "pairs-en-am", "pairs-en-hu",
    }  # fmt: skip
    for name in rows:
        section = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        assert rows[name].licence in section
        if rows[name].licence in says:
            (text,) = (text for file, text in texts.items() if file.startswith(rows[name].licence))
            assert says[rows[name].licence] in text
            assert "opyright" in section or "(c)" in section
        if rows[name].licence == "MPL-2.0":
            assert "the source form is" in section
    amharic = [rows[name] for name in kept if "am" in rows[name].languages.split()]
    assert sum(row.bytes for row in amharic) < 25_000
    assert not [name for name in kept if "hu" in rows[name].languages.split() or rows[name].kind == "chat"]
