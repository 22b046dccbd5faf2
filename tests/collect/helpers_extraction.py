"""The marked pages of tests/fixtures/pages, extractors to read them with, and the figures of both.

Used by test_collect_extraction.py and by benchmarks/extraction.py.
"""

import gzip
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

import yaml

from lmcore.collect.extract import read_page
from lmcore.collect.presets import Preset, packaged, preset_of
from lmcore.collect.score import Score, score

PAGES = Path(__file__).parents[1] / "fixtures" / "pages"
# The presets that no host chooses, by the layout that they are written for.
_PRESET_OF_LAYOUT = {
    "python-docs": "sphinx",
    "kernel-docs": "sphinx",
    "django-docs": "sphinx",
    "debian-policy": "sphinx",
    "devref": "sphinx",
    "debian-docbook": "debian",
    "postgresql-docs": "debian",
    "publican": "debian",
    "mediawiki": "mediawiki",
}


@dataclass(frozen=True)
class MarkedPage:
    name: str
    lang: str
    layout: str
    url: str
    html: bytes
    text: str  # the main text as marked by hand
    second_reader: str  # agreed with the mark, or corrected it

    @property
    def preset(self) -> Preset | None:
        """The preset that a recipe would choose for a site of this layout."""
        name = _PRESET_OF_LAYOUT.get(self.layout)
        return packaged()[name] if name else preset_of(self.url, "auto")


Extractor = Callable[[MarkedPage], str | None]  # None: not for this page
Scores = dict[str, Score]  # by page


@cache
def marked_pages() -> tuple[MarkedPage, ...]:
    index = yaml.safe_load((PAGES / "pages.yaml").read_text(encoding="utf-8"))
    return tuple(
        MarkedPage(
            name=entry["name"],
            lang=entry["lang"],
            layout=entry["layout"],
            url=entry["url"],
            html=gzip.decompress((PAGES / f"{entry['name']}.html.gz").read_bytes()),
            text=(PAGES / f"{entry['name']}.txt").read_text(encoding="utf-8"),
            second_reader=entry.get("second_reader", ""),
        )
        for entry in index["pages"]
    )


def by_default(page: MarkedPage) -> str:
    return read_page(page.html, page.url, "text/html").text


def by_bulk(page: MarkedPage) -> str:
    return read_page(page.html, page.url, "text/html", extractor="bulk").text


def by_preset(page: MarkedPage) -> str | None:
    preset = page.preset
    return read_page(page.html, page.url, "text/html", preset=preset).text if preset else None


OURS: dict[str, Extractor] = {"trafilatura": by_default, "bulk": by_bulk, "preset": by_preset}


def measure(extractor: Extractor) -> Scores:
    """What an extractor scores on each of the pages that it is for."""
    found = ((page, extractor(page)) for page in marked_pages())
    return {page.name: score(text, page.text) for page, text in found if text is not None}


def means(scores: Iterable[Score]) -> tuple[float, float, float]:
    """Mean F1, precision and recall: every page counts the same, however long it is."""
    rows = list(scores)
    return fmean(s.f1 for s in rows), fmean(s.precision for s in rows), fmean(s.recall for s in rows)


def groups(scores: Scores, field: str) -> dict[str, list[Score]]:
    """The scores by `lang` or `layout` of their pages, in order of the name."""
    found: dict[str, list[Score]] = defaultdict(list)
    for page in marked_pages():
        if page.name in scores:
            found[getattr(page, field)].append(scores[page.name])
    return dict(sorted(found.items()))


def table(measured: dict[str, Scores]) -> str:
    """Markdown: all extractors over the whole set, then F1 of each by language and by layout."""
    lines = ["| extractor | pages | F1 | precision | recall | pages under 0.8 |", "|---|---|---|---|---|---|"]
    for name, scores in measured.items():
        f1, precision, recall = means(scores.values())
        low = sum(s.f1 < 0.8 for s in scores.values())
        lines.append(f"| {name} | {len(scores)} | {f1:.3f} | {precision:.3f} | {recall:.3f} | {low} |")
    for field in ("lang", "layout"):
        lines += ["", f"| F1 by {field} | pages | {' | '.join(measured)} |", "|---" * (2 + len(measured)) + "|"]
        cells = {name: groups(scores, field) for name, scores in measured.items()}
        for group in sorted({key for of in cells.values() for key in of}):
            total = sum(getattr(page, field) == group for page in marked_pages())
            row = (f"{means(of[group])[0]:.3f}" if group in of else "" for of in cells.values())
            lines.append(f"| {group} | {total} | {' | '.join(row)} |")
    return "\n".join(lines)


def lowest(scores: Scores, number: int) -> str:
    """The pages that an extractor reads worst, one a line."""
    worst = sorted(scores.items(), key=lambda item: item[1].f1)[:number]
    return "\n".join(
        f"  {name:32} F1 {s.f1:.3f}  precision {s.precision:.3f}  recall {s.recall:.3f}" for name, s in worst
    )


def floors(measured: dict[str, Scores]) -> str:
    """FLOORS of test_collect_extraction.py: what is measured, less 0.01."""
    lines = ["FLOORS = {"]
    for name, scores in measured.items():
        whole = ", ".join(f"{figure - 0.01:.3f}" for figure in means(scores.values()))
        by_lang = ", ".join(f'"{lang}": {means(rows)[0] - 0.01:.3f}' for lang, rows in groups(scores, "lang").items())
        lines.append(f'    "{name}": (({whole}), {{{by_lang}}}),')
    return "\n".join([*lines, "}"])
