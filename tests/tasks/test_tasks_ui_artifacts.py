"""What a real Prefect server is told: artifacts that change in place, events, log lines, states with a reason."""

from __future__ import annotations

import contextvars
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from steps_made import Orders, Words, chapter

from storage.errors import RunError
from storage.store import Store
from tasks.prefect_ui import Page, artifact_key, emit, showing
from tasks.progress import say

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def in_a_flow(work):
    """Run `work()` as a flow that shows the recipe `demo`; gives its state and its id."""

    @flow(persist_result=False)
    def shown():
        with showing("demo"):
            return work()

    state = shown(return_state=True)
    return state, state.state_details.flow_run_id


def artifacts(run, kind="markdown"):
    with get_client(sync_client=True) as client:
        return [a for a in client.read_artifacts() if a.flow_run_id == run and a.type == kind]


def events(server, run, name, count=1):
    """The events of this name that are related to the run; they reach the database a moment later."""
    asked = {
        "filter": {
            "event": {"prefix": [name]},
            "related": {"id": [f"prefect.flow-run.{run}"]},
            "occurred": {"since": "2020-01-01T00:00:00Z"},
        },
        "limit": 50,
    }
    deadline = time.monotonic() + 200
    while True:
        found = httpx.post(f"{server}/events/filter", json=asked, timeout=30, trust_env=False).json()["events"]
        if len(found) >= count or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("names", "key"),
    [
        (("quickstart", "loss-curve"), "quickstart-loss-curve"),
        (("a_b", "collect Site.1"), "a-b-collect-site-1"),
        (("", "collect ünï"), "collect--n"),
        (("demo", "evaluation champion"), "demo-evaluation-champion"),
    ],
)
def test_keys_are_what_prefect_takes(names, key):
    assert artifact_key(*names) == key


def test_a_page_is_one_artifact_that_changes(prefect_server):
    told = []

    def work():
        page = Page("loss-curve", "how it *goes*", told.append)
        page.show("1 step", "first", picture="![p](data:,)")
        page.show("2 steps", "second")
        Page("loss-curve", "how it *goes*", told.append).show("3 steps", "of the next attempt at this run")

    _, run = in_a_flow(work)
    assert told == []
    (shown,) = artifacts(run)
    assert shown.key == "demo-loss-curve"
    assert shown.data == "## 3 steps\n\nof the next attempt at this run\n"
    assert shown.description == r"how it \*goes\*"
    assert events(prefect_server, run, "prefect.artifact.", 0) == [], "none with a copy of the data"
    _, other = in_a_flow(work)
    assert len(artifacts(other)) == 1
    with get_client(sync_client=True) as client:
        versions = [a for a in client.read_artifacts() if a.key == "demo-loss-curve"]
    assert len(versions) == 2, "a version for each run"


def test_a_page_that_somebody_deleted_is_made_again():
    def work():
        page = Page("corpus", "", print)
        page.show("one")
        with get_client(sync_client=True) as client:
            client.delete_artifact(next(a.id for a in client.read_artifacts() if a.key == "demo-corpus"))
        page.show("two")

    _, run = in_a_flow(work)
    (shown,) = artifacts(run)
    assert shown.data == "## two\n"


def test_no_secret_is_sent(monkeypatch, prefect_server):
    monkeypatch.setenv("SITE_TOKEN", "hunter2-hunter2")

    def work():
        Page("report", "of hunter2-hunter2", print).show(
            "hunter2-hunter2", "postgresql://me:pass@host/db hunter2-hunter2"
        )
        emit("training.epoch", reason="hunter2-hunter2", loss=float("nan"))

    _, run = in_a_flow(work)
    (shown,) = artifacts(run)
    (event,) = events(prefect_server, run, "collect-train.")
    assert "hunter2" not in f"{shown.data} {shown.description} {event}"
    assert "me:pass" not in shown.data
    assert event["payload"] == {"reason": "***", "loss": None}
    assert event["resource"]["prefect.resource.id"] == "collect-train.recipe.demo"


def test_a_step_shows_how_far_it_is(store, tmp_path):
    """Somebody looks while the step waits, and lets it go on when the server has its progress."""
    go_on, seen = tmp_path / "go on", []

    def look():
        deadline = time.monotonic() + 200
        while not seen and time.monotonic() < deadline:
            with get_client(sync_client=True) as client:
                found = client.read_artifacts(
                    artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["live-curate"]))
                )
            seen.extend((ring.type, ring.data, ring.description) for ring in found)
            time.sleep(0.05)
        go_on.touch()

    def work():
        with showing("live"), ThreadPoolExecutor(1) as pool:
            looking = pool.submit(contextvars.copy_context().run, look)
            chapter(store, [], params=Words(), runtime=Orders(wait_for=str(go_on)))
            looking.result()

    in_a_flow(work)
    assert seen == [("progress", 50.0, "half of it")]


def test_a_step_that_is_done_is_at_100_percent(store):
    def work():
        chapter(store, [], params=Words(), runtime=Orders())

    _, run = in_a_flow(work)
    (ring,) = artifacts(run, "progress")
    assert (ring.key, ring.data) == ("demo-curate", 100.0)
    assert ring.description == "characters 5\\, name hello"


def test_what_is_said_is_in_the_log_of_the_run_once(prefect_server, told, store):
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: True}):

        def work():
            say("a line for [everyone]", "yellow")
            chapter(store, [], params=Words(), runtime=Orders())

        _, run = in_a_flow(work)
        deadline = time.monotonic() + 200
        while True:
            asked = {"logs": {"flow_run_id": {"any_": [str(run)]}}, "limit": 100}
            lines = httpx.post(f"{prefect_server}/logs/filter", json=asked, timeout=30, trust_env=False).json()
            ours = [line for line in lines if line["name"] == "collect-train"]
            if len(ours) >= 2 or time.monotonic() > deadline:
                break
            time.sleep(0.2)
    assert ours[0]["message"] == "a line for [everyone]"
    assert ours[0]["level"] == 30
    assert [line["message"].startswith("✓ curate") for line in ours] == [False, True]
    assert ours[1]["task_run_id"] is not None
    assert told().count("a line for [everyone]") == 1


def test_a_failure_says_why_in_one_sentence(store, task_states):
    def work():
        with pytest.raises(RunError, match="dead server"):
            chapter(store, [], params=Words(), runtime=Orders(fail="run"))

    _, run = in_a_flow(work)
    assert task_states(run, 1) == [("curate", "Failed", "FAILED")]
    with get_client(sync_client=True) as client:
        (task,) = [t for t in client.read_task_runs() if t.flow_run_id == run]
    assert task.state.message == "dead server; to mend: wait"


def test_a_step_may_have_a_label_of_its_own(store, task_states):
    def work():
        chapter(store, [], params=Words(), runtime=Orders())
        chapter(store, [], params=Words(), runtime=Orders(), label="curate again")

    _, run = in_a_flow(work)
    assert [state[0] for state in task_states(run, 2)] == ["curate", "curate again"]
