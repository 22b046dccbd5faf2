"""The samples that come with the program: what their table says holds, and nothing else is there."""

import importlib.util
import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from helpers_collect import run

from lmcore.collect.book import FRONT
from lmcore.collect.kinds import NAMES
from lmcore.collect.packages.sets import BY_NAME
from lmcore.collect.packages.writing import read, write
from lmcore.curate.privacy import PrivacyParams, mask
from lmcore.samples import FOLDER, TABLE, listed, table
from storage.digest import digest_file
from storage.parquet import read_parquet

ROOT = Path(__file__).parents[2]
ROWS = listed(FOLDER)
MOST = 8_000_000  # bytes of all files together
ALLOWED = {
    "LicenseRef-Public-Domain", "CC-BY-2.0", "CC-BY-2.5", "CC-BY-SA-3.0", "PSF-2.0", "MIT", "BSD-3-Clause", "MPL-2.0",
}  # fmt: skip
LICENCE_TEXTS = {
    "MIT": "MIT.chat-en",
    "BSD-3-Clause": "BSD-3-Clause.chromium",
    "MPL-2.0": "MPL-2.0",
    "PSF-2.0": "PSF-2.0",
}
GEEZ = re.compile("[\u1200-\u139f\u2d80-\u2ddf]")


@pytest.fixture(scope="module")
def tool():
    """tools/samples.py as a module."""
    spec = importlib.util.spec_from_file_location("samples_tool", ROOT / "tools" / "samples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def texts(name):
    """Every string of a sample."""
    found = []

    def walk(value):
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, (dict, list)):
            for inner in value.values() if isinstance(value, dict) else value:
                walk(inner)

    for row in read(FOLDER / ROWS[name].file):
        walk(row)
    return found


def test_the_files_are_those_of_the_table():
    there = {path.name for path in FOLDER.iterdir() if path.suffix == ".xz"}
    assert there == {row.file for row in ROWS.values()}
    for row in ROWS.values():
        path = FOLDER / row.file
        assert (digest_file(path), path.stat().st_size) == (row.sha256, row.packed), row.name
    assert (FOLDER / TABLE).read_text(encoding="utf-8") == table(ROWS.values())
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= MOST


def test_every_licence_lets_it_be_passed_on():
    assert {row.licence for row in ROWS.values()} <= ALLOWED
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for row in ROWS.values():
        assert row.licence_source, row.name
        assert BY_NAME[row.name].attribution in page, row.name
        if row.licence in LICENCE_TEXTS:
            text = (FOLDER / "licences" / f"{LICENCE_TEXTS[row.licence]}.txt").read_text(encoding="utf-8")
            assert len(text) > 1_000, row.licence


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_sample_reads_through_its_kind_of_source(tmp_path, name):
    row = ROWS[name]
    params = NAMES[row.reads](name="sample", base=str(FOLDER), paths=(row.file,), **row.settings())
    counts = run(tmp_path, params)
    assert (counts["records"], counts["bytes"]) == (row.records, row.bytes)
    assert counts["failed"] == 0
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert set(stats["bad_rows"]) <= {FRONT}, "title pages of books are no chapters"
    documents = read_parquet(tmp_path / "out" / "documents" / "00000.parquet")
    assert set(documents["license"].to_pylist()) == {row.licence}
    assert set(documents["kind"].to_pylist()) == {row.kind}
    assert stats["unique"] == row.records or row.reads == "parallel", "a text stands there once"


@pytest.mark.parametrize("name", sorted(ROWS))
def test_no_personal_data_is_left(name):
    given = texts(name)
    masked = mask(given, PrivacyParams()).texts
    assert [(a, b) for a, b in zip(given, masked, strict=True) if a != b][:3] == []


def test_there_is_enough_for_every_system():
    assert ROWS["wikipedia-en"].bytes >= 1_000_000
    assert len(list(read(FOLDER / ROWS["pairs-en-hu"].file))) >= 5_000
    assert ROWS["qa-python"].records >= 300
    letters = {name: sum(len(GEEZ.findall(text)) for text in texts(name)) for name in ("office-am", "browser-am")}
    assert 3 * sum(letters.values()) >= 1_000_000, "each is three bytes of UTF-8"
    assert sum(ROWS[name].bytes for name in letters) >= 1_500_000
    japanese = "".join(texts("sentences-ja"))
    assert len(re.findall("[\u3040-\u30ff]", japanese)) > 100_000
    assert len(re.findall("[\u4e00-\u9fff]", japanese)) > 50_000


def test_the_pages_say_what_the_table_says(tool):
    rows = list(ROWS.values())
    page = (ROOT / "docs" / "samples.md").read_text(encoding="utf-8")
    assert f"{tool.BEGIN}\n{tool.docs_table(rows)}\n{tool.END}" in page, "run `python tools/samples.py --docs`"
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == tool.readme(rows)


def test_the_samples_are_part_of_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = [*settings["package-data"]["*"], *settings["package-data"]["lmcore.samples"]]
    for path in FOLDER.rglob("*"):
        name = path.relative_to(FOLDER).as_posix()
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            assert any(fnmatch(name, pattern) for pattern in patterns), name


def test_samples_are_rebuilt_alike_from_fetched_sets(tool, tmp_path):
    """From the samples themselves, as a small folder of sets: what is picked depends on nothing but the rows."""
    small = ("declaration-am", "subtitles-ja", "qa-python", "office-am")
    data = tmp_path / "data"
    data.mkdir()
    for name in small:
        write(data / ROWS[name].file, reversed(list(read(FOLDER / ROWS[name].file))), 0)
    (data / TABLE).write_text(table(ROWS[name] for name in small), encoding="utf-8")
    for target in ("one", "two"):
        (tmp_path / target).mkdir()
        tool.rebuild(data, tmp_path / target)
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    for name in small:
        picked = read(tmp_path / "one" / ROWS[name].file)
        assert sorted(map(str, picked)) == sorted(map(str, read(FOLDER / ROWS[name].file))), name


def test_a_sample_is_no_larger_than_asked_and_keeps_questions_of_a_paragraph_together(tool):
    rows = [{"text": f"{number:05d}" * 10} for number in range(100)]
    each = BY_NAME["declaration-am"]
    few = tool.pick(each.__class__(**{**vars(each), "sample": 2_500}), rows)
    assert 20 < len(few) < 100 / 2
    assert few == sorted(few, key=lambda row: row["text"])
    asked = [{"context": str(number // 2) * 9, "question": str(number)} for number in range(200)]
    picked = tool.pick(each.__class__(**{**vars(each), "sample": 4_000}), asked)
    assert all(sum(other["context"] == row["context"] for other in picked) == 2 for row in picked)
