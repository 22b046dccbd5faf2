"""kill -9 while a wiki or a dump is read, run again: the same bytes, and hardly anything asked for or read twice."""

import json
import random
import signal
import time

import pytest
from helpers_collect import digests, documents, run
from test_collect_kill import CONCURRENCY, finish, start
from test_collect_wiki_dumps import write_dump
from test_collect_wikipedia import source, text
from wiki_server import WikiServer

from lmcore.collect.wikipedia import WikipediaSource

PAGES = 130


@pytest.fixture(scope="module")
def wiki():
    with WikiServer(latency=0.005) as wiki:
        for number in range(PAGES):
            wiki.put(f"P{number:03d}", text(f"P{number}"), categories=[f"C{number % 7}"])
        yield wiki


def given(wiki, way):
    if way == "random":  # other pages in each run: the others are compared with what the same draw gives
        return source(wiki, random=PAGES, extractor="wikitext")
    return source(wiki, all_pages=True, extractor=way)


@pytest.fixture(scope="module")
def undisturbed(wiki, tmp_path_factory):
    found = {}
    for way in ("extracts", "wikitext", "random"):
        work = tmp_path_factory.mktemp(way)
        run(work, given(wiki, way), concurrency=CONCURRENCY)
        found[way] = digests(work / "out")
    return found


def check(tmp_path, wiki, expected, kills):
    assert digests(tmp_path / "work" / "out") == expected
    rows = documents(tmp_path / "work")
    assert len({row["record_id"] for row in rows}) == len(rows) == PAGES
    # Texts come fifty at a time at most, and so many answers are on their way at once.
    assert sum(count - 1 for count in wiki.texts.values()) <= 50 * CONCURRENCY * kills


POINTS = [
    ("extracts", "collect.page-stored"),
    ("extracts", "collect.page-stored:40"),
    ("extracts", "wikipedia.pages-stored:2"),
    ("wikitext", "collect.page-stored:6"),
    ("wikitext", "wikipedia.pages-stored"),
    ("wikitext", "collect.before-documents"),
    ("wikitext", "collect.documents-written"),
    ("random", "collect.page-stored:2"),
    ("random", "collect.before-edition"),
]
FAST = {("extracts", "wikipedia.pages-stored:2"), ("random", "collect.page-stored:2")}


@pytest.mark.parametrize(
    ("way", "point"), [p if p in FAST else pytest.param(*p, marks=pytest.mark.slow) for p in POINTS]
)
def test_killed_at_a_named_point(tmp_path, wiki, undisturbed, way, point):
    wiki.texts.clear()
    wiki.requests.clear()
    code, _ = finish(start(tmp_path, given(wiki, way), point))
    assert code == -signal.SIGKILL
    code, output = finish(start(tmp_path, given(wiki, way)))
    assert code == 0
    assert json.loads(output)["records"] == PAGES
    check(tmp_path, wiki, undisturbed[way], 1)
    assert len(wiki.asked(list="random")) == (way == "random"), "what was drawn is not drawn again"


@pytest.mark.slow
def test_killed_again_and_again_at_random_times(tmp_path, wiki, undisturbed, seed):
    draw = random.Random(seed)
    wiki.texts.clear()
    kills = 0
    while kills < 40:
        requests = len(wiki.requests)
        process = start(tmp_path, given(wiki, "extracts"))
        while len(wiki.requests) == requests and process.poll() is None:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.4 * (1 + kills / 4)))  # a slow machine comes to the end some time
        process.send_signal(signal.SIGKILL)
        code, _ = finish(process)
        if code == 0:
            break
        kills += 1
    assert code == 0
    check(tmp_path, wiki, undisturbed["extracts"], kills)


def dumps(folder, kind):
    folder.mkdir(exist_ok=True)
    pages = [(f"P{number:04d}", text(f"P{number}") * 3) for number in range(900)]
    write_dump(folder / "xxwiki-pages-articles.xml.bz2", pages, streams=9 if kind == "multistream" else 1)
    return WikipediaSource(name="dump", base=str(folder), paths=("*.bz2",))


@pytest.mark.parametrize(
    ("kind", "point"),
    [
        ("multistream", "wikipedia.pages-stored:3"),
        pytest.param("one stream", "wikipedia.pages-stored:2", marks=pytest.mark.slow),
        pytest.param("multistream", "wikipedia.pages-stored:5", marks=pytest.mark.slow),
        pytest.param("multistream", "collect.before-documents", marks=pytest.mark.slow),
    ],
)
def test_a_dump_goes_on_where_it_was(tmp_path, kind, point):
    params = dumps(tmp_path / "dumps", kind)
    run(tmp_path / "undisturbed", params)
    code, _ = finish(start(tmp_path, params, point))
    assert code == -signal.SIGKILL
    code, output = finish(start(tmp_path, params))
    assert code == 0
    assert json.loads(output)["records"] == 900
    assert digests(tmp_path / "work" / "out") == digests(tmp_path / "undisturbed" / "out")


@pytest.mark.slow
def test_a_dump_killed_at_random_times(tmp_path, seed):
    draw = random.Random(seed)
    params = dumps(tmp_path / "dumps", draw.choice(["multistream", "one stream"]))
    run(tmp_path / "undisturbed", params)
    kills, code = 0, 1
    while kills < 40 and code:
        process = start(tmp_path, params)
        while not (tmp_path / "work" / "pages.sqlite").exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 1 + kills / 5))
        process.send_signal(signal.SIGKILL)
        code, _ = finish(process)
        kills += 1
    assert code == 0
    assert digests(tmp_path / "work" / "out") == digests(tmp_path / "undisturbed" / "out")


def test_a_full_disk_is_an_error_and_not_a_loss(tmp_path, wiki, undisturbed):
    code, _ = finish(start(tmp_path, given(wiki, "wikitext"), "parquet.write=enospc"))
    assert code == 1
    code, _ = finish(start(tmp_path, given(wiki, "wikitext")))
    assert code == 0
    assert digests(tmp_path / "work" / "out") == undisturbed["wikitext"]
