"""What the user interface has of runs: named nodes and states, artifacts that change, events, log lines, reasons."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from uuid import UUID

import httpx
import pytest
from held import PAUSE, held
from helpers_deploy import HELD, HOLD, PATIENCE, wait_for
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import Artifact, FlowRun, TaskRun

from storage.store import STAGES

pytestmark = pytest.mark.slow

NAME = "shown"  # of the recipe
NODES = [*(f"{stage} {source}" for stage in STAGES[:2] for source in ("frozen", "section")), *STAGES[2:]]
PAGES = [
    "collection-frozen",
    "collection-section",
    "corpus",
    "evaluation",
    "loss-curve",
    "report",
    "samples",
    "vocabulary",
]
LOGGED_SECONDS = 5.0  # until what a process logs at its end has reached the database
STEPS = 2 * HOLD + 32  # it stands still twice, until the curve, which changes every five seconds, was seen to change


@dataclass(frozen=True)
class Seen:
    """A run that has ended, and what its artifacts were while it worked: (id, data) by key, each change once."""

    run: FlowRun
    live: dict[str, list[tuple[UUID, object]]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def settings():
    """A training of two epochs."""
    return [f"train.steps={STEPS}", "train.batch=24", f"runtime.train.save_every_steps={STEPS // 4}"]


@pytest.fixture(scope="module")
def first(up, settings) -> Seen:
    """A whole run, looked at all the time; its training waits for a new picture of it."""
    run, live = up.begin(parameters={"recipe": NAME, "set": settings}, job_variables=HELD), {}
    pictures = 0
    deadline = time.monotonic() + PATIENCE
    while not up.run(run).state.is_final():
        assert time.monotonic() < deadline, up.said()[-4000:]
        for shown in artifacts(up, run):
            changes = live.setdefault(shown.key, [])
            if not changes or changes[-1] != (shown.id, shown.data):
                changes.append((shown.id, shown.data))
        trainer, seen = up.trainer(), len(titles(live, "## Training"))
        if trainer is not None and held(trainer) and seen > pictures:
            pictures = seen
            time.sleep(PAUSE)
            trainer.resume()
        time.sleep(0.3)
    return Seen(up.ended(run), live)


@pytest.fixture(scope="module")
def second(up, settings, first) -> Seen:
    """The same run again."""
    return Seen(up.ended(up.begin(parameters={"recipe": NAME, "set": settings})))


@pytest.fixture(scope="module")
def refused(up, settings, first) -> Seen:
    """A run whose corpus cannot pass a gate."""
    gate = "curate.gates.min_documents=1000000"
    return Seen(up.ended(up.begin(parameters={"recipe": NAME, "set": [*settings, gate]}), "FAILED"))


def titles(live: dict[str, list[tuple[UUID, object]]], beginning: str) -> list[str]:
    """First lines of the loss curve that began so, one for each change of the page."""
    firsts = [str(data).splitlines()[0] for _, data in live.get(f"{NAME}-loss-curve", [])]
    return [title for title in firsts if title.startswith(beginning)]


def of(run: FlowRun) -> FlowRunFilter:
    return FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))


def artifacts(up, run: FlowRun, kind: str = "") -> list[Artifact]:
    with up.api() as client:
        return [a for a in client.read_artifacts(flow_run_filter=of(run)) if not kind or a.type == kind]


def tasks(up, run: FlowRun, count: int) -> list[TaskRun]:
    """The task runs in order of their start; they reach the database a moment later."""
    found: list[TaskRun] = []

    def all_ended() -> bool:
        with up.api() as client:
            found[:] = client.read_task_runs(flow_run_filter=of(run))
        return len(found) >= count and all(task.state.is_final() for task in found)

    wait_for(all_ended, f"{count} finished task runs")
    return sorted(found, key=lambda task: task.start_time)


def timeline(up, run: FlowRun, *names: str) -> list[dict]:
    """Our events on the run's timeline, oldest first; waits until there is one of each of `names`."""
    asked = {
        "filter": {
            "event": {"prefix": ["collect-train."]},
            "related": {"id": [f"prefect.flow-run.{run.id}"]},
            "occurred": {"since": "2020-01-01T00:00:00Z"},
            "order": "ASC",
        },
        "limit": 50,
    }
    found: list[dict] = []

    def all_there() -> bool:
        answer = httpx.post(f"{up.url}/events/filter", json=asked, timeout=30, trust_env=False).json()
        found[:] = answer["events"]
        return {event["event"] for event in found} >= {f"collect-train.{name}" for name in names}

    wait_for(all_there, f"the events {names}")
    return found


def log_lines(up, run: FlowRun, enough, logger: str = "collect-train") -> list[dict]:
    """Our lines in Prefect's log of the run, or with "" every line; waits until `enough(messages)`."""
    asked = {"logs": {"flow_run_id": {"any_": [str(run.id)]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
    found: list[dict] = []

    def all_there() -> bool:
        lines = httpx.post(f"{up.url}/logs/filter", json=asked, timeout=30, trust_env=False).json()
        found[:] = [line for line in lines if line["name"] == logger or not logger]
        return enough([line["message"] for line in found])

    wait_for(all_there, "the log")
    return found


class TestGraph:
    def test_one_node_a_stage_and_a_source(self, up, first):
        nodes = [(task.name, task.state.name) for task in tasks(up, first.run, len(NODES))]
        assert sorted(nodes) == sorted((name, "Completed") for name in NODES)
        assert {name for name, _ in nodes[:2]} == set(NODES[:2]), "the sources come first, beside each other"
        assert [name for name, _ in nodes[2:]] == NODES[2:]

    def test_the_same_again_is_reused(self, up, second):
        nodes = [(task.name, task.state.name) for task in tasks(up, second.run, len(NODES))]
        assert sorted(nodes) == sorted((name, "Reused") for name in NODES)

    def test_the_run_says_what_became_of_the_model(self, first):
        assert first.run.name == f"{NAME} {first.run.parameters.get('edition') or 'newest'}"
        assert first.run.state.message.startswith(f"{NAME}: no champion to compare with: ")


class TestArtifacts:
    def test_every_step_is_at_100_percent(self, up, first):
        rings = {ring.key: ring.data for ring in artifacts(up, first.run, "progress")}
        assert rings == {f"{NAME}-{name.replace(' ', '-')}": 100.0 for name in NODES}

    def test_training_was_seen_going_on(self, first):
        shares = [share for _, share in first.live[f"{NAME}-train"]]
        assert any(0 < share < 100 for share in shares), shares
        assert shares == sorted(shares)

    def test_the_loss_curve_changes_in_place(self, up, first):
        (curve,) = (page for page in artifacts(up, first.run, "markdown") if page.key == f"{NAME}-loss-curve")
        seen = first.live[curve.key]
        assert {artifact for artifact, _ in seen} == {curve.id}
        assert len(titles(first.live, "## Training")) >= 2, titles(first.live, "")
        assert curve.data.startswith("## Trained\\: ")
        assert "![loss curve](data:image/svg+xml;base64," in curve.data
        assert curve.updated > curve.created

    def test_tables_samples_and_report(self, up, first):
        pages = {page.key: page.data for page in artifacts(up, first.run, "markdown")}
        assert sorted(pages) == [f"{NAME}-{name}" for name in PAGES]
        expected = {
            "collection-frozen": ["## frozen\\: ", "| ok | "],
            "collection-section": ["## section\\: ", "| ok | "],
            "corpus": ["texts kept", "| frozen |", "| section |", "| min\\_documents |"],
            "vocabulary": ["## A vocabulary of ", "bytes per token"],
            "samples": ["### After step 0 ", f"### After step {STEPS} ", "The ▸"],
            "evaluation": ["bits per byte on held", "| this model |", "| test |"],
            "report": [f"**{NAME}@1** is the champion", f"collect-train chat {NAME}", "| release | Completed |"],
        }
        for name, parts in expected.items():
            for part in parts:
                assert part in pages[f"{NAME}-{name}"], name

    def test_a_run_that_builds_nothing_shows_the_same_pages(self, up, first, second):
        before, after = (
            {page.key: page.data for page in artifacts(up, seen.run, "markdown")} for seen in (first, second)
        )
        report = f"{NAME}-report"
        assert "| release | Reused |" in after.pop(report)
        assert before.pop(report)
        assert after == before


class TestTimeline:
    def test_epochs_checkpoints_and_the_release(self, up, first):
        names = ("training.epoch", "training.checkpoint", "release.promoted")
        events = timeline(up, first.run, *names)
        assert {event["resource"]["prefect.resource.id"] for event in events} == {f"collect-train.recipe.{NAME}"}
        epochs = [event["payload"] for event in events if event["event"] == "collect-train.training.epoch"]
        numbers = [epoch["epoch"] for epoch in epochs]
        assert numbers == sorted(set(numbers)), "each once, in order; a step may end two of a text as short as this"
        assert all(epoch["mean_bits_per_byte"] > 0 for epoch in epochs)
        (release,) = (event for event in events if event["event"] == "collect-train.release.promoted")
        assert release["payload"]["release"] == f"{NAME}@1"

    def test_a_run_that_builds_nothing_has_none(self, up, second):
        log_lines(up, second.run, lambda said: any(line.startswith("= release") for line in said))
        assert timeline(up, second.run) == []

    def test_the_log_has_what_a_person_is_told(self, up, first):
        lines = log_lines(up, first.run, lambda said: any(line.startswith("✓ release") for line in said))
        ended = {line["message"][2:29].strip(): line for line in lines if line["message"].startswith("✓ ")}
        assert sorted(ended) == sorted(NODES)
        ids = {str(task.id): task.name for task in tasks(up, first.run, len(NODES))}
        assert {ids[line["task_run_id"]] for line in ended.values()} == set(NODES)


class TestFailure:
    def test_the_reason_is_one_sentence_on_run_and_task(self, up, refused):
        states = {task.name: task.state for task in tasks(up, refused.run, 6)}
        assert {name: state.name for name, state in states.items()} == {
            "collect frozen": "Reused",
            "collect section": "Reused",
            "measure frozen": "Reused",
            "measure section": "Reused",
            "compare": "Reused",
            "curate": "Failed",
        }
        reason = refused.run.state.message
        assert refused.run.state.name == "Failed"
        assert reason.startswith("the curated corpus fails 1 data gate: min_documents is ")
        assert "the limit is 1,000,000; to mend: collect more pages" in reason
        assert "\n" not in reason
        assert "Traceback" not in reason
        assert states["curate"].message == reason

    def test_no_traceback_is_put_beside_it(self, up, refused):
        log_lines(up, refused.run, lambda said: any("Finished in state Failed" in line for line in said), "")
        time.sleep(LOGGED_SECONDS)
        lines = log_lines(up, refused.run, bool, "")
        assert not [line["message"] for line in lines if "Traceback" in line["message"]]
        assert "Traceback" not in up.said()[up.said().index(refused.run.state.message[:40]) :][:4000]
        with up.api() as client:
            states = [state.name for state in client.read_flow_run_states(refused.run.id)]
        assert states[-2:] == ["Running", "Failed"]
