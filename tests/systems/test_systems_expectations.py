"""What recipes say a document says: small ones keep its figures, and every line that is named has its words there."""

from __future__ import annotations

import csv
import re
from collections import Counter

import pytest
from helpers_flows import ROOT
from helpers_systems import DOCS

from lmcore.recipe import load_recipe, packaged_recipes

CLAIMED = [name for name in packaged_recipes() if load_recipe(name).expect]
SMALL = [name for name in CLAIMED if name.endswith("-small")]
OURS = "ours: "
SYSTEMS = {"soma": "SOMA", "lai": "LAi", "cllm": "CLLM", "mu": "MU-SOTA", "amharic": "Amharic"}  # headings of the pages
DOCUMENTS = ROOT.parent / "shared" / "systems" / "documents"
NUMBERS = r"\d+(?:(?:, | and | to |-)\d+)*"


def system(recipe):
    """The system that a recipe is of."""
    return recipe.split("-")[0]


def numbers(text):
    """The lines that are named in a cell or after the word line: of "38 to 43" the first and the last."""
    return tuple(int(number) for number in re.findall(r"\d+", text))


def named(text):
    """The lines of a text that names some: "line 5: 10K+", "lines 115 and 128; ln 8000"."""
    return tuple(line for found in re.findall(rf"\blines? ({NUMBERS})", text) for line in numbers(found))


def claim(row):
    """What makes two rows the same claim of a document."""
    return row.metric, str(row.at), row.range, named(row.source)


def quotes():
    """The words of each line that is named anywhere: (system, line) -> words."""
    with (ROOT / "tests/systems/lines.tsv").open(encoding="utf-8", newline="") as file:
        heading, *table = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    assert heading == ["system", "line", "words"]
    twice = [place for place, times in Counter((name, line) for name, line, _ in table).items() if times > 1]
    assert not twice
    return {(name, int(line)): words for name, line, words in table}


def promised_lines(heading):
    """The lines that a system's table in docs/claims.md names, beside the promises and in the reasons."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", CLAIMS, re.DOTALL | re.MULTILINE)
    rows = [re.split(r"(?<!\\)\|", line) for line in section.splitlines() if line.startswith("|")][2:]
    return {(row[1].strip(), line) for row in rows for line in (*numbers(row[2]), *named(row[4]))}


CLAIMS = (DOCS / "claims.md").read_text(encoding="utf-8")


def test_every_claim_says_whose_it_is():
    for name in CLAIMED:
        for row in load_recipe(name).expect:
            told = re.match(
                rf"lines? {NUMBERS}\b|{OURS}\w|its (program|log)\b|train\.py: |gate of train_\w+\.py: ", row.source
            )
            assert told, f"{name}: {row.metric}: {row.source}"


@pytest.mark.parametrize("name", SMALL)
def test_a_small_recipe_keeps_every_claim_of_the_document_as_it_is(name):
    """Its own figures stand beside them as ours, and what its size makes incomparable is so told, with the reason."""
    parent, child = load_recipe(name.removesuffix("-small")).expect, load_recipe(name).expect
    documents = Counter(claim(row) for row in parent if not row.source.startswith(OURS))
    assert Counter(claim(row) for row in child if not row.source.startswith(OURS)) == documents
    unheld = {claim(row) for row in parent if not row.compare}
    for row in child:
        if claim(row) in unheld:
            assert row.reason, f"{row.metric}: incomparable at full size, so also at a small one"


def test_the_quotes_are_short():
    for place, words in quotes().items():
        assert place[0] in SYSTEMS
        assert 0 < len(words.split()) < 8, place
        assert words == words.strip(), place


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_line_that_is_named_has_its_words_in_the_list(name):
    listed = {line for of, line in quotes() if of == name}
    for recipe in CLAIMED:
        if system(recipe) == name:
            for row in load_recipe(recipe).expect:
                for text in (row.source, row.note, row.reason):
                    assert set(named(text)) <= listed, f"{recipe}: {text}"
    promised = promised_lines(SYSTEMS[name])
    assert len(promised) > 30
    for promise, line in promised:
        assert line in listed, f"docs/claims.md: {promise}: {line}"
    if name == "soma":  # whose claims are the examples of the page
        page = (DOCS / "expectations.md").read_text(encoding="utf-8")
        assert {53, 54} < set(named(page)) <= listed


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_line_has_its_words_in_the_document(name):
    path = DOCUMENTS / f"{name}.md"
    if not path.is_file():
        pytest.skip(f"the documents are not part of the repository: {path} is not there")
    lines = path.read_text(encoding="utf-8").split("\n")
    for (of, line), words in quotes().items():
        if of == name:
            assert 1 <= line <= len(lines), line
            assert words in lines[line - 1], f"{name}, line {line}: {words!r} is not in {lines[line - 1]!r}"


def test_a_line_that_moved_is_noticed():
    assert named("line 5: 10K+ target") == (5,)
    assert named("lines 41, 182 and 231; its own generator: 0.503") == (41, 182, 231)
    assert named("ours: ln 30,000 is 10.31, of the tokens of line 17") == (17,)
    assert named("lines 63 to 67: 768 wide") == (63, 67)
