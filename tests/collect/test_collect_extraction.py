"""How well the main text of real pages is taken, against marks made by hand: floors under the measured figures.

`pytest -s` prints the table; `python benchmarks/extraction.py` compares other extractors as well.
"""

import re
import subprocess
import sys
from collections import Counter

import pytest
from helpers_extraction import OURS, PAGES, groups, marked_pages, means, measure, table

from lmcore.collect.extract import read_page
from lmcore.collect.score import score

TOOL = PAGES.parents[2] / "tools" / "mark_page.py"
# Mean F1, precision and recall over the pages, and mean F1 by language: as measured, less 0.01. A change that goes
# under one is a worse extractor; one that lifts a figure lifts its floor too (benchmarks/extraction.py --floors).
FLOORS = {
    "trafilatura": ((0.982, 0.983, 0.982), {"am": 0.966, "en": 0.984, "hu": 0.982, "ja": 0.988}),
    "bulk": ((0.961, 0.945, 0.982), {"am": 0.902, "en": 0.978, "hu": 0.943, "ja": 0.969}),
    "preset": ((0.982, 0.988, 0.977), {"am": 0.945, "en": 0.989, "hu": 0.954, "ja": 0.990}),
}


@pytest.fixture(scope="module")
def measured():
    scores = {name: measure(extractor) for name, extractor in OURS.items()}
    print(f"\n{table(scores)}")
    return scores


@pytest.mark.parametrize("name", FLOORS)
def test_no_extractor_is_under_its_floors(measured, name):
    floors, by_language = FLOORS[name]
    for what, figure, floor in zip(("F1", "precision", "recall"), means(measured[name].values()), floors, strict=True):
        assert figure >= floor, f"mean {what} of {name} is {figure:.3f}, floor {floor}"
    found = groups(measured[name], "lang")
    assert found.keys() == by_language.keys()
    for lang, floor in by_language.items():
        figure = means(found[lang])[0]
        assert figure >= floor, f"mean F1 of {name} in {lang} is {figure:.3f}, floor {floor}"


def test_each_page_is_read_by_the_extractor_that_is_measured():
    for page in marked_pages():
        assert read_page(page.html, page.url, "text/html").extractor == "trafilatura", page.name
        assert read_page(page.html, page.url, "text/html", extractor="bulk").extractor == "bulk", page.name
        if page.preset:
            read = read_page(page.html, page.url, "text/html", preset=page.preset)
            assert read.extractor == f"preset:{page.preset.name}", page.name


def test_the_set_is_what_it_is_said_to_be():
    pages = marked_pages()
    assert len({page.name for page in pages}) == len(pages) >= 64
    assert len({page.layout for page in pages}) >= 12
    languages = Counter(page.lang for page in pages)
    assert languages["hu"] >= 10
    assert languages["ja"] >= 12
    assert languages["am"] >= 8
    assert {page.second_reader for page in pages} == {"agreed", "corrected"}  # no page read by one reader only
    assert {path.name for path in PAGES.glob("*.html.gz")} == {f"{page.name}.html.gz" for page in pages}
    assert sum(path.stat().st_size for path in PAGES.glob("*.html.gz")) < 600_000
    sources = (PAGES.parent / "LICENSES.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([\w-]+)\*?`", sources, re.MULTILINE)
    assert not [page.name for page in pages if not page.name.startswith(tuple(listed))]


def test_the_marks_are_the_blocks_that_the_index_names():
    done = subprocess.run([sys.executable, TOOL, "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_measured_is_right():
    for page in marked_pages():
        assert score(page.text, page.text).f1 == 1.0
        assert score("", page.text).f1 == 0.0
        half = score(page.text + page.text, page.text)  # every token twice: half of them too many
        assert (half.precision, half.recall) == (0.5, 1.0)
    # By hand: 3 of 4 found tokens are marked, 3 of 6 marked tokens are found; F1 = 2 * 0.75 * 0.5 / 1.25.
    found = score("Home the old man", "The old man and the sea")
    assert (found.precision, found.recall) == (0.75, 0.5)
    assert found.f1 == pytest.approx(0.6)
    # Japanese: the pairs 東京 京都 against 京都 都市: one of two each way.
    assert score("東京都", "京都市").f1 == pytest.approx(0.5)
    # Words parted by U+1361, as old Amharic print has it, are words: two of three.
    assert score("ሰው፡ልጅ፡ሁሉ", "ሰው ልጅ").precision == pytest.approx(2 / 3)
