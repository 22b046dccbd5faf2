"""Twenty runs of two recipes at once, four at a time, on a server whose database is PostgreSQL."""

from __future__ import annotations

import time
from pathlib import Path
from pydoc_data.topics import topics

import helpers_postgres
import psutil
import pytest
from helpers_deploy import Up, wait_for
from helpers_flows import bytes_and_times, collect, digests, unfinished, web_source, write_recipe
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType

from flows.embedded import DATABASE_VARIABLE
from storage.store import STAGES, Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(helpers_postgres.why_not()), reason=helpers_postgres.why_not() or "it can be made"),
]

SEEDS = {"pages": (1, 2, 3), "notes": (7,)}  # of ten runs each: three kinds of one recipe, all alike of the other
RUNS = 10
PATIENCE = 1000.0
SMALL = {
    "train": {"steps": 8},
    "evaluate": {"max_bytes": 4_000, "bootstrap_draws": 100, "baselines": ["gzip"], "prompts": []},
}


@pytest.fixture(scope="module")
def postgres():
    running = helpers_postgres.Postgres()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def two_recipes(tmp_path_factory, frozen):
    folder = tmp_path_factory.mktemp("two")
    texts = folder / "texts"
    texts.mkdir()
    for name, text in sorted(topics.items()):
        (texts / f"{name}.md").write_text(text)
    notes = {"name": "notes", "kind": "files", "paths": [f"{texts}/*.md"], "lang": "en", "license": "PSF-2.0"}
    for name, source in {"pages": web_source(frozen.url), "notes": notes}.items():
        path = Path(write_recipe(folder, source, name=f"{name}.yaml", **SMALL))
        path.write_text(path.read_text().replace("name: tiny", f"name: {name}", 1))
    return folder


@pytest.fixture(scope="module")
def up(tmp_path_factory, postgres, two_recipes):
    running = Up(
        tmp_path_factory.mktemp("postgres"), "--runs", "4", recipes=two_recipes, **{DATABASE_VARIABLE: postgres.url}
    )
    yield running
    if running.process.poll() is None:
        running.stop()


def test_twenty_runs_at_once_end_right(up, postgres, two_recipes, tmp_path):
    began = time.monotonic()
    with up.api() as client:
        deployment = client.read_deployment_by_name("collect-train/collect-train").id
        runs = [
            client.create_flow_run_from_deployment(
                deployment, parameters={"recipe": name, "seed": SEEDS[name][number % len(SEEDS[name])]}
            )
            for number in range(RUNS)
            for name in SEEDS
        ]
    most = 0

    def all_ended() -> bool:
        nonlocal most
        time.sleep(1)
        now = states(up)
        most = max(most, sum(state is StateType.RUNNING for state in now.values()))
        return all(now[run.id] in (StateType.COMPLETED, StateType.FAILED) for run in runs)

    wait_for(all_ended, "twenty runs", PATIENCE)
    ended = states(up)
    messages = [up.run(run).state.message for run in runs if ended[run.id] is not StateType.COMPLETED]
    assert [ended[run.id] for run in runs] == [StateType.COMPLETED] * 20, messages
    print(f"20 runs in {time.monotonic() - began:.0f} s, up to {most} at once")
    assert 2 <= most <= 6  # the pool's limit of 4 counts what a worker has taken, which lags behind its next question

    store = Store(up.store)
    assert store.verify() == []
    # Each thing was made once, by whichever run came first.
    assert [len(list(store.artifacts(stage))) for stage in STAGES[:7]] == [2, 2, 2, 2, 2, 2, 4]
    assert unfinished(up.store) == []
    trained = {(a.manifest.provenance.params["seed"], a.digest) for a in store.artifacts("train")}
    assert len({digest for _, digest in trained}) == len(trained) == 4
    before = bytes_and_times(up.store)

    # Equal settings, equal bytes: by hand, elsewhere, with another database.
    seed = f"train.seed={SEEDS['pages'][0]}"
    collect("run", str(two_recipes / "pages.yaml"), "--set", seed, "--until", "train", store=tmp_path / "by-hand")
    ours, theirs = digests(tmp_path / "by-hand"), digests(up.store)
    assert all(len(ours[stage]) == 1 and ours[stage][0] in theirs[stage] for stage in STAGES[:7])
    assert bytes_and_times(up.store) == before


def test_its_history_is_in_postgresql(up, postgres):
    assert postgres.ask("select count(*) from flow_run where state_type = 'COMPLETED'") == "20"
    assert not (up.store / ".prefect" / "prefect.db").exists()


def test_nothing_is_left_behind(up, postgres):
    with up.api() as client:
        alive = [t for t in StateType if t not in (StateType.COMPLETED, StateType.FAILED)]
        chosen = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=alive)))
        assert client.read_flow_runs(flow_run_filter=chosen) == []
    up.stop()
    assert up.process.returncode == 0
    others = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
    wait_for(lambda: postgres.ask(others) == "0", "the last connection to be closed")
    lines = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]  # None: it has just ended
    assert not [line for line in lines if str(up.store) in line]


def test_the_password_is_written_nowhere(up):
    found = [path for path in up.store.parent.rglob("*") if path.is_file() and holds(path, helpers_postgres.PASSWORD)]
    assert found == []


def holds(path, secret: str) -> bool:
    return secret.encode() in path.read_bytes()


def states(up) -> dict:
    with up.api() as client:
        return {run.id: run.state.type for run in client.read_flow_runs()}
