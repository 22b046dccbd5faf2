"""kill -9 while feeds and data sets are read: the same bytes, and nothing asked twice but what was in flight."""

import json
import random
import signal
import time
from collections import Counter

import pytest
from frozen_site import FrozenSite, Reply
from helpers_collect import digests, documents, run
from hub_site import HubSite
from test_collect_feed import article, feed_reply, item
from test_collect_feed import source as feed_source
from test_collect_hub import NAME, SHARDS, parquet, stories
from test_collect_hub import source as hub_source
from test_collect_kill import CONCURRENCY, finish, start

ARTICLES = 24


@pytest.fixture(scope="module")
def feed():
    pages = {f"/story/{number}": article(number) for number in range(ARTICLES)}
    with FrozenSite(pages={**pages, "/feed": feed_reply(*map(item, range(ARTICLES)))}, latency=0.01) as site:
        yield site


@pytest.fixture
def hub(monkeypatch):
    with HubSite(latency=0.01) as site:
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        site.commit(NAME, SHARDS)
        yield site


def killed(tmp_path, params, point):
    code, _ = finish(start(tmp_path, params, point))
    assert code == -signal.SIGKILL
    code, output = finish(start(tmp_path, params))
    assert code == 0
    return json.loads(output)["records"]


POINTS = ["collect.page-stored", "collect.page-stored:9", "collect.documents-written", "collect.before-edition"]


@pytest.mark.parametrize(
    "point", [POINTS[1], *(pytest.param(p, marks=pytest.mark.slow) for p in POINTS if p != POINTS[1])]
)
def test_feed_killed_at_a_named_point(tmp_path, feed, point):
    run(tmp_path / "undisturbed", feed_source(feed))
    before = Counter(feed.hits)
    assert killed(tmp_path, feed_source(feed), point) == ARTICLES
    assert digests(tmp_path / "work" / "out") == digests(tmp_path / "undisturbed" / "out")
    asked = Counter(feed.hits) - before
    assert sum(asked[path] - 1 for path in asked if path.startswith("/story/")) <= CONCURRENCY
    assert asked["/feed"] == 1
    assert len({row["record_id"] for row in documents(tmp_path / "work")}) == ARTICLES


POINTS_OF_HUB = ["collect.page-stored", "collect.shard-stored:2", "collect.documents-written", "collect.before-edition"]


@pytest.mark.parametrize(
    "point",
    [POINTS_OF_HUB[1], *(pytest.param(p, marks=pytest.mark.slow) for p in POINTS_OF_HUB if p != POINTS_OF_HUB[1])],
)
def test_hub_killed_at_a_named_point(tmp_path, hub, point):
    run(tmp_path / "undisturbed", hub_source())
    hub.requests.clear()
    hub.asked.clear()
    assert killed(tmp_path, hub_source(), point) == 30
    assert digests(tmp_path / "work" / "out") == digests(tmp_path / "undisturbed" / "out")
    assert all(count == 1 for count in hub.asked.values())
    assert hub.requests[f"/api/datasets/{NAME}/revision/main?blobs=true"] == 1


def test_hub_killed_in_the_middle_of_a_file(tmp_path, hub):
    """It goes on with the byte after the last that came."""
    data = parquet(stories(0, 3000))
    hub.commit(NAME, {"data/train-00000-of-00001.parquet": data})
    run(tmp_path / "undisturbed", hub_source())
    large = next(path for path in hub.requests if path.startswith("/large/"))
    half, held = len(data) // 2, []

    def stall(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.send_header("ETag", f'"{large[7:71]}"')
        handler.end_headers()
        handler.wfile.write(data[:half])
        held.append(True)
        time.sleep(20)

    hub.replies[large] = [Reply(act=stall)]
    process = start(tmp_path, hub_source())
    part = tmp_path / "work" / "downloads"
    while not held or not any(path.stat().st_size >= half for path in part.glob("*.part")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    finish(process)
    del hub.replies[large]
    code, _ = finish(start(tmp_path, hub_source()))
    assert code == 0
    assert hub.headers[large][-1]["Range"] == f"bytes={half}-"
    assert digests(tmp_path / "work" / "out") == digests(tmp_path / "undisturbed" / "out")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["feed", "hub"])
def test_killed_again_and_again_at_random_times(tmp_path, feed, hub, seed, kind):
    draw = random.Random(seed)
    site, params = (feed, feed_source(feed)) if kind == "feed" else (hub, hub_source())
    run(tmp_path / "undisturbed", params)
    kills, code = 0, None
    while code != 0:
        process = start(tmp_path, params)
        requests = sum(site.requests.values())
        while sum(site.requests.values()) == requests and process.poll() is None:
            time.sleep(0.005)
        if kills < 5:
            time.sleep(draw.uniform(0, 0.2) if kills else 0.0)  # the first not later than a fast machine ends
            process.send_signal(signal.SIGKILL)
        code, _ = finish(process)
        kills += code != 0
    assert kills > 0
    assert digests(tmp_path / "work" / "out") == digests(tmp_path / "undisturbed" / "out")
