"""The pages of finished artifacts and of a training that goes on, on a real server, read as Prefect renders them."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from markdown_it import MarkdownIt
from prefect import flow
from prefect.client.orchestration import get_client

from tasks import ui_training
from tasks.prefect_ui import showing
from tasks.ui_pages import show_collection, show_corpus, show_evaluation, show_tokenizer, show_training
from tasks.ui_training import TrainingPages

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
import itertools

from report_example import make_view

pytestmark = pytest.mark.usefixtures("prefect_server")

MARKDOWN = MarkdownIt("commonmark").enable("table")
BARE = re.compile(r"(?:https?|ftp)://|www\.|(?<!\\)@", re.IGNORECASE)
EVIL = "`` ```\n</td><img src=http://evil/x onerror=alert(1)>\n````[a](javascript:x) ![b](http://evil/p.png)|**c**|www.evil.com"


def shown(work):
    """Run `work()` in a flow of the recipe `demo`; gives the pages of that run by key."""

    @flow(persist_result=False)
    def looks():
        with showing("demo"):
            work()

    run = looks(return_state=True).state_details.flow_run_id
    with get_client(sync_client=True) as client:
        return {a.key: a.data for a in client.read_artifacts() if a.flow_run_id == run}


def tokens(markdown):
    for token in MARKDOWN.parse(markdown):
        yield token
        yield from token.children or ()


def cells(markdown):
    found = list(MARKDOWN.parse(markdown))
    return [
        "".join(part.content for part in inside.children)
        for before, inside in itertools.pairwise(found)
        if before.type in ("td_open", "th_open")
    ]


def svg(markdown):
    """The picture of a page."""
    (data,) = re.findall(r"\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", markdown)
    return ET.fromstring(base64.b64decode(data))


def all_pages(view):
    def work():
        show_corpus(view.curate, "")
        show_tokenizer(view.tokenizer, "")
        show_training(view.train, "")
        show_evaluation(view.evaluate, "")
        show_evaluation(view.evaluate, " champion")

    return shown(work)


def test_what_was_collected(tmp_path):
    """Of a source with good, short and bad files; a row for each outcome, with the first reason."""
    from lmcore.collect.params import CollectRuntime, FilesSource
    from lmcore.collect.source import collect
    from lmcore.progress import silent

    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(3):
        (texts / f"{number}.txt").write_text(f"A text of some length, number {number}.")
    (texts / "jane.roe@firm-of-hers.com.txt").write_text("No.")
    (texts / "rows.jsonl").write_text('{"text": "A row that is long enough."}\n{broken\n{"title": "no text"}\n')
    (texts / "evil<img src=x>|@.json.gz").write_bytes(b"no gzip")
    collect(
        tmp_path / "work", edition="e", parent=None, parent_digest=None, locate=Path, report=silent,
        params=FilesSource(name="notes", base=str(texts), paths=("*",), min_chars=10), runtime=CollectRuntime(),
    )  # fmt: skip
    pages = shown(lambda: show_collection(tmp_path / "work" / "out", " notes"))
    (page,) = pages.values()
    assert set(pages) == {"demo-collection-notes"}
    assert page.startswith("## notes\\: 4 texts")
    told = cells(page)
    for row in (
        ["new", "4"], ["removed", "0"], ["unique", "4"],
        ["ok", "4", "4", "", ""],
        ["bad_rows", "2"],
        ["short", "1", "1", "too little text", "file:<email>.txt"],
        ["unknown_format", "1"],
        ["und", "4"],
    ):  # fmt: skip
        assert any(told[place : place + len(row)] == row for place in range(len(told))), (row, told)
    assert not [token for token in tokens(page) if token.type in ("html_inline", "html_block", "link_open", "image")]
    assert "firm-of-hers" not in page


def test_what_they_say(tmp_path):
    pages = all_pages(make_view(tmp_path))
    assert set(pages) == {
        "demo-corpus", "demo-vocabulary", "demo-loss-curve", "demo-samples", "demo-evaluation",
        "demo-evaluation-champion",
    }  # fmt: skip
    corpus = cells(pages["demo-corpus"])
    assert pages["demo-corpus"].startswith("## 500 of 571 texts kept\\, 8\\.2 MB")
    for row in (
        ["exact_duplicate", "38", "6.7 %"],
        ["pydoc", "541", "480", "89 %", "8 MB"],
        ["train", "400", "6.9 MB"],
    ):
        assert row[0] in corpus
        place = corpus.index(row[0])
        assert corpus[place : place + len(row)] == row
    assert "kept" in corpus
    assert corpus[-4:] == ["dropped share", "0.12", "0.1", "no"]
    assert "··def·__init__" in pages["demo-vocabulary"]
    evaluation = cells(pages["demo-evaluation"])
    assert evaluation[3:9] == [
        "1.774",
        "n-gram of 6 bytes",
        "not beaten",
        "1.791",
        "this model",
        "95 % interval 1.750 to 1.834",
    ]
    assert "It needs fewer bits than xz" in pages["demo-evaluation"]
    assert "import ▸  os, sys and the functions" in pages["demo-evaluation"]
    assert pages["demo-samples"].index("### After step 900") < pages["demo-samples"].index("### After step 0")
    picture = svg(pages["demo-loss-curve"])
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}polyline"))) == 2, "training and validation"
    assert len(pages["demo-loss-curve"]) < 20_000, "whatever the number of steps"


def test_texts_that_are_not_ours_stay_texts(tmp_path):
    pages = all_pages(make_view(tmp_path, text=lambda plain: EVIL + plain))
    assert len(pages) == 6
    for key, page in pages.items():
        kinds = {token.type for token in tokens(re.sub(r"!\[loss curve\]\(data:[^)]+\)", "", page))}
        assert not kinds & {"html_inline", "html_block", "link_open", "image", "code_inline", "em_open"}, key
        outside = "".join(token.content for token in MARKDOWN.parse(page) if token.type == "inline")
        assert not BARE.search(outside.replace("data:image", "")), key


LINES = [
    {"event": "plan", "text": "plan", "plan": {"step_seconds": 0.1}},
    {"event": "training", "text": "training for 100 steps, 0% done", "step": 0},
    {"event": "validation", "text": "", "step": 0, "bits_per_byte": 8.0},
    {"event": "sample", "text": "", "step": 0, "progress": 0.0, "prompt": "The", "continuation": "zzz"},
]


def step(number, bits=2.0):
    return {
        "step": number, "progress": number / 100, "tokens": number * 100, "seconds": number * 1.0, "loss": 1.5,
        "bits_per_byte": bits, "lr": 0.1, "eta_seconds": 100.0 - number, "tokens_per_second": 99.0,
    }  # fmt: skip


def test_a_training_is_followed_as_it_goes_on(monkeypatch):
    seen = []

    def look():
        with get_client(sync_client=True) as client:
            found = [a for a in client.read_artifacts() if a.key == "live-loss-curve"]
        seen.append(found)

    @flow(persist_result=False)
    def live():
        with showing("live"):
            pages = TrainingPages([])
            pages.tell(LINES)
            look()
            pages.tell([step(1), step(2)])
            look()
            pages.tell([step(3)])
            look()
            monkeypatch.setattr(ui_training, "SHOW_SECONDS", 0.0)
            pages._next = 0.0
            pages.tell([step(4, None), {"event": "resumed", "text": "resuming <b>at</b> step 2", "step": 2}])
            look()

    live()
    assert seen[0] == [], "nothing to draw yet"
    assert seen[1][0].data == seen[2][0].data, "not more often than every five seconds"
    assert seen[3][0].id == seen[1][0].id, "changed in place"
    assert seen[3][0].data != seen[1][0].data
    assert seen[3][0].data.startswith("## Training\\, 4 \\% done")
    assert "resuming \\<b\\>at\\<\\/b\\> step 2" in seen[3][0].data


def test_what_is_done_again_is_drawn_once():
    before = [
        *LINES, step(1), step(2), {**LINES[2], "step": 2}, step(3), {**LINES[3], "step": 3}, step(4),
        {"event": "training", "text": "", "step": 2},
    ]  # fmt: skip
    pages = TrainingPages(before)
    pages.tell([step(3, 1.0), step(4, 1.0)])
    assert (pages._steps, pages._bits) == ([1, 2, 3, 4], [2.0, 2.0, 1.0, 1.0])
    assert [look[0] for look in pages._looks] == [0, 2]
    assert [sample["step"] for sample in pages._written] == [0]
    pages.tell([{"event": "training", "text": "", "step": 0}])
    assert (pages._steps, pages._looks, pages._written) == ([], [], [])


def test_nothing_is_shown_outside_a_run(tmp_path):
    show_corpus(make_view(tmp_path).curate, "")
    TrainingPages([]).tell([*LINES, step(1)], last=True)
