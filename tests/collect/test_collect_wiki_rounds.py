"""Wikis: rounds of a target, wikis that never end, equal titles, pages without a name, and answers of two hosts."""

import pyarrow as pa
import pytest
from helpers_collect import documents, log, run
from test_collect_damaged_parent import FAST, TEXT
from test_collect_unchanged import Editions
from wiki_server import WikiServer

from lmcore.collect import responses, wikipedia_api
from lmcore.collect.responses import RESPONSE, RESPONSES, Before
from lmcore.collect.wikipedia import Wiki, WikipediaSource
from lmcore.progress import silent
from storage.atomic import write_json
from storage.errors import RunError
from storage.parquet import write_parquet


@pytest.fixture
def wiki():
    with WikiServer() as wiki:
        for number in range(30):
            wiki.put(f"P{number:02d}", TEXT.format(f"P{number}"))
        yield wiki


def source(wiki, **params):
    return WikipediaSource(**{"name": "wiki", "site": wiki.api, **FAST, **params})


@pytest.mark.parametrize("budget", ["random", "max_pages"])
def test_a_round_asks_for_no_text_that_the_round_before_was_sent(tmp_path, wiki, budget):
    given = source(wiki, **{"all_pages": budget == "max_pages", budget: 10})
    editions = Editions(tmp_path, given)
    editions.make(given)
    first = set(wiki.texts)
    wiki.texts.clear()
    editions.make(given.model_copy(update={budget: 20}))
    assert len(first) == len(wiki.texts) == 10
    assert not first & set(wiki.texts)
    assert len(editions.texts()) == 20


def test_other_settings_ask_for_all_texts(tmp_path, wiki):
    editions = Editions(tmp_path, source(wiki, all_pages=True, max_pages=10))
    editions.make()
    wiki.texts.clear()
    editions.make(source(wiki, all_pages=True, max_pages=10, min_chars=41))
    assert len(wiki.texts) == 10


def test_a_wiki_that_goes_on_for_ever_is_left(tmp_path, wiki, monkeypatch):
    monkeypatch.setattr(wikipedia_api, "MAX_CONTINUED", 5)
    answer, count = wiki.answer, iter(range(10**9))

    def endless(asked):
        found = answer(asked)
        return found | {"continue": {"clcontinue": str(next(count))}} if "pageids" in asked else found

    wiki.answer = endless
    with pytest.raises(RunError, match="continues more than 5 times"):
        run(tmp_path, source(wiki, all_pages=True))


def test_equal_titles_are_asked_for_once(tmp_path, wiki):
    run(tmp_path, source(wiki, titles=("P01",) * 100 + ("P02",) * 100))
    assert sorted(row["title"] for row in documents(tmp_path)) == ["P01", "P02"]
    assert len(wiki.asked(redirects="1")) == 1


def test_a_deleted_page_is_named_by_its_number(tmp_path, wiki):
    answer = wiki.answer

    def deletes(asked):
        if asked.get("pageids"):
            wiki.pages.pop(5, None)
        return answer(asked)

    wiki.answer = deletes
    run(tmp_path, source(wiki, all_pages=True))
    (row,) = (row for row in log(tmp_path) if row["outcome"] == "missing")
    assert row["url"].endswith("/wiki/?curid=5")
    assert Wiki(prefix="https://x.org/wiki/").url_of(None, 7) == "https://x.org/wiki/?curid=7"


def test_bodies_of_several_hosts_in_turn_are_read_once(tmp_path, monkeypatch):
    """Counts the files that are unpacked: that is the cost, and no clock says it as surely."""
    body = b"x" * 10_000
    facts = dict.fromkeys(RESPONSE.names, "") | {"held_by": None, "digest": "d", "body": body, "etag": "e"}
    for file in range(3):
        rows = [facts | {"url": f"http://h{file}/{n}"} for n in range(20)]
        write_parquet(tmp_path / RESPONSES / f"{file:05d}.parquet", pa.Table.from_pylist(rows, schema=RESPONSE))
    write_json(tmp_path / "edition.json", {"edition": "one", "source": "x", "parent": None, "depth": 0})
    opened = []
    read = responses.read_parquet

    def counting(path, columns=None):
        opened.extend([path.name] * (columns == ["body"]))
        return read(path, columns)

    monkeypatch.setattr(responses, "read_parquet", counting)
    turns = [f"http://h{file}/{n}" for n in range(20) for file in range(3)]
    before = Before(tmp_path, "d0", None, "", "one", silent)
    assert all(before.body(url) == body for url in turns)
    assert len(opened) == 3
    opened.clear()
    monkeypatch.setattr(responses, "BYTES_OPEN", 450_000)  # two files of 200 kB: the third drives out the first
    before = Before(tmp_path, "d0", None, "", "one", silent)
    assert all(before.body(url) == body for url in turns)
    assert len(opened) == 60
