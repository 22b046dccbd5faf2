"""Further measurements on Prefect's page of an evaluation."""

from __future__ import annotations

from lmcore.report.probes import ProbeTable
from tasks.ui_pages import _continued, _probe_parts


def test_a_table_has_no_markup_but_ours():
    title, note, table = _probe_parts(ProbeTable("Terms", ("term", ">recalled"), [("<b>|x", "5 %")], "a *note*"))
    assert title == "### Terms"
    assert note == r"a \*note\*"
    assert table.splitlines()[1] == "| --- | ---: |"
    assert r"\<b\>\|x" in table


def test_what_was_written_before_stands_below():
    shown = _continued({"prompt": "The", "text": " hero", "before": " zzz"})
    assert shown.splitlines() == ["The ▸  hero", "", "before training ▸  zzz"]
    assert _continued({"prompt": "The", "text": " hero"}) == "The ▸  hero"
