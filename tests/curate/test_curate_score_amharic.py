"""The original Amharic formulas give what their own code gives."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.curate.measured import measure
from lmcore.curate.names import AMHARIC
from lmcore.curate.params import MeasureParams
from lmcore.curate.score import scores
from lmcore.curate.score_amharic import LEVELS, levels
from lmcore.curate.signals_ethiopic import ethiopic_counts
from lmcore.documents import DOCUMENT, make_table

RIGHTS = "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው። የተፈጥሮ ማስተዋልና ሕሊና ስላለው አንዱ ሌላውን በወንድማማችነት መንፈስ መመልከት ይገባዋል።"

# What the functions assess_quality, calculate_text_quality and calculate_complexity of the repository
# Yosef-Ali/amharic-llm-finetuning return, run once by hand.
ORIGINAL = [
    (RIGHTS, (100.0, 90.0, 46.3)),
    ((RIGHTS + "\n") * 60, (89.53, 89.7, 80.33)),
    ("ሰላም", (40.0, 0.0, 0.0)),
    ("ሰላም ሰሙ", (40.0, 0.0, 0.0)),
    (RIGHTS[:40] + " Ethiopia 2024 hello world " * 4, (50.0, 45.87, 40.53)),
    ("All human beings are born free and equal in dignity and rights. They have reason!", (20.0, 29.33, 27.6)),
    ("፲፱፻፺፮ ዓ.ም. ነው፣ መልካም? እሺ!", (32.0, 52.0, 27.23)),
    ("ሀ" * 16 + " ለ", (40.0, 60.0, 0.0)),
    ("", (0.0, 0.0, 0.0)),
    (" \n ", (0.0, 0.0, 0.0)),
    ("ቤት ሰው ቀን ልጅ ውሃ እሳት ሰማይ ምድር ባሕር ዛፍ አበባ", (50.0, 70.0, 16.87)),
    ("ቤት ነው። " * 30, (90.0, 90.33, 57.9)),
]


def three(texts):
    """Collector, preprocessor and curriculum of every text."""
    columns = ethiopic_counts(texts) | {"n_chars": np.array([float(len(text)) for text in texts])}
    kinds = ["prose"] * len(texts)
    first = scores(columns, kinds, "amharic_collector", "amharic_curriculum")
    second = scores(columns, kinds, "amharic_preprocessor", "amharic_curriculum")
    return list(zip(first["quality"], second["quality"], first["complexity"], strict=True))


def test_the_figures_of_the_original_are_reproduced():
    found = three([text for text, _ in ORIGINAL])
    for got, (text, wanted) in zip(found, ORIGINAL, strict=True):
        assert got == pytest.approx(wanted, abs=0.006), text[:30]


def collector(text):
    """The formula of the facts about the original, once more, one text at a time."""
    if not text:
        return 0.0
    ethiopic = sum("\u1200" <= c <= "\u137f" for c in text)
    solid = len(text.replace(" ", "").replace("\n", ""))
    score = 30 if 100 <= len(text) <= 5000 else 20 if len(text) > 5000 else 0
    if solid and ethiopic / solid >= 0.6:
        score += 40 * ethiopic / len(text.replace(" ", ""))
    score += 20 if "።" in text else 10 if len(text) > 50 else 0
    different = len(set(text.split()))
    return min(100, score + (10 if different > 10 else 5 if different > 5 else 0))


def curriculum(text):
    """Its complexity, likewise."""
    text = text.strip()
    if not text:
        return 0.0
    score = min(30, len(text) / 10) + min(20, len(text.split()) / 2) + min(20, len(set(text)) / 3)
    score += 5 * bool(re.search("[፩-፼]", text)) + 5 * bool(re.search("[ሀ-ሿ]{15,}", text))
    score += 5 * bool(re.search("[።፣፤፥፦፧፨]", text))
    score -= 10 * bool(re.fullmatch(r"[ሀ-ሿ\s]{1,20}", text))
    score -= 10 * bool(re.fullmatch(r"(ሰላም|እንዴት|ጤና|አመሰግናለሁ)\s*[ሀ-ሿ\s]*", text))
    pieces = len(re.split("[።!?]", text))
    return max(0, min(100, score + (min(10, 2 * pieces) if pieces > 1 else 0)))


LETTERS = st.text(alphabet="ሀለሐመሠረሰቀበተኀነአከወዐዘየደገጠጰጸፀፈፐ።፣፤፡፩፲ሿ \n\t!?ab1.ሰላም", max_size=300)


@given(st.lists(LETTERS | st.text(max_size=50), min_size=1, max_size=4))
def test_any_text_scores_as_the_formula_says(texts):
    for text, (quality, _, complexity) in zip(texts, three(texts), strict=True):
        assert quality == pytest.approx(collector(text), abs=0.006)
        assert complexity == pytest.approx(curriculum(text), abs=0.006)


def test_texts_of_every_script_are_measured(row, docstrings):
    """The formulas give points for length, words and different characters, whatever the letters."""
    texts = [
        *docstrings[:40],
        *(text for text, _ in ORIGINAL),
        "Egy macska ült az ablakban! " * 9,
        "吾輩は猫である。" * 9,
    ]
    documents = make_table([row(text, f"http://a/{n}", lang="und") for n, text in enumerate(texts)], DOCUMENT)
    table = measure(documents, MeasureParams())
    columns = {name: table[name].to_numpy() for name in (*AMHARIC, "n_chars")}
    found = scores(columns, ["prose"] * len(texts), "amharic_collector", "amharic_curriculum")
    for text, quality, complexity in zip(table["text"].to_pylist(), found["quality"], found["complexity"], strict=True):
        assert quality == pytest.approx(collector(text), abs=0.006)
        assert complexity == pytest.approx(curriculum(text), abs=0.006)
    assert min(found["complexity"][:40]) > 50, "English prose too"
    assert table["amharic_words"].to_pylist()[:40] == [len(text.split()) for text in table["text"].to_pylist()[:40]]


def test_a_giant_text_is_counted_in_pieces():
    text = "".join(f"word{number % 70_000} \u3000\U0001f600 " for number in range(150_000)) + "\u1369"
    (found,) = zip(*ethiopic_counts([text]).values(), strict=True)
    words, stripped = text.split(), text.strip()
    assert len(text) > 3 << 19
    wanted = (1, text.count(" "), 0, 0, len(words), len(set(words)), len(stripped), len(set(stripped)), 0, 1, 0)
    assert found == wanted


def test_no_original_formula_minds_repetition():
    """Why they are not the default."""
    once, often = three([RIGHTS, RIGHTS + ("\n" + RIGHTS) * 20])
    assert often[0] >= once[0] - 1


def test_levels():
    found = [LEVELS[level] for level in levels(np.array([0, 19.99, 20, 40, 60, 79.9, 80, 100]))]
    assert found == [
        "beginner",
        "beginner",
        "elementary",
        "intermediate",
        "advanced",
        "advanced",
        "expert",
        "expert",
    ]


def test_counts_depend_on_each_text_alone():
    texts = [text for text, _ in ORIGINAL]
    whole = ethiopic_counts(texts)
    assert list(whole) == list(AMHARIC)
    for row, text in enumerate(texts):
        assert {name: column[0] for name, column in ethiopic_counts([text]).items()} == {
            name: column[row] for name, column in whole.items()
        }
    assert all(len(column) == 0 for column in ethiopic_counts([]).values())
