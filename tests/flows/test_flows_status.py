"""`collect-train status`: runs that go on and runs that died, read from their journals and the process table."""

import io
import json
import os
import re
import subprocess
import sys

import pytest
from helpers_flows import collect
from helpers_runs import ABOUT, keepers
from rich.console import Console

from flows.look import show_status
from flows.planned import Planned
from flows.runs import show_runs
from flows.runstate import RunState, find_run, worth_telling
from storage.errors import RunError, UserError
from storage.manifest import Provenance
from storage.store import Store
from tasks.alive import describe

KEY = "a" * 24


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def keep(store):
    with keepers(store.root) as keep:
        yield keep


def status(store, run="", width=160):
    screen = Console(file=io.StringIO(), width=width, highlight=False)
    if run:
        show_runs(store, screen, run)
    else:
        show_status(store, screen)
    return screen.file.getvalue()


def row(text, stage):
    """The cells of a stage's row."""
    line = next(line for line in text.splitlines() if line.startswith(f"│ {stage} "))
    return [cell.strip() for cell in line.strip("│").split("│")]


def built(store, run, stage, seconds, finished="2026-01-01T00:00:00+00:00", **params):
    """A finished artifact that a run of this id made in so many seconds."""
    work = store.work(stage, KEY)
    (work / "out").mkdir(parents=True)
    (work / "out" / "file").write_text(f"{run} {finished}")
    key = f"{abs(hash((run, stage, finished))):024x}"[:24]
    store.publish(
        stage, key, work / "out",
        Provenance(
            params=params, stage_version=1, pure=True, inputs=[], metrics={"records": 3}, started=finished,
            finished=finished, seconds=seconds, attempts=1, host="h", environment={}, code={}, run=run,
        ),
    )  # fmt: skip
    store.clear_work(stage, KEY)


def plan(store, run, name="tiny", **train):
    folder = store.root / "runs" / run
    folder.mkdir(parents=True, exist_ok=True)
    recipe = {"name": name, "sources": [{"name": "site"}, {"name": "disk"}], "train": train}
    (folder / "plan.json").write_text(json.dumps({"run": run, "recipe": recipe}))


def test_a_run_that_goes_on_is_shown_stage_by_stage(store, keep):
    plan(store, "before")
    plan(store, "other", name="other")
    built(store, "before", "collect", 61.4, source={"name": "site"})
    built(store, "before", "curate", 5.0, finished="2026-01-01T00:00:00+00:00")
    built(store, "before", "curate", 7.0, finished="2026-01-02T00:00:00+00:00")
    built(store, "other", "curate", 99.0, finished="2026-01-03T00:00:00+00:00")
    plan(store, "run-1", minutes=2)
    run = keep("run-1")
    run.attempt(last="train")
    run.write("started", stage="collect site", key="b" * 24)
    run.write("ended", stage="collect site", key="b" * 24, state="Completed", summary="records 3", seconds=2.5)
    run.write("started", stage="curate", key=KEY)
    run.write("progress", stage="curate", key=KEY, done=25, total=100, note="reading [bold]x[/bold]")
    text = status(store)
    head = next(line for line in text.splitlines() if line.startswith("run run-1"))
    assert "tiny, edition first  running since" in head
    assert head.endswith(f"process {run.process.pid}")
    assert row(text, "collect site")[:5] == ["collect site", "Completed", "100", "1:01", "0:02"]
    name, state, percent, planned, actual, left, pid, cpu, memory, note = row(text, "curate")
    assert (name, state, percent, planned) == ("curate", "running", "25", "0:07"), "the newest of this recipe"
    assert re.fullmatch(r"0:0\d", actual)
    assert re.fullmatch(r"0:0\d", left), "by plan: one reading gives no pace"
    assert pid == str(run.process.pid)
    assert float(cpu) < 60
    assert 5 < float(memory.removesuffix(" MB").replace(",", "")) < 500
    assert note == "reading [bold]x[/bold]", "never markup"
    assert row(text, "collect disk")[:4] == ["collect disk", "waiting", "", ""]
    assert row(text, "train")[:4] == ["train", "waiting", "", "2:00"], "its budget"
    assert "evaluate" not in text, "the run ends with train"


def test_state_percent_and_pid_are_whole_in_80_columns(store, keep):
    plan(store, "run-1", minutes=2000)
    run = keep("run-1")
    run.attempt()
    for number, (stage, state) in enumerate(
        [("collect a-source-with-a-name-that-is-longer-than-any-terminal-of-80", "Completed"), ("curate", "Reused")]
    ):
        run.write("started", stage=stage, key=str(number) * 24)
        run.write("ended", stage=stage, key=str(number) * 24, state=state, summary="records 3", seconds=86_400.0)
    run.write("started", stage="train", key=KEY)
    run.write("progress", stage="train", key=KEY, done=25, total=100, note="step 3 of [bold]12[/bold]")
    built(store, "run-0", "collect", 61.4, source={"name": "site"})
    done = collect("status", store=store.root, env={"COLUMNS": "80"})
    lines = done.out.splitlines()
    assert max(len(line) for line in lines) <= 80
    heading = next(line for line in lines if "state" in line)
    assert re.search(r"stage +┃ state +┃ +% ┃.* PID ┃", heading)
    collected = next(line for line in lines if line.startswith("│ collect a-"))
    assert re.match(r"│ collect a-\S*… │ Completed │ 100 │", collected)
    train = row(done.out, "train")
    assert train[1:3] == ["running", "25"]
    assert train[heading.strip("┃").split("┃").index(next(c for c in heading.split("┃") if "PID" in c))] == str(
        run.process.pid
    )
    assert "2026-01-01 00:00" in done.out, "artifacts are whole, too"
    wide = collect("status", store=store.root, env={"COLUMNS": "180"}).out
    assert "step 3 of [bold]12[/bold]" in wide
    assert "memory" in wide
    run.kill()
    narrow = collect("status", "run-1", store=store.root, env={"COLUMNS": "80"}).out
    assert row(narrow, "train")[1] == "interrupted"


def test_the_process_of_a_stage_is_shown_with_what_it_uses(store, keep):
    code = "data = bytearray(120_000_000)\nprint('on', flush=True)\nwhile True: pass"
    trainer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        trainer.stdout.readline()
        run = keep("run-1")
        run.attempt()
        run.write("started", stage="train", key=KEY)
        run.write("process", stage="train", **describe(trainer.pid))
        cells = row(status(store), "train")
        assert cells[6] == str(trainer.pid)
        assert float(cells[7]) > 3
        assert float(cells[8].removesuffix(" MB").replace(",", "")) > 110
    finally:
        trainer.kill()
        trainer.wait()
        trainer.stdout.close()
    assert row(status(store), "train")[6:8] == [str(trainer.pid), "gone"]


def test_a_run_that_was_killed_is_interrupted_and_says_how_to_continue(store, keep):
    run = keep("run-1")
    run.attempt(command="collect-train run tiny.yaml --set train.steps=3")
    run.write("started", stage="train", key=KEY)
    run.write("progress", stage="train", key=KEY, done=0.4, total=1, note="")
    store.work("train", KEY)
    store.work("curate", KEY)
    assert "running since" in status(store)
    run.kill()
    text = status(store)
    assert re.search(
        r"interrupted: run run-1 \(tiny, edition first\) in train at 40 %; process \d+ on \S+ is gone", text
    )
    assert "to continue: collect-train run tiny.yaml --set train.steps=3" in text
    assert f"unfinished train-{KEY}" not in text, "told once"
    assert f"unfinished curate-{KEY}" in text, "of nobody"


def test_a_process_of_the_same_number_does_not_keep_a_dead_run_alive(store, keep):
    folder = store.root / "runs" / "run-1"
    folder.mkdir(parents=True)
    attempt = {"run": "run-1", "number": 1, "deployed": False, "command": "x", "first": "collect", "last": "release"}
    process = describe(os.getpid())
    line = {"at": "2026-01-01T00:00:00.000Z", "event": "attempt", **attempt, **ABOUT, **process}
    (folder / "journal.jsonl").write_text(json.dumps(line) + "\n")
    assert RunState(folder).state == "running"
    (folder / "journal.jsonl").write_text(json.dumps(line | {"born": process["born"] - 100}) + "\n")
    assert RunState(folder).state == "interrupted"


def test_a_run_of_another_machine_is_judged_by_its_silence(store):
    folder = store.root / "runs" / "run-1"
    folder.mkdir(parents=True)
    attempt = {"run": "run-1", "number": 1, "deployed": True, "command": "", "first": "collect", "last": "release"}
    process = describe(os.getpid()) | {"host": "elsewhere"}
    for at, state in (("2026-01-01T00:00:00.000Z", "interrupted"), ("2999-01-01T00:00:00.000Z", "running")):
        line = {"at": at, "event": "attempt", **attempt, **ABOUT, **process}
        (folder / "journal.jsonl").write_text(json.dumps(line) + "\n")
        assert RunState(folder).state == state
    assert "on elsewhere" in status(store)


def test_what_ended_badly_is_told_until_a_later_run_takes_it_up(store, keep):
    run = keep("run-1")
    run.attempt()
    run.write("started", stage="curate", key=KEY)
    run.write("ended", stage="curate", key=KEY, state="Failed", summary="too few texts", seconds=1)
    run.end("Failed", what="too few texts", mend="lower the gate")
    text = status(store)
    assert "failed: run run-1 (tiny, edition first) in curate: too few texts" in text
    assert "to mend: lower the gate" in text
    later = keep("run-2")
    later.attempt()
    assert [state.run for state in worth_telling(store)] == ["run-2"]
    later.end()
    assert worth_telling(store) == []
    assert "run-" not in status(store)


def test_an_interrupted_run_is_told_for_as_long_as_its_work_waits(store, keep):
    run = keep("run-1")
    run.attempt()
    run.write("started", stage="train", key=KEY)
    store.work("train", KEY)
    run.kill()
    other = keep("run-2")
    other.attempt()
    other.end()
    assert [state.run for state in worth_telling(store)] == ["run-1"]
    third = keep("run-3")
    third.attempt()
    third.write("started", stage="train", key=KEY)
    assert [state.run for state in worth_telling(store)] == ["run-3"], "it has taken the work up"
    third.kill()
    store.clear_work("train", KEY)
    fourth = keep("run-4")
    fourth.attempt()
    fourth.end()
    assert worth_telling(store) == []


def test_a_deployed_run_is_continued_by_its_worker(store, keep):
    run = keep("run-1")
    run.attempt(deployed=True, command="")
    run.kill()
    assert "its worker resumes it, within minutes of `collect-train up`; else: prefect flow-run retry run-1" in status(
        store
    )


def test_a_cancelled_run_is_started_again_by_a_person(store, keep):
    for number, state in enumerate(("Stopped", "Failed")):
        run = keep(f"run-{number}")
        run.attempt(deployed=True, command="")
        run.end(state)
        text = status(store)
        assert f"to continue: prefect flow-run retry run-{number}" in text
        assert "crash" not in text
        assert "resumes" not in text


def test_the_next_attempt_takes_the_stages_up_again(store, keep):
    first = keep("run-1")
    first.attempt()
    first.write("started", stage="curate", key="b" * 24)
    first.write("ended", stage="curate", key="b" * 24, state="Completed", summary="kept 3", seconds=2)
    first.write("started", stage="train", key=KEY)
    first.kill()
    state = RunState(store.root / "runs" / "run-1")
    assert [stage.state for stage in state.stages.values()] == ["Completed", "interrupted"]
    second = keep("run-1")
    second.attempt(number=2)
    state.update()
    assert (state.state, state.begun["number"], len(state.attempts)) == ("running", 2, 2)
    second.write("started", stage="curate", key="b" * 24)
    second.write("ended", stage="curate", key="b" * 24, state="Reused", summary="kept 3", seconds=0)
    second.write("started", stage="train", key=KEY)
    state.update()
    assert [(stage.label, stage.state) for stage in state.stages.values()] == [
        ("curate", "Reused"),
        ("train", "running"),
    ]
    assert "attempt 2" in status(store, "run")
    second.end("Stopped")
    state.update()
    assert (state.state, state.over) == ("Stopped", True)
    assert [stage.label for stage in state.unended()] == ["train"]


def test_the_pace_of_the_attempt_tells_what_is_left(store, keep):
    run = keep("run-1")
    run.attempt()
    run.write("started", stage="curate", key=KEY)
    run.write("progress", stage="curate", key=KEY, done=50, total=100, note="it begins where the last attempt was")
    run.write("progress", stage="curate", key=KEY, done=75, total=100, note="")
    state = RunState(store.root / "runs" / "run-1")
    (stage,) = state.stages.values()
    now = stage.first[0].replace(year=stage.first[0].year + 1)
    year = (now - stage.first[0]).total_seconds()
    assert stage.left(now, planned=3.0) == pytest.approx(year), "25 % a year, 25 % left"
    assert Planned(store).left(state, stage, now) == pytest.approx(year)
    trainer = {"step": 3, "progress": 0.3, "loss": 1.0, "bits_per_byte": 2.0, "eta_seconds": 77.0}
    run.write("started", stage="train", key=KEY)
    (store.work("train", KEY) / "progress.jsonl").write_text(json.dumps(trainer) + "\n")
    state.update()
    assert Planned(store).left(state, state.stages["train", KEY], now) == 77.0, "the trainer knows best"


def test_a_run_is_found_by_its_first_characters(store, keep):
    with pytest.raises(UserError, match="has no run with a journal"):
        find_run(store)
    for name in ("abc-1", "abd-2"):
        run = keep(name)
        run.attempt()
    assert find_run(store, "abc").name == "abc-1"
    assert find_run(store).name == "abd-2", "the newest"
    for wrong, said in (("ab", "fits 2 runs"), ("x", "no run 'x'")):
        with pytest.raises(UserError, match=said):
            find_run(store, wrong)
    done = collect("status", "x", store=store.root, code=2)
    assert done.error[1] == "the newest are abd-2, abc-1"


def test_a_journal_without_its_beginning_is_named(store, keep):
    run = keep("run-1")
    run.write("note", stage="train", text="x")
    assert worth_telling(store) == []
    with pytest.raises(RunError, match=r"run-1/journal.jsonl has lost its beginning"):
        _ = RunState(run.folder).begun


def test_an_empty_store_has_nothing_to_tell(store):
    assert "holds no artifact yet" in status(store)
