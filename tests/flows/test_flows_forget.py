"""`collect-train forget` on the store of real runs: what it says, what is left, and what the next run does."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import time

import pyarrow.parquet as pq
import pytest
from helpers_flows import (
    bytes_and_times,
    collect,
    digests,
    finish,
    frozen_site,
    start,
    states,
    web_source,
    write_recipe,
)

from flows.start import learnt_before
from lmcore.collect.editions import load_edition
from storage.parquet import read_parquet
from storage.registry import Registry
from storage.store import STAGES, Store
from storage.tombstones import read_tombstones

WEIGHTS = (".safetensors", ".bin")


def test_a_store_that_is_not_there_and_one_that_knows_nothing(tmp_path):
    what, _ = collect("forget", "http://s/1", store=tmp_path / "none", code=2).error
    assert "there is no store at" in what
    (tmp_path / "empty").mkdir()
    what, mend = collect("forget", "http://s/1", "--yes", store=tmp_path / "empty", code=2).error
    assert "holds no text of 'http://s/1'" in what
    assert "collect-train why" in mend
    assert not (tmp_path / "empty" / "tombstones.json").exists()


@pytest.fixture(scope="module")
def site():
    with frozen_site() as site:
        yield site


@pytest.fixture(scope="module")
def recipe(site, tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("recipe"), web_source(site.url))


@pytest.fixture(scope="module")
def first(recipe, shared_server, tmp_path_factory):
    """Two editions; the release of the first is champion, the second reuses it."""
    store = tmp_path_factory.mktemp("first") / "store"
    for settings in ((), ("--edition", "new")):
        collect("run", recipe, *settings, store=store, env=shared_server)
    return store


@pytest.fixture
def copy(first, tmp_path):
    return shutil.copytree(first, tmp_path / "store")


@pytest.fixture
def page(first):
    """URL of a page that was trained on, and the long lines that no other page has; of the page with most of them."""
    curated = next(a.path for a in Store(first).artifacts("curate"))
    texts = {r["url"]: r["text"] for file in curated.glob("*/0*.parquet") for r in read_parquet(file).to_pylist()}
    trained = {r["url"] for file in curated.glob("train/0*.parquet") for r in read_parquet(file).to_pylist()}

    def own(url):
        others = "\n".join(text for other, text in texts.items() if other != url)
        lines = (line.strip() for line in texts[url].splitlines() if len(line.split()) > 8)
        return [line for line in lines if line not in others]

    url = max(sorted(trained), key=lambda url: len(own(url)))
    assert len(own(url)) > 3
    return url, own(url)


def places_of(store, lines):
    """Files of a store in which one of these lines stands, whatever kind of file it is."""
    found = []
    for path in sorted(path for path in store.rglob("*") if path.is_file()):
        told = path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".parquet":
            rows = pq.read_table(path).to_pylist()
            told = "\n".join(str(value) for row in rows for value in row.values())
        elif told.startswith("SQLite format 3"):
            with sqlite3.connect(path) as base:
                told += "\n".join(base.iterdump())
        told = told.replace("\\n", "\n").replace('\\"', '"')
        if any(line in told for line in lines):
            found.append(str(path.relative_to(store)))
    return found


@pytest.mark.slow
def test_without_yes_it_says_everything_and_changes_nothing(copy, page):
    url, lines = page
    assert {name.partition("/")[0] for name in places_of(copy, lines)} == {"collect", "measure", "curate"}
    before = bytes_and_times(copy)
    done = collect("forget", url, store=copy)
    assert bytes_and_times(copy) == before
    assert not (copy / "tombstones.json").exists()
    held = Store(copy).artifacts("collect", "measure", "curate", "tokens")
    for artifact in (a for a in held if a.metrics.get("records") != 0):  # the second edition has nothing of its own
        assert f"  {artifact.stage}/{artifact.key}\n" in done.out
    (model,), (exported,), (words,) = (list(Store(copy).artifacts(s)) for s in ("train", "export", "tokenizer"))
    for line in ("release tiny@1 (champion)", f"train/{model.key}", f"export/{exported.key}", f"tokenizer/{words.key}"):
        assert f"  {line}\n" in done.out
    assert "nothing has been changed" in done.out


@pytest.mark.slow
def test_the_page_is_gone_and_the_next_runs_build_without_it(copy, page, site, recipe, shared_server):
    url, lines = page
    old = digests(copy)
    (model,) = Store(copy).artifacts("train")
    newest = max(Store(copy).artifacts("collect"), key=lambda a: a.manifest.provenance.finished)
    figures = newest.metrics
    assert "nothing of it is left" in collect("forget", url, "--yes", store=copy).out
    assert newest.metrics["records"] == figures["records"] - 1
    (shards,) = Store(copy).artifacts("tokens")
    splits = json.loads(shards.file("meta.json").read_text())["splits"]
    assert shards.metrics["tokens_train"] == splits["train"]["tokens"]
    assert shards.metrics["bytes"] == sum(split["bytes"] for split in splits.values())
    assert places_of(copy, lines) == []
    assert collect("verify", store=copy).code == 0
    assert re.search(r"rule +│ forgotten", collect("why", url, store=copy).out)
    assert Registry(copy).champion("tiny").number == 1
    assert collect("generate", "tiny", "The", "--max-tokens", "4", store=copy).out
    # The corpora of the champion are still known as its own: what it has learnt can be told from what it has not.
    told = []
    others = learnt_before(Store(copy), model, newest, told.append)
    assert told == []
    assert len(others) == 1

    hits = sum(site.hits.values())
    done = collect("run", recipe, store=copy, env=shared_server)
    assert states(done) == {"collect": "Reused"} | dict.fromkeys(STAGES[1:], "Completed")
    assert sum(site.hits.values()) == hits, "nothing was asked again"
    assert places_of(copy, lines) == []
    new = digests(copy)
    assert all(set(new[stage]) - set(old[stage]) for stage in STAGES if stage != "compare")  # that may find the same
    assert states(collect("run", recipe, store=copy, env=shared_server)) == dict.fromkeys(STAGES, "Reused")

    done = collect("run", recipe, "--edition", "new", "--until", "curate", store=copy, env=shared_server)
    assert states(done)["collect"] == "Completed"
    assert sum(site.hits.values()) > hits
    assert places_of(copy, lines) == []
    third = max(Store(copy).artifacts("collect"), key=lambda a: a.manifest.provenance.finished)
    assert third.metrics["records"] == figures["records"] - 1
    assert third.metrics["new"] == 0, "the others are still those of the first edition"
    texts = load_edition(third.path, lambda digest: Store(copy).by_digest(digest, "collect").path)
    assert url not in texts["url"].to_pylist()
    log = read_parquet(third.path / "provenance" / "fetch_log.parquet", ["url", "outcome"]).to_pylist()
    assert {row["outcome"] for row in log if row["url"] == url} == {"forgotten"}
    assert collect("verify", store=copy).code == 0

    done = collect("forget", url, "--yes", store=copy)
    assert "nothing of it is in the store" in done.out
    assert f"train/{model.key}" in done.out, "who learnt from it is still known"


@pytest.mark.slow
def test_what_a_model_said_is_blotted_in_samples_reports_and_logs(copy, page, recipe, shared_server):
    """The tiny model can say nothing by heart, so it is made to: by hand, and the manifest with it."""
    from storage.rewrite import rewrite

    url, lines = page
    store = Store(copy)
    judged = next(store.artifacts("evaluate"))
    samples = json.loads(judged.file("samples.json").read_text())
    samples[0]["text"] = f"and so {lines[1]}"
    rewrite(judged.path, lambda _, target: (target / "samples.json").write_text(json.dumps(samples)) and None)
    (run, _) = sorted((copy / "runs").iterdir())
    report = run / "report.html"
    report.write_text(report.read_text().replace("</body>", f"<pre>{lines[1]}</pre></body>"))
    with open(run / "run.log", "a") as log:
        log.write(f"2026-01-01T00:00:00Z  the model says: {lines[2]}\n")
    dry = collect("forget", url, store=copy).out
    for name in ("samples.json", "report.html", "run.log"):
        assert re.search(rf"^  \S*{re.escape(name)}$", dry, re.M), name
    collect("forget", url, "--yes", store=copy)
    assert places_of(copy, lines) == []
    assert json.loads(judged.file("samples.json").read_text())[0]["text"].startswith("and so xxx")
    assert collect("verify", store=copy).code == 0
    (exported,) = store.artifacts("export")
    assert exported.manifest.provenance.inputs[1].digest in judged.digests


@pytest.mark.slow
def test_it_waits_for_nobody_and_says_who_is_in_the_way(copy, page, recipe, shared_server):
    url, lines = page
    process = start("run", recipe, "--set", "train.steps=100000", store=copy, env=shared_server)
    try:
        until = time.monotonic() + 280
        while not list(copy.glob(".work/train-*/progress.jsonl")):
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.1)
        what, mend = collect("forget", url, "--yes", store=copy, code=1).error
        assert f"is in use (process {process.pid} builds train)" in what
        assert "run the same command again" in mend
        assert read_tombstones(copy) == ()
        assert collect("forget", url, store=copy).code == 0, "to look is always possible"
    finally:
        process.terminate()
        finish(process)
    done = collect("forget", url, "--yes", store=copy)
    assert "an unfinished training on tokens that held it" in done.out
    assert not list(copy.glob(".work/train-*"))
    assert places_of(copy, lines) == []


@pytest.mark.slow
def test_a_crawl_that_was_killed_after_it_holds_nothing_of_the_page(copy, page, recipe, shared_server):
    url, lines = page
    collect("forget", url, "--yes", store=copy)
    for point in ("collect.before-documents", "collect.before-edition"):
        env = shared_server | {"COLLECT_TRAIN_FAULT": point}
        collect("run", recipe, "--edition", "later", store=copy, env=env, code=-9)
        assert list(copy.glob(".work/collect-*/frontier.sqlite"))
        assert places_of(copy, lines) == []
