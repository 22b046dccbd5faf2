import math
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmcore.report import charts, words
from lmcore.report.charts import Series, bar, histogram, line_chart, ticks

floats = st.floats(allow_nan=True, allow_infinity=True, width=64).filter(lambda x: not abs(x) > 1e15 or math.isinf(x))


def numbers(svg):
    """Every coordinate in a chart's data area."""
    root = ET.fromstring(svg)
    for line in [*root.iter("polyline"), *root.iter("polygon")]:
        for pair in line.attrib["points"].split():
            yield from map(float, pair.split(","))


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 8))
def test_ticks_are_round_and_cover_the_range(low, span, wanted):
    found = ticks(low, low + span, wanted)
    step = found[1] - found[0]
    assert found[0] <= low + max(1e-6 * step, math.ulp(low))
    assert found[-1] >= low + span - 1e-6 * max(step, abs(low) * 1e-9)
    assert 2 <= len(found) <= 2 * wanted + 2
    assert found == sorted(found)


@given(st.lists(floats, max_size=60), st.sampled_from(["line", "dots"]), st.booleans())
def test_any_numbers_give_a_chart_that_is_well_formed_and_inside_its_area(values, kind, from_zero):
    values = [abs(v) for v in values] if from_zero else values
    series = Series("s", np.arange(len(values), dtype=float), np.array(values, dtype=float), 1, kind)
    chart = line_chart("t", [series], "x", "y", from_zero=from_zero)
    if not any(map(math.isfinite, values)):
        assert chart is None
        return
    assert all(-0.5 <= n <= 1000.5 for n in numbers(chart.svg))
    assert "nan" not in chart.svg
    assert "inf" not in chart.svg


def test_a_long_line_is_drawn_with_few_points_and_a_band():
    n = 100_000
    xs = np.arange(n, dtype=float)
    chart = line_chart("t", [Series("s", xs, np.sin(xs / 9000) + (xs % 2), 1)], "x", "y")
    root = ET.fromstring(chart.svg)
    (line,), (band,) = root.iter("polyline"), root.iter("polygon")
    assert len(line.attrib["points"].split()) == charts.BUCKETS
    assert len(band.attrib["points"].split()) == 2 * charts.BUCKETS
    assert len(chart.svg) < 20_000


def test_a_line_is_where_its_numbers_are():
    chart = line_chart("t", [Series("s", np.array([0.0, 5, 10]), np.array([0.0, 1, 4]), 1)], "x", "y")
    (line,) = ET.fromstring(chart.svg).iter("polyline")
    assert line.attrib["points"] == "0,1000 500,750 1000,0"


def test_labels_are_escaped():
    payload = "\"><script>alert('1')</script>&\x00"
    values = np.arange(3, dtype=float)
    for chart in (
        line_chart(payload, [Series(payload, values, values, 1, "dots")], payload, payload),
        histogram(payload, values, 0, 3, 3, payload),
    ):
        assert "<script" not in chart.svg
        root = ET.fromstring(chart.svg)
        assert "<script>" in root.attrib["aria-label"]


def test_a_histogram_counts_everything_once():
    values = np.array([0.0, 5, 99.9, 100, 140, -3, np.nan])
    chart = histogram("t", values, 0, 100, 20, "x")
    titles = [title.text for title in ET.fromstring(chart.svg).iter("title")]
    assert sum(int(text.split()[0]) for text in titles) == 6
    assert titles[0] == "2 from 0 to 5"
    assert titles[-1] == "3 from 95 to 100"
    assert histogram("t", np.array([np.nan]), 0, 1, 2, "x") is None


def test_a_bar_has_its_length_and_interval():
    root = ET.fromstring(bar(0.25, "c1", (0.2, 0.3)))
    assert [rect.attrib["width"] for rect in root.iter("rect")] == ["100%", "25.00%"]
    assert next(iter(root.iter("line"))).attrib["x2"] == "30.00%"
    assert 'width="100.00%"' in bar(7)
    assert 'width="0.00%"' in bar(-1)


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (words.duration, 0.063, "63 ms"),
        (words.duration, 2.44, "2.4 s"),
        (words.duration, 59.6, "1 min 00 s"),
        (words.duration, 185, "3 min 05 s"),
        (words.duration, 7800, "2 h 10 min"),
        (words.duration, None, "–"),
        (words.short, 999.9, "1k"),
        (words.short, 1_310_720, "1.31M"),
        (words.short, 0.004, "0.004"),
        (words.size, 12, "12 bytes"),
        (words.size, 8_204_112, "8.2 MB"),
        (words.count, 12345.0, "12,345"),
        (words.count, float("nan"), "–"),
        (words.percent, 0.472, "47 %"),
        (words.plain, 10000.0, "10,000"),
        (words.plain, 1e-5, "1e-05"),
        (words.plain, [1, "a", None, True], "1, a, –, yes"),
        (words.listed, ["a"], "a"),
        (words.listed, ["a", "b", "c"], "a, b and c"),
    ],
)
def test_words(function, value, text):
    assert function(value) == text


@given(st.text(st.characters(), max_size=50))
def test_cleaned_text_can_be_written_and_clips_to_its_length(text):
    cleaned = words.clean(text + "\udc80\u202e\x00")
    cleaned.encode()
    assert "\u202e" not in cleaned
    assert "\x00" not in cleaned
    assert len(words.clip(text, 10)) <= 10


def test_a_chart_that_stands_alone_brings_its_colours_and_keys():
    line = Series("training <1>", np.arange(5.0), np.arange(5.0), 1)
    dots = Series("validation", np.arange(5.0), np.arange(5.0) + 1, 2, "dots")
    chart = line_chart("Bits & bytes", [line, dots], "step", "bits", wide=True)
    root = ET.fromstring(charts.standalone(chart, 900, 300))
    spaces = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{spaces}svg"
    assert (root.get("width"), root.get("height")) == ("900", "300")
    words_shown = [text.text for text in root.iter(f"{spaces}tspan")]
    assert words_shown == ["Bits & bytes", "over step", "●", "training <1>", "●", "validation"]
    style = root.find(f"{spaces}style").text
    for used in {name for shape in root.iter() for name in (shape.get("class") or "").split()}:
        assert used == "chart" or used == "tick" or f".{used}" in style, f"no style for {used}"
