"""Further measurements as tables, the same on the report and in Prefect, and as claims."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from report_example import make_view

from flows.run import _probe
from lmcore.expect.verdicts import judge
from lmcore.recipe import load_recipe
from lmcore.report.page import render
from lmcore.report.probes import MAKERS, probe_tables

HOSTILE = "<script>alert(1)</script>"
BUCKETS = [
    {"from": 0, "to": 512, "loss": 3.1, "bits_per_byte": 1.9, "interval": [1.8, 2.0]},
    {"from": 512, "to": 2048, "loss": 2.9, "bits_per_byte": 1.7, "interval": [1.6, 1.8]},
]
PROBES = {
    "positions": {
        "context": 2048, "documents": 9, "windows": 30, "buckets": BUCKETS, "gain": 0.2, "gain_interval": [0.1, 0.3],
    },
    "terms": {
        "terms": ["a", "b"], "terms_found": 1, "occurrences": 8, "recall": 0.25, "term_recall": 0.2,
        "frequent": [{"term": HOSTILE, "occurrences": 8, "recall": 0.25}],
    },
    "dialogue": {
        "texts": 4, "tokens": 1500, "sampling": {"temperature": 0.8, "no_repeat_ngram": 3},
        "model": {"closed_quotes": 0.5, "alternation": None, "distinct_2": 0.8, "repeated_3": 0.1},
        "corpus": {"closed_quotes": 0.9, "alternation": 0.7, "distinct_2": 0.9, "repeated_3": 0.02},
    },
    "translation": {
        "form": "tags", "metric": "chrF2, sacrebleu",
        "directions": {
            "Translate English to Hungarian.": {"pairs": 5, "chrf": 21.5, "copied": 9.0, "exact": 0.0, "examples": []},
            "Translate Hungarian to English.": {"pairs": 5, "chrf": 30.5, "copied": 9.0, "exact": 0.2, "examples": []},
        },
    },
    "text_scores": {
        "amharic": {
            "sampled": {
                "ratio": 1, "endings": 0.5, "fluency": 0.6, "coherence": 0.2, "common": 0.1, "score": 0.52,
            },
        },
    },
}  # fmt: skip


@pytest.fixture
def view(tmp_path):
    """A run whose evaluation has every measurement, of the model before, too."""
    view = make_view(tmp_path)
    path = view.evaluate / "evaluation.json"
    found = json.loads(path.read_text())
    before = {**found["headline"], "bits_per_byte": 2.5, "groups": found["groups"], "probes": PROBES}
    path.write_text(json.dumps(found | {"probes": PROBES, "before": before}))
    samples = json.loads((view.evaluate / "samples.json").read_text())
    written = json.dumps([sample | {"before": f"unlearnt {HOSTILE}"} for sample in samples])
    (view.evaluate / "samples.json").write_text(written)
    return view


def tables(view):
    return probe_tables(json.loads((view.evaluate / "evaluation.json").read_text()))


def test_there_is_a_table_for_each(view):
    found = tables(view)
    assert len(found) == 1 + len(MAKERS)
    assert PROBES.keys() == MAKERS.keys()
    for table in found:
        assert all(len(row) == len(table.headings) for row in table.rows), table.title
        assert table.headings[-1] == (">change" if table.title.startswith("Before") else ">before")
    assert found[0].rows[0] == ("all", "2.500", "1.791", "-0.709")
    assert "source: pydoc" in [row[0] for row in found[0].rows]


def test_without_a_model_before_there_is_no_column_for_it(view):
    path = view.evaluate / "evaluation.json"
    found = json.loads(path.read_text())
    del found["before"]
    tables = probe_tables(found)
    assert len(tables) == len(MAKERS)
    assert not any(">before" in table.headings for table in tables)
    assert all(len(row) == len(table.headings) for table in tables for row in table.rows)
    assert probe_tables(json.loads((make_view(path.parent / "x").evaluate / "evaluation.json").read_text())) == []


def test_what_could_not_be_measured_is_said():
    nothing = {"context": 64, "documents": 0, "windows": 0, "buckets": [], "gain": None, "gain_interval": None}
    none = {"form": None, "metric": "chrF2, sacrebleu", "directions": {}}
    one, two = probe_tables({"probes": {"positions": nothing, "translation": none}})
    assert "no window is whole" in one.note
    assert "no pairs" in two.note


def test_how_the_dialogue_was_drawn_is_said(view):
    note = next(table.note for table in tables(view) if table.title == "Dialogue")
    assert "each cut to the model's length: 1,500 tokens in all; the model before wrote 1,500" in note
    assert "Drawn with temperature 0.8, no_repeat_ngram 3" in note
    assert "no_repeat_ngram of the sampling changes how much is repeated" in note
    plain = PROBES["dialogue"] | {"sampling": {"temperature": 1.0}}
    (table,) = probe_tables({"probes": {"dialogue": plain}})
    assert table.note.endswith("1,500 tokens in all. Drawn with temperature 1.")


def test_the_form_of_a_translation_is_said(view):
    (table,) = [table for table in tables(view) if table.title == "Translation"]
    assert table.note == "chrF2, sacrebleu, 0 to 100, greedy by chat. Asked in tags."
    tuned = PROBES["translation"] | {"form": "markers"}
    table = MAKERS["translation"](tuned, PROBES["translation"])
    assert table.note.endswith("Asked between chat markers; the model before in tags.")


def test_the_page_has_them_escaped(view):
    page = render(view)
    section = page[page.index('<section id="measured">') :]
    section = section[: section.index("</section>")]
    for words in (
        "Loss by position",
        "512 to 2,048",
        "Terms recalled",
        "Dialogue",
        "Translation",
        "21.5",
        "Text score",
    ):
        assert words in section
    assert "before training, greedy" in page
    assert HOSTILE not in page
    assert '<section id="measured">' not in render(make_view(view.evaluate / "plain"))


def test_the_terminal_has_them(view):
    for table in tables(view):
        shown = _probe(table)
        assert shown.row_count == len(table.rows)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("bits_per_byte_before", 2.5),
        ("context_gain", 0.2),
        ("context_gain_low", 0.1),
        ("term_recall", 0.25),
        ("closed_quotes", 0.5),
        ("distinct_2", 0.8),
        ("repeated_3", 0.1),
        ("chrf", 26.0),
        ("amharic_score", 0.52),
        ("amharic_score_before", 0.52),
    ],
)
def test_claims_find_them(view, tmp_path, metric, value):
    row = {"metric": metric, "range": [0, None], "source": "line 1"}
    (found,) = judge(replace(view, resolved={"expect": [row]}))
    assert found.measured == pytest.approx(value)
    (plain,) = judge(replace(make_view(tmp_path / "plain"), resolved={"expect": [row]}))
    assert plain.verdict == "not measured"
    assert "set evaluate." in plain.why


@pytest.mark.parametrize(
    ("low", "verdict"), [(0.0004, "not reached"), (-0.01, "not reached"), (0.002, "reached"), (0.02, "reached")]
)
def test_the_long_context_is_used_when_the_whole_interval_is_above_the_floor(tmp_path, low, verdict):
    """SOMA's row: a gain of 0.0012 bits, 0.0004 to 0.0043, is as good as none."""
    for name in ("soma", "soma-small"):
        (row,) = [row for row in load_recipe(name).expect if row.metric.startswith("context_gain")]
        view = make_view(tmp_path / name)
        file = view.evaluate / "evaluation.json"
        figures = json.loads(file.read_text(encoding="utf-8"))
        figures["probes"] = {"positions": PROBES["positions"] | {"gain": 0.03, "gain_interval": [low, 0.05]}}
        file.write_text(json.dumps(figures), encoding="utf-8")
        (found,) = judge(replace(view, resolved={"expect": [row.model_dump(mode="json")]}))
        assert (found.verdict, found.measured) == (verdict, pytest.approx(low))


def test_a_figure_of_nothing_is_not_measured(view):
    rows = [
        {"metric": name, "range": [0, 1], "source": "line 1"}
        for name in ("speaker_alternation", "amharic_score_original")
    ]
    assert [one.verdict for one in judge(replace(view, resolved={"expect": rows}))] == ["not measured"] * 2
