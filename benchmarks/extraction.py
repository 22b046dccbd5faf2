"""How well the main text of pages is taken: ours beside other extractors, on the pages that we marked by hand.

    python benchmarks/extraction.py [--worst 5] [--page NAME] [--floors]

The pages are those of tests/fixtures/pages (docs/extraction.md says what they are). Compared are ours,
trafilatura with its fallbacks and with its setting for more text, and jusText, readability-lxml and resiliparse
where they are installed (`pip install justext readability-lxml resiliparse`); what is not is left out and said. CPU is
for one reading of all the pages. `--page` prints what each extractor takes from one page instead, `--floors` the
floors that tests/collect/test_collect_extraction.py holds ours to, as they would be now.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "collect"))

import trafilatura
from helpers_extraction import OURS, Extractor, MarkedPage, floors, lowest, marked_pages, measure, table
from lxml.html import document_fromstring

from lmcore.collect.charset import decode
from lmcore.collect.extract import parse_html, visible_text
from lmcore.collect.score import score

# The name that a library is imported by, and that it is installed by.
LIBRARIES = {"justext": "justext", "readability": "readability-lxml", "resiliparse": "resiliparse"}
STOP_WORDS = {"en": "English", "hu": "Hungarian"}  # jusText has no list for the others: words are not looked at there


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--worst", type=int, default=0, help="also print the pages that each extractor reads worst")
    parser.add_argument("--page", help="print what each extractor takes from this page")
    parser.add_argument("--floors", action="store_true", help="print the floors of the test, from ours as measured now")
    asked = parser.parse_args()
    if asked.floors:
        print(floors({name: measure(extractor) for name, extractor in OURS.items()}))
        return 0
    extractors = OURS | others()
    if asked.page:
        page = next((page for page in marked_pages() if page.name == asked.page), None)
        if page is None:
            parser.error(f"no page {asked.page}; there are {', '.join(page.name for page in marked_pages())}")
        for name, extractor in extractors.items():
            text = extractor(page)
            if text is not None:
                found = score(text, page.text)
                figures = f"F1 {found.f1:.3f}, precision {found.precision:.3f}, recall {found.recall:.3f}"
                print(f"=== {name}: {figures}\n{text}\n")
        return 0
    measured = {}
    for name, extractor in extractors.items():
        began = time.process_time()
        measured[name] = measure(extractor)
        print(f"{name}: {time.process_time() - began:.2f} s CPU for {len(measured[name])} pages", file=sys.stderr)
    print(table(measured))
    for name, scores in measured.items() if asked.worst else ():
        print(f"\n{name}, the worst:\n{lowest(scores, asked.worst)}")
    return 0


def others() -> dict[str, Extractor]:
    """Extractors that are not ours: trafilatura as it comes, and what is installed of the others."""
    found: dict[str, Extractor] = {
        "trafilatura, fallbacks": partial(by_trafilatura, fast=False),
        "trafilatura, recall": partial(by_trafilatura, fast=True, favor_recall=True),
        "visible text": by_visible_text,
    }
    for name, package in LIBRARIES.items():
        if importlib.util.find_spec(name):
            found[package] = {"justext": by_justext, "readability": by_readability, "resiliparse": by_resiliparse}[name]
        else:
            print(f"{package} is not installed", file=sys.stderr)
    return found


def html_of(page: MarkedPage) -> str:
    return decode(page.html, "text/html", html=True).text


def by_trafilatura(page: MarkedPage, **settings: bool) -> str:
    options = {"include_comments": False, "include_tables": True, **settings}
    return trafilatura.extract(html_of(page), url=page.url, output_format="txt", **options) or ""


def by_visible_text(page: MarkedPage) -> str:
    tree = parse_html(html_of(page))
    return "" if tree is None else visible_text(tree)


def by_justext(page: MarkedPage) -> str:
    import justext

    language = STOP_WORDS.get(page.lang)
    if language:
        paragraphs = justext.justext(page.html, justext.get_stoplist(language))
    else:  # as its documentation says for a language without stop words
        paragraphs = justext.justext(page.html, frozenset(), stopwords_low=0.0, stopwords_high=0.0)
    return "\n".join(paragraph.text for paragraph in paragraphs if not paragraph.is_boilerplate)


def by_readability(page: MarkedPage) -> str:
    from readability import Document

    document = Document(html_of(page))
    return document.title() + "\n" + visible_text(document_fromstring(document.summary()))


def by_resiliparse(page: MarkedPage) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    return extract_plain_text(html_of(page), main_content=True, alt_texts=False, links=False)


if __name__ == "__main__":
    sys.exit(main())
