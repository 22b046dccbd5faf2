"""`collect-train gc` on real stores: what stays, what goes, and that everything kept still works."""

from __future__ import annotations

import os
import shutil
import time

import pytest
from helpers_flows import (
    bytes_and_times,
    collect,
    finish,
    frozen_site,
    start,
    states,
    web_source,
    write_recipe,
)

from flows.gc import Wishes, duration, roots
from lmcore.collect.editions import load_edition
from storage.errors import RunError, UserError
from storage.registry import Registry
from storage.store import STAGES, Store

WORSE = ("--set", "train.steps=2")
OTHER = ("--set", "curate.split.salt=another", "--until", "tokens")


def make_old(store, days=30):
    """Make every file look as old as that, and the manifests' artifacts with them."""
    then = time.time() - days * 86_400
    for path in (store, *store.rglob("*")):
        os.utime(path, (then, then), follow_symlinks=False)


def table(done):
    """artifact -> (goes or stays, why) of what gc printed."""
    found = {}
    for line in done.out.splitlines():
        words = line.split()
        for standing in ("goes", "stays"):
            if standing in words:
                found[words[0]] = (standing, " ".join(words[words.index(standing) + 1 :]))
    return found


def going(done):
    return {name.partition("/")[0] for name, (standing, _) in table(done).items() if standing == "goes"}


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("1.5w", 907_200)])
def test_lengths_of_time(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "7 days", "1y", "0x1d"])
def test_what_is_no_length_of_time(text):
    with pytest.raises(UserError, match="no length of time"):
        duration(text)


def test_a_store_that_is_not_there_is_told_and_not_made(tmp_path):
    what, mend = collect("gc", store=tmp_path / "none", code=2).error
    assert "there is no store at" in what
    assert "--store" in mend
    assert not (tmp_path / "none").exists()


def test_an_unreadable_plan_stops_it(tmp_path):
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "plan.json").write_text("{")
    with pytest.raises(RunError, match="it says what that run needs"):
        roots(Store(tmp_path), Wishes())


@pytest.fixture(scope="module")
def site():
    with frozen_site() as site:
        yield site


@pytest.fixture(scope="module")
def recipe(site, tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("recipe"), web_source(site.url))


@pytest.fixture(scope="module")
def first(recipe, shared_server, tmp_path_factory):
    """Champion tiny@1, refused tiny@2, a run of other settings as far as the tokens, a second edition."""
    store = tmp_path_factory.mktemp("first") / "store"
    for settings in ((), WORSE, OTHER, ("--edition", "new", "--until", "curate")):
        collect("run", recipe, *settings, store=store, env=shared_server)
    state = Registry(store).read("tiny")
    assert (state.champion, [r.promoted for r in state.releases]) == (1, [True, False])
    make_old(store)
    return store


@pytest.fixture
def copy(first, tmp_path):
    return shutil.copytree(first, tmp_path / "store")


@pytest.mark.slow
def test_by_default_it_only_tells_and_keeps_the_newest_runs(copy):
    before = bytes_and_times(copy)
    done = collect("gc", store=copy)
    assert bytes_and_times(copy) == before
    assert set(table(done)) == {f"{a.stage}/{a.key[:12]}" for a in Store(copy).artifacts()}
    assert going(done) == set(), "four runs, three of them newest, and the oldest made the champion"
    assert "nothing to remove" in done.out


@pytest.mark.slow
def test_what_only_old_runs_used_goes(copy):
    done = collect("gc", "--keep-runs", "1", store=copy)
    assert going(done) == {"curate", "tokenizer", "tokens"}, "of the run with the other settings"
    assert "add --delete" in done.out
    assert {why for standing, why in table(done).values() if standing == "goes"} == {
        "nothing that is kept was built from it"
    }
    told = {why for _, why in table(done).values()}
    assert {"champion tiny@1", "needed by champion tiny@1", "release tiny@2", "newest edition of tiny"} <= told
    collect("gc", "--keep-runs", "1", "--delete", store=copy)
    assert going(collect("gc", "--keep-runs", "1", store=copy)) == set()


@pytest.mark.slow
def test_a_refused_model_goes_when_asked_and_its_entry_stays(copy, recipe, shared_server):
    refused = Registry(copy).read("tiny").releases[1]
    done = collect("gc", "--keep-runs", "0", "--refused", "--delete", store=copy)
    assert {"train", "export", "release", "evaluate"} <= going(done)
    assert not (copy / "train" / refused.model_key).exists()
    assert (copy / "train" / Registry(copy).champion("tiny").model_key).exists()
    assert "tiny@2" in collect("releases", store=copy).out
    what, _ = collect("generate", "tiny@2", "The", store=copy, code=1).error
    assert "there is no artifact at" in what
    assert collect("generate", "tiny", "The", "--max-tokens", "4", store=copy).out
    assert collect("verify", store=copy).code == 0
    done = collect("run", recipe, "--edition", Store(copy).resolve("collect").manifest.provenance.params["edition"],
                   store=copy, env=shared_server)  # fmt: skip
    assert states(done)["train"] == "Reused"
    assert states(done)["release"] == "Reused"
    done = collect("run", recipe, *WORSE, store=copy, env=shared_server)
    assert states(done)["train"] == "Completed", "it is built again"
    state = Registry(copy).read("tiny")
    assert (state.champion, len(state.releases)) == (1, 2), "and is the release that it was"


@pytest.mark.slow
def test_a_second_edition_keeps_what_it_refers_to(copy):
    shutil.rmtree(copy / "registry")
    collect("gc", "--keep-runs", "0", "--delete", store=copy)
    left = {stage: list(Store(copy).artifacts(stage)) for stage in STAGES}
    kept = {stage: len(found) for stage, found in left.items() if found}
    assert kept == {"collect": 2, "measure": 1, "compare": 1, "curate": 1, "tokenizer": 1, "tokens": 1, "train": 1}, (
        "and the model it may start from"
    )
    newest = max(left["collect"], key=lambda a: a.manifest.provenance.finished)
    texts = load_edition(newest.path, lambda digest: Store(copy).by_digest(digest, "collect").path)
    assert texts.num_rows == newest.metrics["records"]


@pytest.mark.slow
def test_a_run_that_is_going_on_keeps_all_it_uses(copy, recipe, shared_server):
    shutil.rmtree(copy / "registry")
    process = start("run", recipe, "--set", "train.steps=100000", store=copy, env=shared_server)
    try:
        until = time.monotonic() + 280
        while not list(copy.glob(".work/train-*/progress.jsonl")):
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.1)
        done = collect("gc", "--keep-runs", "0", "--delete", store=copy)
        assert "going on" in done.out
        kept = {name.partition("/")[0] for name, (standing, _) in table(done).items() if standing == "stays"}
        assert {"collect", "measure", "compare", "curate", "tokenizer", "tokens"} <= kept
        assert process.poll() is None
        assert list(copy.glob(".work/train-*/progress.jsonl"))
    finally:
        process.terminate()
        finish(process)
    assert collect("verify", store=copy).code == 0
