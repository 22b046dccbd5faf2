"""Real runs and what they leave: journal and log over kill -9, failures, a server that dies, and who reads them."""

import re
import shutil
import signal
import time
import uuid

import psutil
import pytest
from held import every, next_stop, until_held
from helpers_flows import MARK, PATIENCE, collect, digests, finish, frozen_site, start, states, web_source, write_recipe
from helpers_kill import assert_no_orphans
from helpers_runs import terminal

from lmcore.train.journal import read_lines
from storage.atomic import FAULT_VARIABLE

pytestmark = pytest.mark.slow
# It stands still at every second step, until it was looked at: one of so few lines is given ten minutes for the next.
STEPS, HOLD = 40, 2


@pytest.fixture(scope="module")
def site():
    with frozen_site() as site:
        yield site


@pytest.fixture(scope="module")
def corpus(site, shared_server, tmp_path_factory):
    """A store with everything before training, and the recipe."""
    folder = tmp_path_factory.mktemp("corpus")
    recipe = write_recipe(folder, web_source(site.url))
    collect("run", recipe, "--until", "tokens", store=folder / "store", env=shared_server)
    return recipe, folder / "store"


def until(condition, process):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert process.poll() is None, finish(process)
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def journal(store):
    (path,) = store.glob("runs/*/journal.jsonl")
    return read_lines(path)


def training_of(process):
    return [c for c in psutil.Process(process.pid).children() if "lmcore.train" in " ".join(c.cmdline())]


def steps_told(store):
    """Steps of the training that the run's journal knows of; it is told every few seconds."""
    lines = [line for path in store.glob("runs/*/journal.jsonl") for line in read_lines(path)]
    told = [line for line in lines if line["event"] == "progress" and line["stage"] == "train"]
    return max((STEPS * line["done"] for line in told), default=0)


def row(text, stage):
    line = next(line for line in text.splitlines() if line.startswith(f"│ {stage} "))
    return [cell.strip() for cell in line.strip("│").split("│")]


@pytest.mark.timeout(600)
def test_a_run_is_watched_killed_resumed_and_watched_to_its_end(site, shared_server, tmp_path):
    recipe, store = write_recipe(tmp_path, web_source(site.url), train={"steps": STEPS}), tmp_path / "store"
    recipe_args = (recipe, "--set", "runtime.train.save_every_steps=1")
    name = str(uuid.uuid4())
    # One flow run of a deployment, as far as the run can see: a worker would start it again under its id.
    one_run = {"PREFECT__RUNTIME__FLOW_RUN__ID": name, "PREFECT__RUNTIME__DEPLOYMENT__ID": str(uuid.uuid4())}
    mark = uuid.uuid4().hex
    env = {**shared_server, **one_run, MARK: mark, FAULT_VARIABLE: every(HOLD)}
    process = start("run", *recipe_args, store=store, env=env)
    (trainer,) = until_held(lambda: training_of(process), why_not=process.poll)
    next_stop(trainer)
    until(lambda: steps_told(store) >= HOLD, process)

    text = collect("status", store=store, env={"COLUMNS": "180"}).out
    assert f"run {name}  tiny" in text
    assert f"process {process.pid}" in text
    assert row(text, "curate")[1] == "Completed"
    cells = row(text, "train")
    assert cells[1] == "running"
    assert 1 <= int(cells[2]) <= 99
    assert re.fullmatch(r"\d+:\d\d", cells[5]), "what is left"
    assert cells[6] == str(trainer.pid)
    assert float(cells[7]) >= 0, "it stands still"
    assert float(cells[8].removesuffix(" MB").replace(",", "")) > 50
    assert re.match(r"step [\d,]+  \d", cells[9])
    assert row(text, "evaluate")[1] == "waiting"
    assert "unfinished train-" not in text

    follower = start("logs", "-f", name[:8], store=store)
    with terminal("watch", name[:8], "--store", str(store)) as screen:
        screen.read_until(
            r"step [\d,]+   loss \d+\.\d+   \d+\.\d+ bits per byte   [\d,]+ tokens/s   lr \S+   \d:\d\d left"
        )
        screen.read_until(r"\d\.\d\d ┤ *█")
        screen.read_until(r"at step 0: The")
        process.kill()
        trainer.resume()
        assert finish(process).code == -signal.SIGKILL
        assert_no_orphans(mark)
        text = collect("status", store=store, env={"COLUMNS": "180"}).out
        assert re.search(
            rf"interrupted: run {name} \(tiny, edition \S+\) in train at \d+ %; process {process.pid}", text
        )
        assert f"prefect flow-run retry {name}" in text
        screen.read_until(r"tiny, edition \S+  interrupted")
        assert follower.poll() is None
        assert screen.process.poll() is None

        done = collect("run", *recipe_args, store=store, env={**shared_server, **one_run})
        assert "continues after an interruption (attempt 2)" in done.out
        assert screen.finish() == 0
        screen.read_until(rf"attempt 2  Completed(.|\n)*step {STEPS:,}")
        screen.read_until(rf"at step {STEPS:,}: The")
    followed = finish(follower)
    assert followed.code == 0
    assert followed.out == (store / "runs" / name / "run.log").read_text()
    assert followed.err.count("its process is gone") == 1

    lines = followed.out.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  ", line) for line in lines)
    told = [line for line in done.out.splitlines() if re.match("[✓=]", line)]
    assert [line[22:] for line in lines if line[22:] in told] == told, "what a person saw is in the log"
    assert [line[22:31] for line in lines].count("attempt 1") == 1
    assert [line[22:31] for line in lines].count("attempt 2") == 1

    events = journal(store)
    assert [event["event"] for event in events].count("attempt") == 2
    assert events[-1]["event"] == "end"
    assert events[-1]["state"] == "Completed"
    trainers = [event for event in events if event["event"] == "process"]
    assert trainers[0]["pid"] == trainer.pid
    assert {"cores", "memory_bytes", "OMP_NUM_THREADS"} <= trainers[0]["resources"].keys()
    ended = {event["stage"]: event["state"] for event in events if event["event"] == "ended"}
    assert ended["collect frozen"] == "Reused"
    assert ended["train"] == "Completed"
    progress = [event for event in events if event["event"] == "progress" and event["stage"] == "train"]
    assert len(progress) >= 2
    text = collect("status", store=store).out
    assert "interrupted" not in text
    assert collect("status", name[:6], store=store).out.rstrip().splitlines()[-1].startswith(f"run {name} (tiny")
    plain = collect("watch", store=store).out
    assert f"train: step {STEPS:,}   loss " in plain
    assert re.search("┤ *█", plain)


def test_a_failure_is_in_the_log_with_its_reason_and_without_secrets(corpus, shared_server, tmp_path):
    recipe, _ = corpus
    store = tmp_path / "store"
    env = {**shared_server, "SITE_TOKEN": "frozen"}
    args = ("run", recipe, "--set", "curate.gates.min_documents=9999", "--until", "curate")
    failed = collect(*args, store=store, env=env, code=1)
    what, mend = failed.error
    (log,) = store.glob("runs/*/run.log")
    lines = log.read_text().splitlines()
    assert lines[-2].endswith(f": {what}")
    assert lines[-1].endswith(f"  to mend: {mend}")
    for path in log.parent.glob("*l*"):
        assert "frozen" not in path.read_text() or path.name == "plan.json"
    assert "✓ collect ***" in log.read_text()
    text = collect("status", store=store).out
    assert re.search(rf"in curate( at \d+ %)?: {re.escape(what)}", text)
    assert f"to mend: {mend}" in text
    assert "to continue: collect-train run" in text


def test_the_end_of_the_trainers_log_is_in_the_runs_log(corpus, shared_server, copy_of):
    recipe, whole = corpus
    store = copy_of(whole)
    failed = collect("run", recipe, store=store, env={**shared_server, FAULT_VARIABLE: "train.step:3"}, code=1)
    assert states(failed)["train"] == "Failed"
    newest = max(store.glob("runs/*/run.log"), key=lambda path: path.stat().st_mtime)
    text = newest.read_text()
    assert re.search(r"Z  the end of \S+/train.log:\n", text)
    assert re.search(r"Z    \| the plan of this run:", text)
    assert "lmcore.train was ended by SIGKILL" in text.splitlines()[-2]
    collect("run", recipe, store=store, env=shared_server)
    assert "failed:" not in collect("status", store=store).out


@pytest.fixture
def copy_of(tmp_path):
    def copy(store):
        return shutil.copytree(store, tmp_path / "copy")

    return copy


@pytest.mark.timeout(900)
def test_the_work_is_done_although_the_prefect_server_died(corpus, copy_of, shared_server):
    """The embedded server, a child of this very run, is killed while it trains."""
    recipe, whole = corpus
    store, undisturbed = copy_of(whole), whole
    args = ("run", recipe, "--set", "train.steps=60", "--set", "runtime.train.save_every_steps=20")
    # Prefect itself would try for minutes to tell the end of the run to a server that is gone.
    process = start(*args, store=store, env={"PREFECT_CLIENT_MAX_RETRIES": "0", FAULT_VARIABLE: every(40)})
    (trainer,) = until_held(lambda: training_of(process), why_not=process.poll)
    (server,) = [c for c in psutil.Process(process.pid).children() if "flows.embedded" in c.cmdline()]
    server.kill()
    trainer.resume()
    done = finish(process, patience=600)
    assert done.code == 1
    assert done.error[0].startswith("the Prefect server does not answer: ")
    assert done.error[1] == "what was built is in the store; run the same command again"
    assert done.out.count("does not answer") == 1
    assert set(states(done).values()) <= {"Completed", "Reused"}
    assert states(done)["release"] == "Completed"
    (_, newest) = sorted(store.glob("runs/*/journal.jsonl"), key=lambda path: path.stat().st_mtime)
    assert read_lines(newest)[-1]["state"] == "Completed"
    again = collect(*args, store=store, env=shared_server)
    assert set(states(again).values()) == {"Reused"}
    assert digests(store)["tokens"] == digests(undisturbed)["tokens"]
