"""What dies comes back: run, trainer, worker, server and its database; and what is cancelled stops."""

from __future__ import annotations

import shutil
import time

import psutil
import pytest
from helpers_deploy import HELD, SOON, UNTIL_FOUND_DEAD, Up, engine, kill, outlived, task_states, wait_for
from helpers_flows import collect, digests, unfinished
from prefect.states import AwaitingRetry, Cancelling

from storage.store import STAGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LEARNT = STAGES[: STAGES.index("release")]  # a release also depends on the champion it met


@pytest.fixture(scope="module")
def undisturbed(recipes, tmp_path_factory):
    """Content digests of the recipe `slow`, built in one go."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    collect("run", str(recipes / "slow.yaml"), store=store)
    return digests(store)


@pytest.fixture(scope="module")
def shared(tmp_path_factory, recipes):
    """A `collect-train up` of this module's own."""
    running = Up(tmp_path_factory.mktemp("recovery"), recipes=recipes)
    yield running
    running.stop()


@pytest.fixture
def own(shared):
    """It, with a store that holds nothing but Prefect's database."""
    if shared.process.poll() is not None:
        shared.start()
    for path in shared.store.iterdir():
        if path.name != ".prefect":
            shutil.rmtree(path)
    return shared


def same(store, expected) -> None:
    found = digests(store)
    for stage in LEARNT:
        assert found[stage] == expected[stage], stage
    assert not unfinished(store)


def test_a_killed_run_is_crashed_and_goes_on_to_the_same_result(own, undisturbed):
    run = own.begin(parameters={"recipe": "slow"}, job_variables=HELD)
    trainer = own.training(run)
    kill(engine(run))
    trainer.wait(SOON)
    done = own.ended(run)
    assert done.run_count == 2
    assert states_of(own, run)[-1] == "Completed"
    assert "Crashed" in states_of(own, run)
    same(own.store, undisturbed)


def test_a_killed_trainer_fails_the_run_and_the_next_goes_on(own, undisturbed):
    run = own.begin(parameters={"recipe": "slow"}, job_variables=HELD)
    kill(own.training(run))
    failed = own.ended(run, "FAILED")
    assert "was ended by SIGKILL" in failed.state.message
    own.ended(own.begin(parameters={"recipe": "slow"}))
    same(own.store, undisturbed)


def test_it_gives_up_after_three_crashes_until_it_is_retried(own):
    run = own.begin(parameters={"recipe": "slow", "set": ["train.steps=100000"]})
    for attempt in (1, 2, 3):
        wait_for(lambda attempt=attempt: own.run(run).run_count == attempt, f"attempt {attempt}")
        wait_for(lambda: own.trainer() is not None, "training")
        trainer = own.trainer()
        kill(engine(run))
        trainer.wait(SOON)
    ended = own.ended(run, "FAILED")
    assert "gave up after 3 crashes" in ended.state.message
    assert own.trainer() is None
    own.prefect("flow-run", "retry", str(run.id), PREFECT_API_URL=own.url)
    wait_for(lambda: own.trainer() is not None, "training")
    cancel(own, run)


def test_being_stopped_is_no_crash(own):
    """Neither by `up`, nor by a person who retries it."""
    run = own.begin(parameters={"recipe": "slow", "set": ["train.steps=100000"]}, job_variables=HELD)
    for _ in range(2):
        own.training(run)
        own.stop()
        own.start()
    for _ in range(2):
        own.training(run)
        cancel(own, run)
        retry(own, run)
    own.training(run)
    assert own.run(run).run_count == 5
    assert "Crashed" not in states_of(own, run)
    cancel(own, run)


def test_one_that_cannot_begin_is_not_tried_for_ever(own):
    run = own.begin(parameters={"recipe": "tiny"}, job_variables={"env": {"PYTHONHOME": "/nonexistent"}})
    wait_for(lambda: own.run(run).state.is_crashed(), "the crash")
    time.sleep(8)
    assert own.run(run).state.is_crashed()
    assert states_of(own, run).count("Crashed") == 1


def test_a_cancelled_run_stops_training_within_ten_seconds(own, undisturbed):
    run = own.begin(parameters={"recipe": "slow"}, job_variables=HELD)
    trainer = own.training(run)
    group = [trainer, *trainer.children(recursive=True)]
    with own.api() as client:
        client.set_flow_run_state(run.id, Cancelling())
    began = time.monotonic()
    psutil.wait_procs(group, timeout=SOON)
    took = time.monotonic() - began
    assert took < 10, f"it took {took:.1f} s"
    own.ended(run, "CANCELLED")
    assert unfinished(own.store), "its work folder is left for the next run"
    own.ended(own.begin(parameters={"recipe": "slow"}))
    same(own.store, undisturbed)


@pytest.mark.parametrize("how", ["killed", "terminated"])
def test_a_run_without_its_worker_goes_on_with_the_next(own, undisturbed, how):
    """Killed, the run is told and says so. Told to stop, Prefect leaves the run Running, and the silence is found."""
    run = own.begin(parameters={"recipe": "slow"}, job_variables=HELD)
    trainer = own.training(run)
    (worker,) = [p for p in psutil.Process(own.process.pid).children() if "deploy.worker" in p.cmdline()]
    worker.kill() if how == "killed" else worker.terminate()
    trainer.wait(SOON)
    if how == "terminated":
        assert own.run(run).state.name == "Running"
    done = own.ended(run, patience=UNTIL_FOUND_DEAD)
    assert done.run_count == 2
    same(own.store, undisturbed)


def test_up_goes_on_where_it_was_stopped(own, undisturbed):
    run = own.begin(parameters={"recipe": "slow"}, job_variables=HELD)
    own.training(run)
    assert own.stop() < 30
    assert own.trainer() is None
    own.start()
    assert own.ended(run).run_count == 2
    same(own.store, undisturbed)


def test_without_its_database_every_artifact_is_reused(own, undisturbed):
    own.ended(own.begin(parameters={"recipe": "slow"}))
    before = digests(own.store)
    own.stop()
    for name in ("prefect.db", "prefect.db-wal", "prefect.db-shm"):
        (own.store / ".prefect" / name).unlink(missing_ok=True)
    shutil.rmtree(own.store.parent / "prefect-home", ignore_errors=True)
    own.start()
    run = own.begin(parameters={"recipe": "slow"})
    own.ended(run)
    assert digests(own.store) == before
    wait_for(lambda: len(task_states(own, run)) >= len(STAGES), "the server to have recorded every task")
    assert set(task_states(own, run)) == {"Reused"}
    same(own.store, undisturbed)


def test_runs_by_hand_use_the_server_that_runs(own, recipes):
    collect("run", str(recipes / "tiny.yaml"), store=own.store)
    with own.api() as client:
        by_hand = [run for run in client.read_flow_runs() if run.deployment_id is None]
    assert [run.state.name for run in by_hand] == ["Completed"]


def test_a_second_up_is_refused(own):
    done = collect("up", "--port", "0", store=own.store, code=2)
    assert "another server works on" in done.error[0]
    done = collect("up", "--port", str(own.port), store=own.store.parent / "other", code=2)
    assert f"port {own.port}" in done.error[0]


def cancel(up, run) -> None:
    trainer = up.trainer()
    with up.api() as client:
        client.set_flow_run_state(run.id, Cancelling())
    up.ended(run, "CANCELLED")
    assert not outlived([trainer] if trainer else [])


def retry(up, run) -> None:
    """As the button of the user interface does it."""
    with up.api() as client:
        client.set_flow_run_state(run.id, AwaitingRetry(message="Retry from the UI"))


def states_of(up, run) -> list[str]:
    with up.api() as client:
        return [state.name for state in client.read_flow_run_states(run.id)]
