"""What all kinds of sources that read files have in common: the same bytes again, archives, editions, quick recipes."""

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers_collect import digests, documents, run
from pydantic import TypeAdapter

from lmcore.collect.kinds import KINDS, NAMES, SourceParams, reader
from lmcore.collect.params import PathsSource
from lmcore.strict_yaml import load_yaml

CONTEXT = "The mill stands by the river. Anna built it in 1889."
QUESTION = {"id": "q", "question": "Who?", "answers": [{"text": "Anna", "answer_start": CONTEXT.index("Anna")}]}
SQUAD = {"data": [{"title": "T", "paragraphs": [{"context": CONTEXT, "qas": [QUESTION]}]}]}
SAMPLES = {
    "files": ({"a.txt": CONTEXT}, {}),
    "qa": ({"a.json": json.dumps(SQUAD)}, {}),
    "chat": ({"a.jsonl": json.dumps({"prompt": "Who?", "completion": "Anna."}) + "\n{broken\n"}, {}),
    "subtitles": ({"a.srt": f"1\n00:00:01,000 --> 00:00:02,000\n{CONTEXT}\n"}, {}),
    "parallel": ({"a.en": "one\ntwo\n", "a.hu": "egy\nkettő\n"}, {"source_lang": "en", "target_lang": "hu"}),
    "books": ({"a.txt": f"CHAPTER I\n\n{CONTEXT * 3}\n\nCHAPTER II\n\n{CONTEXT * 4}"}, {}),
}


def test_every_kind_that_reads_files_has_a_sample():
    assert set(SAMPLES) == {kind.model_fields["kind"].default for kind in KINDS if issubclass(kind, PathsSource)}


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_same_again_alone_and_packed(tmp_path, kind):
    files, params = SAMPLES[kind]
    folder = tmp_path / "recipe"
    folder.mkdir()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            (folder / name).write_text(text)
            archive.writestr(name, text)
    source = NAMES[kind](name="sample", base=str(folder), paths=(".",), **params)
    run(tmp_path / "1", source)
    run(tmp_path / "2", source)
    assert digests(tmp_path / "1" / "out") == digests(tmp_path / "2" / "out")
    alone = documents(tmp_path / "1")
    metrics = run(tmp_path / "next", source, edition="second", parent=tmp_path / "1" / "out", parent_digest="1" * 64,
                  locate=lambda _: tmp_path / "1" / "out")  # fmt: skip
    assert (metrics["new"], metrics["unchanged"]) == (0, len(alone))
    for name in files:
        (folder / name).unlink()
    (folder / "all.zip").write_bytes(packed.getvalue())
    run(tmp_path / "packed", source)
    assert [row["text"] for row in documents(tmp_path / "packed")] == [row["text"] for row in alone]
    assert [row["turns"] for row in documents(tmp_path / "packed")] == [row["turns"] for row in alone]
    assert all(row["url"].startswith("file:all.zip#a.") for row in documents(tmp_path / "packed"))


PAGES = sorted((Path(__file__).resolve().parents[2] / "docs" / "sources").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_recipes_of_the_docs_load(page):
    snippets = re.findall(r"^```yaml\n(- kind:.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert snippets
    for snippet in snippets:
        (source,) = load_yaml(snippet, page.name)
        assert source["kind"] in NAMES
        assert TypeAdapter(SourceParams).validate_python(source)


def test_what_reads_a_file_is_found_by_its_longest_suffix():
    source = NAMES["parallel"](name="x", paths=(".",), source_lang="en", target_lang="hu")
    assert reader(source, "A.EN-hu.HU.gz") is reader(source, "b.hu")
    assert reader(source, "b.po") is not reader(source, "b.mo")
    assert reader(source, "b.hun") is None


def test_a_recipe_with_every_kind_loads_no_library_of_theirs():
    heavy = ["pysubs2", "polib", "babel", "defusedxml", "trafilatura", "torch", "lmcore.tokens.roles"]
    code = f"import sys, lmcore.collect.kinds; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
