"""kill -9 of a whole run at every named fault point and at random times: the same bytes in the end."""

from __future__ import annotations

import random
import signal
import time
import uuid
from collections import Counter

import psutil
import pytest
from helpers_flows import (
    MARK,
    PATIENCE,
    collect,
    digests,
    finish,
    frozen_site,
    start,
    states,
    unfinished,
    web_source,
    write_recipe,
)
from helpers_kill import (
    CHAIN,
    PHASES,
    assert_no_orphans,
    fault_points,
    pace,
    phase_of,
    plan_of_kills,
    run_to_a_kill,
    run_to_a_random_kill,
)

from storage.registry import Registry
from storage.store import Store

EMBEDDED = {"collect.page-stored:2", "train.step:3"}  # killed with a Prefect server of their own


@pytest.fixture(scope="module")
def site():
    with frozen_site() as site:
        yield site


@pytest.fixture(scope="module")
def recipe(site, tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("recipe"), web_source(site.url))


@pytest.fixture(scope="module")
def undisturbed(site, recipe, shared_server, tmp_path_factory):
    """Content digests of a store that nobody disturbed, and the pace of that run."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    done = collect("run", recipe, "--edition", "first", store=store, env=shared_server)
    return digests(store), pace(store, done.seconds)


class Chain:
    """One store, killed again and again."""

    def __init__(self, store, hits):
        self.store = store
        self.before = hits
        self.kills_in_collect = 0


@pytest.fixture(scope="module")
def chain(site, undisturbed, tmp_path_factory):
    return Chain(tmp_path_factory.mktemp("chain") / "store", Counter(site.hits))


def test_every_fault_point_of_the_product_is_in_the_chain():
    # Of commands that keep a store, and of other kinds of sources; their own tests kill them there.
    others = (
        "forget.",
        "store.rewrite.",
        "gc.",
        "wikipedia.",
        "collect.shard-stored",
        "collect.part-",
        "train.milestone.",
    )
    assert {kill.point for kill in CHAIN} == {point for point in fault_points() if not point.startswith(others)}


@pytest.mark.slow
@pytest.mark.parametrize("kill", CHAIN, ids=[f"{n:02d}-{kill.where}-{kill.fault}" for n, kill in enumerate(CHAIN)])
def test_a_run_killed_at_a_named_point(kill, chain, recipe, shared_server):
    done = run_to_a_kill(recipe, chain.store, kill, {} if kill.fault in EMBEDDED else shared_server)
    if kill.where in ("start", "collect"):
        chain.kills_in_collect += 1
    reached = phase_of(Store(chain.store)) if kill.where in PHASES[1:-1] else kill.where
    assert reached in (kill.where, f"after {kill.where}"), f"{kill} struck in {reached}: {done.err}"


@pytest.mark.slow
def test_after_all_these_kills_the_end_is_the_same(chain, site, recipe, shared_server, undisturbed):
    if not chain.store.exists():
        pytest.skip("the kills before this test were not run")
    done = collect("run", recipe, "--edition", "first", store=chain.store, env=shared_server)
    assert digests(chain.store) == undisturbed[0], done.err
    assert unfinished(chain.store) == []
    state = Registry(chain.store).read("tiny")
    assert (state.champion, len(state.releases), len(state.history)) == (1, 1, 1)
    asked = site.hits - chain.before
    assert asked.keys() == chain.before.keys(), "no page was left out"
    assert max(asked.values()) <= 1 + chain.kills_in_collect, asked


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_at_random_times(site, recipe, shared_server, undisturbed, tmp_path, seed):
    draw = random.Random(seed)
    store = tmp_path / "store"
    struck = [
        run_to_a_random_kill(recipe, store, phase, undisturbed[1], draw, env)
        for phase, env in zip(plan_of_kills(draw, 3), ({}, shared_server, shared_server), strict=True)
    ]
    print("killed in", struck)
    collect("run", recipe, "--edition", "first", store=store, env=shared_server)
    assert digests(store) == undisturbed[0], struck
    assert unfinished(store) == []


def until(condition, process):
    """Wait for something that a living process will bring about."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert process.poll() is None, finish(process)
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def trainers_log(store):
    return "".join(path.read_text() for path in store.glob(".work/train-*/train.log"))


@pytest.mark.slow
def test_ctrl_c_and_sigterm_stop_a_run_in_order(recipe, shared_server, tmp_path):
    store = tmp_path / "store"
    for number, code in [(signal.SIGINT, 130), (signal.SIGTERM, 143)]:
        mark, before = uuid.uuid4().hex, trainers_log(store).count("  loss ")
        env = {**shared_server, MARK: mark}
        process = start("run", recipe, "--set", "train.steps=100000", store=store, env=env)
        until(lambda: trainers_log(store).count("  loss ") > before, process)  # noqa: B023 - used at once
        process.send_signal(number)
        done = finish(process)
        assert_no_orphans(mark)
        assert done.code == code, done
        assert states(done)["train"] == "Stopped"
        if number == signal.SIGINT:
            assert done.error == ("stopped", "run the same command again: it continues where this one stopped")
    assert trainers_log(store).count("nothing is lost") == 2
    assert "resuming at step" in trainers_log(store)


@pytest.mark.slow
def test_the_documentation_server_dies_with_a_killed_run(shared_server, tmp_path):
    source = {"name": "pydoc", "kind": "web", "serve": "pydoc", "delay": 0, "max_pages": 300}
    recipe, store = write_recipe(tmp_path, source), tmp_path / "store"
    process = start("run", recipe, "--until", "collect", store=store, env=shared_server)
    main = psutil.Process(process.pid)
    (server,) = until(lambda: [c for c in main.children(recursive=True) if "pydoc" in " ".join(c.cmdline())], process)
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    psutil.wait_procs([server], timeout=PATIENCE / 4)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
