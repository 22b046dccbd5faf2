"""Nights: schedules that create runs, two of them with a site that changes between, and one that comes too early."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from frozen_site import FrozenSite, Reply
from held import until_held
from helpers_deploy import HELD, Up, task_states, wait_for
from helpers_flows import web_source, write_recipe
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.states import Scheduled

from storage.store import Store

pytestmark = pytest.mark.slow
NIGHTLY = "collect-train/nightly"


@pytest.fixture(scope="module")
def site():
    """A site of this module's own, whose pages change from night to night."""
    for port in range(18_240, 18_250):
        try:
            made = FrozenSite(port=port)
        except OSError:
            continue
        with made:
            yield made
        return
    raise AssertionError("ports 18240 to 18249 are all taken")


@pytest.fixture(scope="module")
def nights(tmp_path_factory, site):
    """`collect-train up --nightly tiny` every minute, on the changing site."""
    folder = tmp_path_factory.mktemp("nights")
    for name in ("tiny", "nights"):
        path = write_recipe(folder / "recipes", web_source(site.url), name=f"{name}.yaml", timezone="Europe/Budapest")
        Path(path).write_text(Path(path).read_text().replace("name: tiny", f"name: {name}", 1))
    running = Up(
        folder / "up", "--nightly", "tiny", "--cron", "* * * * *", "--timezone", "Europe/Budapest",
        recipes=folder / "recipes",
    )  # fmt: skip
    yield running
    running.stop()


def nightly_runs(up):
    with up.api() as client:
        found = client.read_deployment_by_name(NIGHTLY)
        chosen = DeploymentFilter(id=DeploymentFilterId(any_=[found.id]))
        return found, client.read_flow_runs(deployment_filter=chosen)


def wait_until_quiet(up) -> None:
    """Wait for the run of the last minute, from its being taken by the worker to its end."""
    wait_for(
        lambda: not any(run.state.is_pending() or run.state.is_running() for run in nightly_runs(up)[1]),
        "the last minute's run",
    )


def night(up, date: str):
    """A run of the nightly deployment as scheduled for half past two of a date in Budapest."""
    when = datetime.fromisoformat(f"{date}T02:30").replace(tzinfo=ZoneInfo("Europe/Budapest"))
    parameters = {"recipe": "nights", "edition": "today"}
    return up.ended(up.begin(NIGHTLY, state=Scheduled(scheduled_time=when), parameters=parameters))


def editions(store, recipe: str) -> list[str]:
    return [e["name"] for e in json.loads((store / "editions" / f"{recipe}.json").read_text())["editions"]]


def test_a_schedule_creates_runs_and_they_run(nights):
    found, _ = nightly_runs(nights)
    (schedule,) = found.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone, schedule.active) == (
        "* * * * *",
        "Europe/Budapest",
        True,
    )
    assert found.parameters == {"recipe": "tiny", "edition": "today"}
    wait_for(lambda: any(run.state.is_completed() for run in nightly_runs(nights)[1]), "a scheduled run to end")
    run = next(run for run in nightly_runs(nights)[1] if run.state.is_completed())
    assert run.auto_scheduled
    today = run.expected_start_time.astimezone(ZoneInfo("Europe/Budapest")).date().isoformat()
    assert editions(nights.store, "tiny")[0] == today


def test_bootstrap_keeps_the_schedule_and_can_end_it(nights):
    def now():
        found, _ = nightly_runs(nights)
        (schedule,) = found.schedules
        return found.parameters["recipe"], schedule.schedule.cron, schedule.schedule.timezone, schedule.active

    bootstrap(nights)
    assert now() == ("tiny", "* * * * *", "Europe/Budapest", True)
    bootstrap(nights, "--no-nightly")
    assert now() == ("tiny", "* * * * *", "Europe/Budapest", False)
    bootstrap(nights)
    assert now()[3] is False, "what was switched off stays off"
    for wrong, said in (
        (["--nightly", "nosuch"], "offers no such recipe"),
        (["--cron", "every night"], "the schedule 'every night'"),
        (["--timezone", "Mars/Olympus"], "Mars/Olympus"),
    ):
        assert said in bootstrap(nights, *wrong, code=2)


def test_two_nights(nights, site):
    """The second takes over what did not change; a third, of a site that did not change, trains nothing."""
    bootstrap(nights, "--no-nightly")
    wait_until_quiet(nights)
    first = night(nights, "2026-01-01")
    changed = next(path for path in sorted(site.replies) if "section" in path)
    (page,) = site.replies[changed]
    site.replies[changed] = [Reply(body=page.body.replace("<p>", "<p>This was not here the night before. ", 1))]
    second = night(nights, "2026-01-02")
    assert second.start_time > first.end_time
    assert editions(nights.store, "nights") == ["2026-01-01", "2026-01-02"]
    newest = [a for a in Store(nights.store).artifacts("collect") if a.manifest.provenance.run == str(second.id)]
    assert len(newest) == 1
    assert newest[0].metrics["new"] == 1
    assert newest[0].metrics["unchanged"] == newest[0].metrics["records"] - 1 > 20
    third = night(nights, "2026-01-03")
    wait_for(lambda: len(task_states(nights, third)) >= 8, "the server to have recorded every task")
    assert sorted(task_states(nights, third)).count("Reused") >= 6
    assert not [a for a in Store(nights.store).artifacts("train") if a.manifest.provenance.run == str(third.id)]
    again = night(nights, "2026-01-03")
    wait_for(lambda: len(task_states(nights, again)) >= 8, "the server to have recorded every task")
    assert set(task_states(nights, again)) == {"Reused"}


def test_a_night_that_comes_too_early_is_cancelled(nights):
    bootstrap(nights, "--no-nightly")
    wait_until_quiet(nights)
    long = {"recipe": "tiny", "set": ["train.steps=100"]}
    running = nights.begin(NIGHTLY, parameters=long, job_variables=HELD)
    (trainer,) = until_held(lambda: [found] if (found := nights.trainer()) else [], why_not=nights.said)
    early = nights.ended(nights.begin(NIGHTLY, parameters=long | {"edition": "other"}), "CANCELLED")
    assert (early.run_count, early.state.is_cancelled()) == (0, True)
    assert nights.run(running).state.is_running()
    trainer.resume()
    nights.ended(running)


def bootstrap(up, *options: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.bootstrap", *options],
        env=up.env | {"PREFECT_API_URL": up.url}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr
