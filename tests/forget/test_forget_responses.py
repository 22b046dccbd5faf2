"""What servers sent for a page goes with its text."""

import json

import pyarrow as pa
import pytest
from collect.helpers_collect import run, web
from frozen_site import FrozenSite, Reply

from lmcore.collect.editions import load_edition
from lmcore.collect.responses import RESPONSE, RESPONSES
from lmcore.forget.artifacts import drop_collected
from storage.parquet import read_parquet, write_parquet

TEXT = "<p>" + "A page of the site with quite enough words. " * 9 + "</p>"
PAGES = {
    "/": Reply(body=TEXT + '<a href="/a">a</a><a href="/B/../b">b</a>'),
    "/a": Reply(body=TEXT + "<p>The secret of A.</p>"),
    "/b": Reply(302, headers={"Location": "/c"}),
    "/c": Reply(body=TEXT + "<p>The secret of C.</p>"),
}


@pytest.fixture
def collected(tmp_path):
    with FrozenSite(pages=dict(PAGES)) as site:
        run(tmp_path / "work", web(site))
        return site.url, tmp_path / "work" / "out"


def drop(out, target, url):
    rows = {row["record_id"]: row for row in load_edition(out, None).to_pylist() if row["url"] == url}
    assert rows
    drop_collected(out, target, set(rows), rows)
    return [row for path in sorted((target / RESPONSES).glob("*.parquet")) for row in read_parquet(path).to_pylist()]


@pytest.mark.parametrize(("page", "secret"), [("/a", b"secret of A"), ("/c", b"secret of C")])
def test_the_answer_of_a_page_goes_and_the_others_stay(collected, tmp_path, page, secret):
    site, out = collected
    rows = drop(out, tmp_path / "target", site + page)
    assert len(rows) == 2
    assert all(secret not in row["body"] for row in rows)


def test_where_texts_came_together_all_answers_go(collected, tmp_path):
    site, out = collected
    (path,) = (out / RESPONSES).glob("*.parquet")
    file = dict.fromkeys(RESPONSE.names, "") | {"url": f"{site}/x.zip", "held_by": None, "body": None}
    answer = file | {"url": f"{site}/api?titles=A|C", "digest": "d", "body": json.dumps({"A": "secret of A"}).encode()}
    write_parquet(path, pa.Table.from_pylist([file, answer], schema=RESPONSE))
    assert [row["url"] for row in drop(out, tmp_path / "target", f"{site}/a")] == [f"{site}/x.zip"]
