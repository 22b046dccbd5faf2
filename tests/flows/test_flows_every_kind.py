"""A recipe with every kind of source: killed anywhere it ends the same; a later edition asks only for changes."""

from __future__ import annotations

import random
import signal
import time
import uuid

import pytest
from every_kind import SOURCES, EveryKind
from helpers_flows import MARK, collect, finish, start, states, unfinished, write_recipe
from helpers_kill import assert_no_orphans

from lmcore.collect.editions import load_edition
from lmcore.collect.kinds import NAMES
from storage.atomic import FAULT_VARIABLE
from storage.store import Artifact, Store

KILLS = [  # while the first four sources are collected beside each other; the hub is among those that come after
    "collect.level-opened", "collect.page-stored:4", "wikipedia.pages-stored", "collect.page-done:3",
    "collect.before-documents", "parquet.write:2", "collect.documents-written", "collect.before-edition",
    "store.publish.before-manifest", "store.publish.before-rename", "collect.shard-stored",
]  # fmt: skip
SEEN_ONCE = {"feed"}  # an entry that leaves the feed is not gone: later editions keep it


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with EveryKind(tmp_path_factory.mktemp("world") / "files") as world:
        yield world


@pytest.fixture(scope="module")
def recipe(world, tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("recipe"), *world.sources)


def gather(recipe, store, world, server, edition="first", code=0):
    return collect(
        "run", recipe, "--until", "collect", "--edition", edition, store=store, env={**server, **world.env}, code=code
    )


def collected(store, edition="first") -> dict[str, Artifact]:
    """The artifact of each source in an edition."""
    found = {}
    for artifact in Store(store).readable("collect"):
        params = artifact.manifest.provenance.params
        if params["edition"] == edition:
            found[params["source"]["name"]] = artifact
    return found


def contents(store, edition="first"):
    return {name: artifact.digest for name, artifact in collected(store, edition).items()}


def texts(store, edition) -> dict[str, dict[str, str]]:
    """URL and text of every record of each source."""
    shelf = Store(store)
    return {
        name: {
            row["url"]: row["text"]
            for row in load_edition(artifact.local(), lambda d: shelf.by_digest(d, "collect").local()).to_pylist()
        }
        for name, artifact in collected(store, edition).items()
    }


@pytest.fixture(scope="module")
def undisturbed(world, recipe, shared_server, tmp_path_factory):
    """A store that nobody disturbed, and how long its run took."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    done = gather(recipe, store, world, shared_server)
    return store, done.seconds


def test_there_is_a_source_of_every_kind(world):
    assert {source["kind"] for source in world.sources} == set(NAMES)
    assert [source["name"] for source in world.sources] == list(SOURCES)


@pytest.mark.slow
def test_every_source_gives_records_and_the_second_run_asks_nobody(world, recipe, shared_server, undisturbed):
    store, _ = undisturbed
    metrics = {name: artifact.metrics for name, artifact in collected(store).items()}
    assert set(metrics) == {source["name"] for source in world.sources}
    assert {name: figures["failed"] for name, figures in metrics.items() if figures["failed"]} == {}
    assert min(figures["records"] for figures in metrics.values()) >= 4, metrics
    before = world.asked()
    done = gather(recipe, store, world, shared_server)
    assert set(states(done).values()) == {"Reused"}
    assert world.asked() == before


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_at_named_points_it_ends_the_same(world, recipe, shared_server, undisturbed, tmp_path):
    store, mark = tmp_path / "store", uuid.uuid4().hex
    for fault in KILLS:
        env = {**shared_server, **world.env, FAULT_VARIABLE: fault, MARK: mark}
        done = finish(start("run", recipe, "--until", "collect", "--edition", "first", store=store, env=env))
        assert done.code == -signal.SIGKILL, f"{fault} was not reached:\n{done.out}\n{done.err}"
        assert_no_orphans(mark)
    gather(recipe, store, world, shared_server)
    assert contents(store) == contents(undisturbed[0])
    assert unfinished(store) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_random_times_it_ends_the_same(world, recipe, shared_server, undisturbed, tmp_path, seed):
    draw, store, struck = random.Random(seed), tmp_path / "store", []
    for number in range(3):
        mark = uuid.uuid4().hex
        env = {**shared_server, **world.env, MARK: mark}
        process = start("run", recipe, "--until", "collect", "--edition", "first", store=store, env=env)
        while process.poll() is None and number == 0 and not list(store.glob(".work/collect-*")):
            time.sleep(0.02)
        # The first time soon after it began: on a machine that has more time for it now, it would be at its end.
        time.sleep(draw.uniform(0, (0.05, 0.5, 0.5)[number] * undisturbed[1]))
        process.kill()
        struck.append((finish(process).code, len(contents(store))))
        assert_no_orphans(mark)
    print("killed with so many sources finished:", struck)
    assert -signal.SIGKILL in {code for code, _ in struck}
    gather(recipe, store, world, shared_server)
    assert contents(store) == contents(undisturbed[0]), struck
    assert unfinished(store) == []


@pytest.mark.torture
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SOURCES)
def test_torture_of_each_source(name, world, shared_server, undisturbed, tmp_path, seed):
    """One source by itself, killed at five random times while it is collected."""
    draw, store, killed = random.Random(f"{seed} {name}"), tmp_path / "store", 0
    of = [
        source for source in world.sources if source["name"] in {name, *(("wiki", "feed") if name == "asked" else ())}
    ]
    recipe, last = write_recipe(tmp_path, *of), ""
    for _ in range(5):
        mark = uuid.uuid4().hex
        env = {**shared_server, **world.env, MARK: mark}
        process = start("run", recipe, "--until", "collect", "--edition", "first", store=store, env=env)
        while process.poll() is None and not list(store.glob(".work/collect-*")) and not list(store.glob("collect/*")):
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.7))
        process.kill()
        done = finish(process)
        killed += done.code == -signal.SIGKILL
        last = done.out
        assert_no_orphans(mark)
    assert killed, last
    gather(recipe, store, world, shared_server)
    expected = contents(undisturbed[0])
    assert contents(store) == {source["name"]: expected[source["name"]] for source in of}
    print(f"{name}: killed {killed} times, equal")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_next_edition_asks_only_for_what_changed(world, recipe, shared_server, undisturbed, tmp_path):
    """Last, since it changes the world. Equal to what a store without any past collects of the same day."""
    store, first = undisturbed[0], texts(undisturbed[0], "first")
    world.next_day()
    before = world.bodies()
    gather(recipe, store, world, shared_server, "second")
    sent = world.bodies() - before
    fresh = tmp_path / "fresh"
    before = world.bodies()
    gather(recipe, fresh, world, shared_server, "second")
    whole = world.bodies() - before
    second, expected = texts(store, "second"), texts(fresh, "second")
    for name in expected:
        kept = first[name] if name in SEEN_ONCE else {}
        if name != "asked":  # made of what the feed keeps, too
            assert second[name] == {**kept, **expected[name]}, name
        assert second[name] != first[name] or name == "made", f"nothing of {name} changed"
    # the two crawls share a site, and ask it each for itself
    assert {path: count for path, count in sent.items() if path.startswith("site")} == {
        "site/": 2, "site/mill/5": 2, f"site/mill/{world.day + 12}": 2,
    }  # fmt: skip
    assert {path for path in sent if path.startswith("news")} == {"news/feed", f"news/story/{world.day + 12}"}
    assert {path for path in sent if path.startswith("hub")} < {path for path in whole if path.startswith("hub")}
    assert sum(count for path, count in sent.items() if path.startswith("wiki")) == 2, "a changed page and a new one"
    removed = {name: artifact.metrics["removed"] for name, artifact in collected(store, "second").items()}
    assert removed["web"] == removed["web-bulk"] == removed["wiki"] == removed["dump"] == 1
    assert removed["feed"] == removed["made"] == 0
    told = collect("diff", "wiki", store=store)
    assert "│ 1     │ 1       │ 1       │ 12        │" in told.out


def test_the_world_changes_as_it_says(tmp_path):
    """The test's own world: two of the same day are equal, the next day's differ in one text each."""
    with EveryKind(tmp_path / "a") as world:
        numbers, texts_of_day = world._numbers(), {n: world._text("x", n) for n in world._numbers()}
        world.next_day()
        later = {n: world._text("x", n) for n in world._numbers()}
    assert set(numbers) - set(later) == {"0"}
    assert set(later) - set(numbers) == {"14"}
    assert [n for n in later if n in texts_of_day and later[n] != texts_of_day[n]] == ["5"]
