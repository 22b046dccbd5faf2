"""kill -9 anywhere, run again: the same bytes, and no page asked for twice but those in flight."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from frozen_site import FrozenSite, Reply
from helpers_collect import digests, documents, run, web

from storage.atomic import FAULT_VARIABLE

JOB = Path(__file__).with_name("collect_job.py")
CONCURRENCY = 4


@pytest.fixture(scope="module")
def site():
    with FrozenSite(latency=0.02) as site:
        # A page that fails at first must not be counted as a page asked for twice.
        site.replies["/section/1"].insert(0, Reply(503, headers={"Retry-After": "0"}))
        yield site


@pytest.fixture(scope="module")
def undisturbed(site, tmp_path_factory):
    work = tmp_path_factory.mktemp("undisturbed")
    run(work, web(site), concurrency=CONCURRENCY)
    return digests(work / "out")


def start(tmp_path, params, fault=None, articles=(), **more):
    job = {
        "work": str(tmp_path / "work"),
        "edition": "first",
        "params": params.model_dump(mode="json"),
        "runtime": {"concurrency": CONCURRENCY},
        "articles": [str(folder) for folder in articles],
        **more,
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    if fault:
        environment[FAULT_VARIABLE] = fault
    return subprocess.Popen(
        [sys.executable, str(JOB), str(tmp_path / "job.json")], env=environment, stdout=subprocess.PIPE, text=True
    )


def finish(process):
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def check(tmp_path, site, before, undisturbed, kills):
    """The bytes are those of a run that nobody disturbed; a kill costs at most what was in flight."""
    assert digests(tmp_path / "work" / "out") == undisturbed
    asked = Counter(site.hits) - before
    assert len(asked) == 61
    assert asked["/robots.txt"] <= 1 + kills
    again = sum(count - 1 for path, count in asked.items() if path != "/robots.txt")
    assert again <= CONCURRENCY * kills
    rows = documents(tmp_path / "work")
    assert len({row["record_id"] for row in rows}) == len(rows) == 60


POINTS = [
    "collect.level-opened",
    "collect.level-opened:3",
    "collect.page-stored",
    "collect.page-stored:25",
    "collect.page-done:9",
    "collect.before-documents",
    "collect.documents-written",
    "parquet.write:3",
    "collect.before-edition",
    "atomic.write.before-rename",
]
FAST = {"collect.page-stored:25", "collect.documents-written"}


@pytest.mark.parametrize("point", [p if p in FAST else pytest.param(p, marks=pytest.mark.slow) for p in POINTS])
def test_killed_at_a_named_point(tmp_path, site, undisturbed, point):
    before = Counter(site.hits)
    code, _ = finish(start(tmp_path, web(site), point))
    assert code == -signal.SIGKILL
    code, output = finish(start(tmp_path, web(site)))
    assert code == 0
    assert json.loads(output)["records"] == 60
    check(tmp_path, site, before, undisturbed, 1)


@pytest.mark.slow
def test_killed_again_and_again_at_random_times(tmp_path, site, undisturbed, seed):
    draw = random.Random(seed)
    before, kills = Counter(site.hits), 0
    while kills < 40:
        process = start(tmp_path, web(site))
        requests = sum(site.requests.values())
        # Importing takes most of the time of a run this small: the clock starts with the first request.
        while sum(site.requests.values()) == requests and process.poll() is None:
            time.sleep(0.005)
        # The pages alone take 0.3 s, so the first is killed; and a slow machine comes to the end some time.
        time.sleep(draw.uniform(0, 0.3 if not kills else 0.4 * (1 + kills / 4)))
        process.send_signal(signal.SIGKILL)
        code, _ = finish(process)
        if code == 0:
            break
        kills += 1
    assert code == 0
    assert kills > 0
    check(tmp_path, site, before, undisturbed, kills)


def test_killed_while_reading_files(tmp_path):
    from helpers_collect import FilesSource

    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02d}.jsonl").write_text(
            "".join(json.dumps({"text": f"{number} {row}"}) + "\n" for row in range(600))
        )
    params = FilesSource(name="files", base=str(folder), paths=("*.jsonl",))
    code, _ = finish(start(tmp_path, params, "collect.documents-written:2"))
    assert code == -signal.SIGKILL
    code, _ = finish(start(tmp_path, params))
    assert code == 0
    run(tmp_path / "undisturbed", params)
    assert digests(tmp_path / "work" / "out") == digests(tmp_path / "undisturbed" / "out")


def test_full_disk_is_an_error_and_not_a_loss(tmp_path, site, undisturbed):
    code, _ = finish(start(tmp_path, web(site), "parquet.write=enospc"))
    assert code == 1
    code, _ = finish(start(tmp_path, web(site)))
    assert code == 0
    assert digests(tmp_path / "work" / "out") == undisturbed


MAKING = ["collect.documents-written:2", "collect.before-documents", "collect.before-edition"]


@pytest.mark.parametrize("point", [MAKING[0], *(pytest.param(p, marks=pytest.mark.slow) for p in MAKING[1:])])
def test_killed_while_making_texts(tmp_path, point):
    from helpers_collect import FilesSource

    from lmcore.collect.synthetic.params import SyntheticSource

    rows = [{"title": "Duna", "text": f"A Duna nagy. A Duna {n} éve folyik. Szép. Mély. " * 5} for n in range(20)]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    run(tmp_path / "articles", FilesSource(name="wiki", base=str(tmp_path), paths=("a.jsonl",), lang="hu"))
    made_of = [tmp_path / "articles" / "out"]
    params = SyntheticSource(name="made", sentences=5_100, translations=50, **{"from": ("wiki",)})
    code, _ = finish(start(tmp_path, params, point, made_of))
    assert code == -signal.SIGKILL
    code, output = finish(start(tmp_path, params, articles=made_of))
    assert code == 0
    run(tmp_path / "undisturbed", params, articles=made_of)
    assert digests(tmp_path / "work" / "out") == digests(tmp_path / "undisturbed" / "out")
    assert json.loads(output)["records"] == 5_100 + 100 + 80
