"""Line charts and histograms as inline SVG of a few kilobytes.

matplotlib would need a second to start and some 30 kB a chart with colours fixed at writing time; these take their
colours from the page's style sheet (light and dark), keep text as text at any width, and carry no style attributes,
which the page's content-security policy forbids. Positions are percentages of the chart's box; a data area is a
nested SVG stretched to fit, so strokes must not scale (`vector-effect`) and dots are round-capped lines of length 0.
Every label goes through ElementTree, which escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree as ET

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from lmcore.report.words import clean, short

BUCKETS = 160  # points a line is drawn with; more are averaged, their range is drawn as a band
RIGHT, TOP, BOTTOM = 99.0, 4.0, 90.0  # the data area in percent of the box
LEFT, LEFT_WIDE = 9.0, 4.5  # room for the numbers of the y axis, in half the page's width and in all of it
_UNIT = 1000  # side of the data area's own coordinates
_CAPTION = 22  # pixels above a chart that stands alone
_ALONE = """
text { fill: #868ea0; font: 12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
.title { font-weight: 600; } .x { text-anchor: middle; } .end { text-anchor: end; }
.area { overflow: visible; } .grid { stroke: #868ea0; stroke-opacity: .25; }
.line, .thin, .dot { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.line { stroke-width: 1.8; } .thin { stroke-width: 1.2; opacity: .7; } .dot { stroke-width: 7; stroke-linecap: round; }
.band { opacity: .2; stroke: none; }
.c1 { stroke: #6682f0; } .c2 { stroke: #e07a4a; } .c3 { stroke: #2aa88f; } .c4 { stroke: #a06fd6; }
.band.c1, .fill.c1 { fill: #6682f0; stroke: none; } .band.c2, .fill.c2 { fill: #e07a4a; stroke: none; }
.band.c3, .fill.c3 { fill: #2aa88f; stroke: none; } .band.c4, .fill.c4 { fill: #a06fd6; stroke: none; }
"""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One line or set of dots. `colour` is the number of a colour of the style sheet, 1 to 4."""

    name: str
    xs: Floats
    ys: Floats
    colour: int
    kind: Literal["line", "dots"] = "line"


@dataclass(frozen=True)
class Chart:
    """A finished chart: its caption, the names of its colours, and the SVG."""

    title: str
    over: str  # what the x axis is
    keys: tuple[tuple[str, int], ...]
    wide: bool  # made for the page's whole width
    svg: Markup


def line_chart(
    title: str,
    series: Sequence[Series],
    x_name: str,
    y_name: str,
    *,
    from_zero: bool = False,
    wide: bool = False,
) -> Chart | None:
    """Several series over one x axis; numbers that are not finite are left out. None when there is nothing to draw."""
    left = LEFT_WIDE if wide else LEFT
    shown = [kept for kept in map(_finite, series) if len(kept.xs)]
    if not shown:
        return None
    x_low, x_high = _range([s.xs for s in shown])
    y_low, y_high = _range([s.ys for s in shown], from_zero)
    y_ticks = ticks(y_low, y_high, 5)
    y_low, y_high = min(y_low, y_ticks[0]), max(y_high, y_ticks[-1])
    box = _box(f"{title}: {y_name} over {x_name}")
    _grid(box, y_ticks, y_low, y_high, left)
    for tick in ticks(x_low, x_high, 6):
        if x_low <= tick <= x_high:
            _text(box, _across(tick, x_low, x_high, left), BOTTOM + 8, short(tick), "tick x")
    area = _area(box, left)

    def place(xs: Floats, ys: Floats) -> list[str]:
        x = (xs - x_low) / (x_high - x_low) * _UNIT
        y = (y_high - ys) / (y_high - y_low) * _UNIT
        return [f"{a:.4g},{b:.4g}" for a, b in zip(x, y, strict=True)]

    for one in shown:
        if one.kind == "dots" or len(one.xs) == 1:
            dots = place(one.xs, one.ys)
            if len(dots) > 1:
                ET.SubElement(area, "polyline", {"points": " ".join(dots), "class": f"thin c{one.colour}"})
            for point, x, y in zip(dots, one.xs, one.ys, strict=True):
                dot = ET.SubElement(area, "path", {"d": f"M{point} h0", "class": f"dot c{one.colour}"})
                _tip(dot, f"{one.name}: {y:.4g} at {x_name} {short(float(x))}")
            continue
        xs, low, middle, high = _bucket(one.xs, one.ys)
        if len(xs) < len(one.xs):
            edge = [*place(xs, high), *reversed(place(xs, low))]
            ET.SubElement(area, "polygon", {"points": " ".join(edge), "class": f"band c{one.colour}"})
        ET.SubElement(area, "polyline", {"points": " ".join(place(xs, middle)), "class": f"line c{one.colour}"})
    keys = tuple((s.name, s.colour) for s in shown) if len(shown) > 1 else ()
    return Chart(title, x_name, keys, wide, _markup(box))


def histogram(title: str, values: Floats, low: float, high: float, bins: int, x_name: str) -> Chart | None:
    """How many of `values` fall into each of `bins` equal parts of low to high. None when there are none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    counts, _ = np.histogram(values.clip(low, high), bins, (low, high))
    return stacked(title, [("", counts.astype(np.int64), 1)], low, high, x_name)


def stacked(
    title: str, stacks: Sequence[tuple[str, NDArray[np.int64], int]], low: float, high: float, x_name: str
) -> Chart | None:
    """Bars over equal parts of low to high, one number a part; of several stacks (name, numbers, colour) on each other.

    None when all numbers are 0.
    """
    totals = np.sum([counts for _, counts, _ in stacks], axis=0)
    if not totals.any():
        return None
    bins = len(totals)
    edges = np.linspace(low, high, bins + 1)
    y_ticks = ticks(0, float(totals.max()), 4)
    top = max(y_ticks[-1], float(totals.max()))
    box = _box(f"{title}: histogram over {x_name}")
    _grid(box, y_ticks, 0, top, LEFT)
    for tick in ticks(low, high, 6):
        if tick <= high + 1e-9:
            _text(box, _across(tick, low, high, LEFT), BOTTOM + 8, short(tick), "tick x")
    width = (RIGHT - LEFT) / bins
    below = np.zeros(bins)
    for name, counts, colour in stacks:
        for place, n in enumerate(counts.tolist()):
            tall = (BOTTOM - TOP) * n / top
            if not n and len(stacks) > 1:
                continue
            bar = ET.SubElement(
                box,
                "rect",
                {
                    "x": f"{LEFT + place * width + width * 0.06:.2f}%",
                    "y": f"{BOTTOM - below[place] - tall:.2f}%",
                    "width": f"{width * 0.88:.2f}%",
                    "height": f"{tall:.2f}%",
                    "class": f"fill c{colour}",
                },
            )
            below[place] += tall
            _tip(bar, f"{name}{': ' if name else ''}{n:,} from {edges[place]:g} to {edges[place + 1]:g}")
    keys = tuple((name, colour) for name, _, colour in stacks) if len(stacks) > 1 else ()
    return Chart(title, x_name, keys, False, _markup(box))


def bar(share: float, kind: str = "c1", whisker: tuple[float, float] | None = None) -> Markup:
    """One horizontal bar over `share` (0 to 1) of the width, with an interval on it if given."""
    box = ET.Element("svg", {"class": "bar", "role": "presentation"})
    ET.SubElement(box, "rect", {"width": "100%", "height": "100%", "class": "rail"})
    wide = 100 * min(max(share, 0.0), 1.0)
    ET.SubElement(box, "rect", {"width": f"{wide:.2f}%", "height": "100%", "class": f"fill {kind}"})
    if whisker:
        low, high = (f"{100 * min(max(end, 0.0), 1.0):.2f}%" for end in whisker)
        ET.SubElement(box, "line", {"x1": low, "x2": high, "y1": "50%", "y2": "50%", "class": "whisker"})
        for end in (low, high):
            ET.SubElement(box, "line", {"x1": end, "x2": end, "y1": "25%", "y2": "75%", "class": "whisker"})
    return _markup(box)


def standalone(chart: Chart, width: int, height: int) -> str:
    """The chart as an SVG document of its own, in pixels, for an <img>: caption, colours and keys are in it.

    It has no background and middling colours, to be read on a light page and on a dark one.
    """
    box = ET.Element(
        "svg",
        {"xmlns": "http://www.w3.org/2000/svg", "width": str(width), "height": str(height), "class": "chart"},
    )
    ET.SubElement(box, "style").text = _ALONE
    caption = ET.SubElement(box, "text", {"x": "0", "y": "14"})
    ET.SubElement(caption, "tspan", {"class": "title"}).text = clean(chart.title)
    ET.SubElement(caption, "tspan", {"dx": "6"}).text = clean(f"over {chart.over}")
    for name, colour in chart.keys:
        ET.SubElement(caption, "tspan", {"class": f"fill c{colour}", "dx": "18"}).text = "●"
        ET.SubElement(caption, "tspan", {"dx": "5"}).text = clean(name)
    drawn = ET.SubElement(box, "svg", {"y": str(_CAPTION), "height": str(height - _CAPTION), "width": str(width - 12)})
    drawn.append(ET.fromstring(chart.svg))  # noqa: S314  what this module wrote
    return ET.tostring(box, encoding="unicode")


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) from at most `low` to at least `high`, about `wanted` of them."""
    span = high - low
    assert span > 0
    rough = span / max(1, wanted - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * part for part in (1, 2, 5, 10) if power * part >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def _finite(series: Series) -> Series:
    kept = np.isfinite(series.xs) & np.isfinite(series.ys)
    return Series(series.name, series.xs[kept], series.ys[kept], series.colour, series.kind)


def _range(columns: Sequence[Floats], from_zero: bool = False) -> tuple[float, float]:
    low = 0.0 if from_zero else min(float(c.min()) for c in columns)
    high = max(float(c.max()) for c in columns)
    if high - low < 1e-9 * max(1.0, abs(high)):  # one value: give it room
        pad = abs(high) * 0.1 or 1.0
        return (0.0 if from_zero and high > 0 else low - pad), high + pad
    return low, high


def _bucket(xs: Floats, ys: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """x, lowest, mean and highest y of at most BUCKETS runs of neighbouring points."""
    if len(xs) <= BUCKETS:
        return xs, ys, ys, ys
    starts = np.linspace(0, len(xs), BUCKETS, endpoint=False).astype(int)
    sizes = np.diff(np.append(starts, len(xs)))
    mean = np.add.reduceat(ys, starts) / sizes
    return np.add.reduceat(xs, starts) / sizes, np.minimum.reduceat(ys, starts), mean, np.maximum.reduceat(ys, starts)


def _box(label: str) -> ET.Element:
    return ET.Element("svg", {"class": "chart", "role": "img", "aria-label": clean(label)})


def _area(box: ET.Element, left: float) -> ET.Element:
    return ET.SubElement(
        box,
        "svg",
        {
            "x": f"{left}%",
            "y": f"{TOP}%",
            "width": f"{RIGHT - left}%",
            "height": f"{BOTTOM - TOP}%",
            "viewBox": f"0 0 {_UNIT} {_UNIT}",
            "preserveAspectRatio": "none",
            "class": "area",
        },
    )


def _grid(box: ET.Element, values: Sequence[float], low: float, high: float, left: float) -> None:
    for value in values:
        y = TOP + (high - value) / (high - low) * (BOTTOM - TOP)
        place = {"x1": f"{left}%", "x2": f"{RIGHT}%", "y1": f"{y:.2f}%", "y2": f"{y:.2f}%", "class": "grid"}
        ET.SubElement(box, "line", place)
        _text(box, left - 0.8, y + 1.6, short(value), "tick end")


def _across(value: float, low: float, high: float, left: float) -> float:
    return left + (value - low) / (high - low) * (RIGHT - left)


def _text(box: ET.Element, x: float, y: float, text: str, kind: str) -> None:
    ET.SubElement(box, "text", {"x": f"{x:.2f}%", "y": f"{y:.2f}%", "class": kind}).text = clean(text)


def _tip(shape: ET.Element, text: str) -> None:
    ET.SubElement(shape, "title").text = clean(text)


def _markup(box: ET.Element) -> Markup:
    return Markup(ET.tostring(box, encoding="unicode"))  # noqa: S704  ElementTree escaped every text and attribute
