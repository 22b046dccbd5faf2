"""The page of a corpus in Prefect: the figures of its card, with masked examples."""

import pytest
from corpus_store import EMAIL, whole_store
from prefect import flow
from prefect.client.orchestration import get_client

from lmcore.report.corpus_card import make_card
from tasks.prefect_ui import showing
from tasks.ui_pages import show_corpus

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_it_tells_all_four_counts_copies_overlaps_and_examples(tmp_path):
    _, corpus = whole_store(tmp_path)

    @flow(persist_result=False)
    def looks():
        with showing("demo"):
            show_corpus(corpus.local(), "")

    run = looks(return_state=True).state_details.flow_run_id
    with get_client(sync_client=True) as client:
        (page,) = [a.data for a in client.read_artifacts() if a.flow_run_id == run]
    counts = make_card(corpus).answers["counts"].numbers
    assert page.startswith(f"## {counts['kept']} of 64 texts kept")
    plain = page.replace("\\", "")
    for line in (
        "| collected | 64 |",
        "| unique | 62 (96.9 %) |",
        f"| unique, no template | {counts['non_template']} (",
        f"| kept | {counts['kept']} (",
        "| all | 1,368 |",
        "| prose | 64 |",
        "| MIT | ",
        "| exact copies dropped | 2 |",
        "| quiz | 1 |",
        "### Examples of what was dropped",
        "min_words measured ",
    ):
        assert line in plain, line
    assert EMAIL not in page
    assert "Ask <email> or" in page or "Only a few words, number" in page
