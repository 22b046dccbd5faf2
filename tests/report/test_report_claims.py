"""Claims judged on a finished run: each metric finds its figure, each verdict its words, on the page as in the rows."""

from __future__ import annotations

import io
import re
import shutil
from dataclasses import replace

import pytest
from report_example import make_view
from rich.console import Console

from flows.claims import claims_table
from flows.ui_report import claims_parts
from lmcore.expect.metrics import METRICS
from lmcore.expect.verdicts import judge, summary
from lmcore.report.page import render

OF_SHARDS = ("steps_per_epoch", "sequences")  # which the example has not


def judged(view, *rows):
    """Rows as (metric, range, when, more) judged on a view."""
    expect = [
        {"metric": m, "range": list(span), "when": when, "source": "line 9"} | more for m, span, when, more in rows
    ]
    return judge(replace(view, resolved={**view.resolved, "expect": expect}))


@pytest.fixture
def view(tmp_path):
    return make_view(tmp_path)


def test_each_verdict(view):
    found = judged(
        view,
        ("bits_per_byte", (None, 1.8), None, {}),
        ("bits_per_byte", (None, 1.5), "end", {}),
        ("perplexity", (None, 1000), None, {"compare": False, "reason": "other tokens"}),
        ("unique_share", (0.6, None), None, {}),
    )
    assert [one.verdict for one in found] == ["reached", "not reached", "not comparable", "not measured"]
    assert found[0].measured == 1.791
    assert found[2].told == "not comparable: other tokens"
    assert found[2].measured is not None, "shown all the same"
    assert summary(found) == "1 reached, 1 not reached, 1 not comparable, 1 not measured"
    assert found[3].why == "an artifact of collect has no stats.json"


def test_bounds_of_our_own_are_counted_apart(view):
    own = ("bits_per_byte", (None, 1.8), None, {"source": "ours: 1.8 bits of 8"})
    assert summary(judged(view, ("perplexity", (None, 1.0), None, {}), own)) == "1 not reached; ours: 1 reached"
    assert summary(judged(view, own)) == "ours: 1 reached"
    screen = Console(file=io.StringIO(), width=200)
    screen.print(claims_table(judged(view, own)))
    assert "at most 1.8000 (ours)" in screen.file.getvalue()


@pytest.mark.parametrize(
    ("metric", "when", "value"),
    [
        ("parameters", "end", 1_146_880),
        ("vocab_size", "end", 4096),
        ("train_tokens", "end", 2_023_480),
        ("bytes_per_token", "end", 3.287),
        ("examples", "after stage curate", 500),
        ("text_bytes", "after stage curate", 8_204_112),
        ("accuracy", "end", 0.382),
        ("training_seconds", "end", 120.3),
        ("tokens_per_second", "end", 30_912.4),
        ("peak_memory_bytes", "end", 812.5 * 2**20),
        ("bits_per_byte", "start", 3.89),
        ("bits_per_byte", "step 270", 1.36 + 2.2 * 0.12245642825298191 - 0.2 * 0.3 + 0.33),
    ],
)
def test_a_metric_finds_its_figure(view, metric, when, value):
    (one,) = judged(view, (metric, (0, None), when, {}))
    assert one.measured == pytest.approx(value)
    assert one.verdict == "reached"


def test_what_the_run_has_not_is_said(tmp_path):
    view = make_view(tmp_path, until="tokens", steps=40)
    rows = [(name, (0, None), metric.times[0], {}) for name, metric in METRICS.items() if name not in OF_SHARDS]
    found = judged(view, *rows)
    told = {one.row.metric: one.why for one in found if one.verdict == "not measured"}
    assert told["initial_loss"] == told["parameters"] == "the run has not come to train"
    assert told["bits_per_byte"] == "the run has not come to evaluate"
    whole = make_view(tmp_path / "whole", steps=40)
    shutil.rmtree(whole.train / "provenance")
    (steps,) = judged(whole, ("steps", (0, None), None, {}))
    assert steps.why == "the artifact of train has no provenance/training.json"


def test_a_time_that_the_training_did_not_come_to(view):
    found = judged(
        view,
        ("lr", (0, None), "step 901", {}),
        ("lr", (0, None), "after stage 1", {}),
        ("accuracy", (0, None), "step 450", {}),
    )
    assert found[0].why == "the training ended after 900 steps, before step 901 did"
    assert found[1].why == "the training did not come to stage 1"
    assert found[2].why.startswith("no look at the validation split is near step 450")


def test_the_page_has_them_and_makes_nothing_of_their_texts(view):
    hostile = "<script>alert(1)</script> line 9"
    rows = judged(
        view,
        ("bits_per_byte", (None, 1.8), None, {"source": hostile, "note": "</td><b>bold"}),
        ("train_loss", (None, 0.5), None, {}),
    )
    page = render(replace(view, claims=rows))
    section = page[page.index('<section id="claims">') :]
    section = section[: section.index("</section>")]
    assert "1 reached, 1 not reached" in section
    assert "at most 1.8000" in section
    assert "&lt;script&gt;" in section
    assert "<b>bold" not in section
    assert len(re.findall(r"<tr><td", section)) == 2
    assert 'href="#claims"' in page
    heading, table = claims_parts(rows)
    assert heading == "### What its document claims: 1 reached, 1 not reached"
    assert table.splitlines()[2].endswith(r"| reached | \<script\>alert\(1\)\<\/script\> line 9 |")
    assert claims_parts([]) == []
    assert "claims" not in render(view)
