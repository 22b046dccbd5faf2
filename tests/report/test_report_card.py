"""The corpus card: every number on it is a cell of the answer to the query printed under it."""

import ast
import re
import subprocess
from html.parser import HTMLParser

import pytest
from corpus_store import EMAIL, make_corpus, whole_store
from store_words import text_of

from lmcore.report.corpus_card import make_card, render_card, write_card
from lmcore.report.corpus_shapes import SIGNALS
from storage.catalog import Catalog
from storage.errors import UserError
from storage.parquet import read_parquet
from storage.store import Store

UNITS = {"": 1, "bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "%": 0.01}


class Page(HTMLParser):
    """The blocks of a card: their query, their numbers (in full, as shown) and the bars of their chart."""

    def __init__(self, page):
        super().__init__()
        self.blocks, self.outside, self.text = {}, [], ""
        self._open, self._depth, self._data, self._skip = None, 0, None, 0
        self._query = self._tip = self._example = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        of = dict(attributes)
        classes = (of.get("class") or "").split()
        if tag == "div" and "asked" in classes:
            self._open, self._depth = of["id"], 0
            self.blocks[self._open] = {"query": "", "numbers": [], "tips": [], "text": ""}
        if tag == "div" and self._open:
            self._depth += 1
        self._query |= tag == "pre" and "query" in classes
        self._tip |= tag == "title" and self._open is not None
        self._skip += tag in ("style", "text", "head")
        if tag == "data":
            self._data = [of["value"], ""]

    def handle_endtag(self, tag):
        self._skip -= tag in ("style", "text", "head")
        if tag == "pre":
            self._query = False
        if tag == "title":
            self._tip = False
        if tag == "data":
            (self.blocks[self._open]["numbers"] if self._open else self.outside).append(tuple(self._data))
            self._data = None
        if tag == "div" and self._open:
            self._depth -= 1
            if not self._depth:
                self._open = None

    def handle_data(self, text):
        if self._query:
            self.blocks[self._open]["query"] += text
        elif self._tip:
            self.blocks[self._open]["tips"].append(text)
        elif self._data is not None:
            self._data[1] += text
        elif not self._skip:
            self.text += text
            if self._open:
                self.blocks[self._open]["text"] += text


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    store, corpus = whole_store(tmp_path_factory.mktemp("card"))
    return store, corpus, make_card(corpus)


@pytest.fixture(scope="module")
def page(made):
    return Page(render_card(made[2], "report.html"))


def close(shown, exact):
    """Whether a number as shown is the exact one to three digits."""
    found = re.fullmatch(r"(-?[\d,.]+)(?: ?(bytes|kB|MB|GB|%))?", shown)
    assert found, shown
    value = float(found[1].replace(",", "")) * UNITS[found[2] or ""]
    return abs(value - exact) <= max(0.006 * abs(exact), 0.00051)


def test_every_number_is_reproduced_by_the_query_printed_under_it(made, page):
    store, _, card = made
    catalog = Catalog(store)
    queries = {answer.query.name: answer.query for answer in [*card.answers.values(), *card.histograms]}
    told = 0
    for name, block in page.blocks.items():
        rows = catalog.query(block["query"]).to_pylist()
        if block["tips"]:
            found = {}
            for tip in block["tips"]:
                parts, n, low = re.fullmatch(r"(?:(\w+): )?([\d,]+) from (\S+) to \S+", tip).groups()
                if int(n.replace(",", "")):
                    found[parts or queries[name].columns[0].name, float(low)] = int(n.replace(",", ""))
            signal = next((s for s in SIGNALS if name == f"signal-{s.name}"), None)
            low, width = (signal.low, (signal.high - signal.low) / signal.bins) if signal else (0.5, 0.05)
            names = [c.name for c in queries[name].columns]
            want = {(n, float(f"{low + r['bin'] * width:g}")): r[n] for r in rows for n in names if r[n]}
            assert found == want, name
            told += len(found)
            continue
        numbers = [c.name for c in queries[name].columns if c.show not in ("text", "ours")]
        wanted = [row[column] for row in rows for column in numbers]
        if name == "counts":  # told in another order
            wanted, got = sorted(wanted), sorted(block["numbers"], key=lambda n: float(n[0]))
        else:
            got = block["numbers"]
        assert len(got) == len(wanted), name
        for (exact, shown), value in zip(got, wanted, strict=True):
            assert (None if exact == "" else ast.literal_eval(exact)) == value, (name, exact, value)
            assert shown == "–" if value is None else close(shown, value), (name, shown, value)
        told += len(got)
    assert told > 200
    assert page.outside == []


def test_no_number_stands_outside_of_a_query(page):
    """Prose says no figure: what is not in a <data>, a chart or a query has no digit of its own."""
    prose = re.sub(
        r"(http\S+|[0-9a-f]{24,64}|\d{4}-\d\d-\d\d \d\d:\d\d|\w*_\w+|MIT|CC0-1.0|5-shingles|About \S+)", "", page.text
    )
    examples = page.blocks["examples"]["text"]
    outside = "".join(line for line in prose.splitlines(True) if line.strip() and line.strip() not in examples)
    assert not re.search(r"\d", outside), re.findall(r".*\d.*", outside)


def test_it_tells_of_its_own_corpus_alone(made, page):
    _, corpus, card = made
    counts = card.answers["counts"].numbers
    assert counts["raw"] == 64
    assert counts["different"] == 62, "two copies"
    assert 62 - 14 <= counts["non_template"] < 62, "forms are made from a template"
    assert counts["kept"] == card.answers["splits"].rows[0]["texts"] + sum(
        r["texts"] for r in card.answers["splits"].rows[1:]
    )
    assert card.answers["tokens"].numbers["tokens"] == 1234 + 56 + 78
    dropped = {row["rule"]: row["texts"] for row in card.answers["dropped"].rows}
    assert dropped["min_words"] >= 4
    assert counts["kept"] + sum(dropped.values()) == counts["raw"]
    assert {row["name"] for row in card.answers["overlaps"].rows} >= {"quiz"}
    assert {row["name"] for row in card.answers["by-license"].rows} == {"MIT", "CC0-1.0"}
    assert {row["name"]: row["found"] for row in card.answers["privacy"].rows}["e-mail addresses"] == 3
    assert "site.example/other" not in page.text
    for query in (block["query"] for block in page.blocks.values()):
        assert corpus.key in query


def test_every_group_has_the_four_counts_and_its_tokens(made):
    answers = made[2].answers
    counts, tokens = answers["counts"].numbers, answers["tokens"].numbers["tokens"]
    for name in ("by-source", "by-lang", "by-kind", "by-license"):
        rows = answers[name].rows
        assert sum(row["collected"] for row in rows) == counts["raw"]
        assert sum(row["kept"] for row in rows) == counts["kept"]
        assert sum(row["tokens"] for row in rows) == tokens
        assert all(row["collected"] >= row["different"] >= row["non_template"] for row in rows)
    notes, texts = sorted(answers["by-source"].rows, key=lambda row: row["name"])
    assert (notes["collected"], notes["different"]) == (14, 14)
    assert notes["non_template"] < 14, "forms are made from a template"
    assert (texts["different"], texts["non_template"]) == (48, 48), "two copies"


def test_without_tokens_no_group_tells_of_them(tmp_path):
    card = make_card(make_corpus(Store(tmp_path), {f"page-{n}": text_of(n) for n in range(8)}, with_tokens=False))
    assert "tokens" not in card.answers["by-lang"].rows[0]
    assert "tokens" not in [column.name for column in card.answers["by-lang"].query.columns]


def test_how_much_of_every_set_is_free_of_overlap(made):
    _, corpus, card = made
    rows = {row["name"]: row for row in card.answers["overlaps"].rows}
    splits = {row["split"]: row["texts"] for row in card.answers["splits"].rows}
    assert set(rows) == {"quiz", "val", "test"}, "also those without any"
    assert {name: rows[name]["of_all"] for name in ("val", "test")} == {name: splits[name] for name in ("val", "test")}
    quiz = rows["quiz"]
    assert (quiz["items"], quiz["of_all"], quiz["free"], quiz["free_share"]) == (1, 3, 2, 2 / 3)
    assert read_parquet(corpus.path / "evaluation_sets.parquet").num_rows == 3


def test_personal_data_are_masked_wherever_they_stand(made):
    page = render_card(made[2])
    assert EMAIL not in page
    assert "firm-of-hers" not in page
    assert "&lt;email&gt;" in page, "in the example that min_words dropped"


def test_it_runs_nothing_and_fetches_nothing(made, tmp_path):
    write_card(tmp_path / "corpus.html", made[2])
    page = (tmp_path / "corpus.html").read_text()
    assert "default-src &#39;none&#39;" in page
    assert not re.search(r"<(script|img|iframe|link rel=\"stylesheet)|\son\w+=|style=\"", page)
    assert len(page) < 400_000


def test_what_texts_say_stays_text(tmp_path):
    evil = "</td><script>alert(1)</script><img src=x onerror=alert(1)>"
    given = {f"page-{n}": text_of(n) for n in range(8)} | {f"x{evil}": f"{evil} few words"}
    card = make_card(make_corpus(Store(tmp_path), given, with_tokens=False), evil)
    page = render_card(card)
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "No tokens were made of it yet." in page


def test_an_artifact_that_is_no_corpus_is_refused(made):
    store, _, _ = made
    with pytest.raises(UserError, match="no corpus"):
        make_card(store.resolve("measure"))


@pytest.mark.slow
def test_a_browser_draws_it(made, tmp_path):
    import shutil

    browser = shutil.which("chromium")
    if not browser:
        pytest.skip("no chromium here")
    write_card(tmp_path / "corpus.html", made[2])
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={tmp_path / 'c.png'}"]
    subprocess.run([*command, (tmp_path / "corpus.html").as_uri()], check=True, capture_output=True, timeout=120)
    assert (tmp_path / "c.png").stat().st_size > 20_000


def test_the_report_of_a_run_leads_to_the_card(tmp_path):
    from dataclasses import replace

    from report_example import make_view

    from lmcore.report.page import render

    view = make_view(tmp_path)
    assert '<a href="corpus.html">its card</a>' in render(replace(view, card="corpus.html"))
    assert "corpus.html" not in render(view)


def test_the_queries_of_the_documentation_are_answered(made):
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "curation" / "card.md").read_text()
    queries = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    assert len(queries) >= 2
    catalog = Catalog(made[0])
    for query in queries:
        assert catalog.query(query).num_rows > 0, query
