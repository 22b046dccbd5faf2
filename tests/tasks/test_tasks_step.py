import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from steps_made import Orders, Words, chapter, model, page, write

from storage.errors import RunError, StorageError, UserError
from storage.store import ArtifactDamaged, Store
from tasks.step import step

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def log(tmp_path):
    """A file with one character a build."""
    path = tmp_path / "builds"
    path.touch()
    return path


def in_a_flow(work, workers=4):
    """Run `work()` as a flow; gives what it gave and the flow run's id."""

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=workers), persist_result=False)
    def test_flow():
        return work()

    state = test_flow(return_state=True)
    return state.result(), state.state_details.flow_run_id


def test_what_an_older_version_built_is_built_again_and_said_so(store, log, told):
    @step("curate", version=3)
    def later(work, pages, *, params: Words, runtime: Orders, report):
        return write(work, params, runtime, report, "!")

    def work():
        return [
            build(store, [], params=Words(text=text), runtime=Orders(log=str(log)))
            for build, text in ((chapter, "hello"), (later, "hello"), (later, "hello"), (later, "other"))
        ]

    (old, new, again, _), _ = in_a_flow(work)
    assert old.key != new.key == again.key
    lines = [line for line in told().splitlines() if "version" in line]
    assert [line.split(maxsplit=1)[1].strip() for line in lines] == [
        "built by version 1, this is version 3: built again"
    ]
    assert log.read_text() == "xxx"


def test_built_once_then_reused_and_prefect_shows_which(store, log, told, task_states):
    def work():
        first = chapter(store, [], params=Words(), runtime=Orders(log=str(log)))
        second = chapter(store, [], params=Words(), runtime=Orders(log=str(log)))
        return first, second

    (first, second), run = in_a_flow(work)
    assert first == second
    assert log.read_text() == "x", "built once"
    assert first.file("rest.txt").read_text() == "olleh"
    assert task_states(run, 2) == [("curate", "Completed", "COMPLETED"), ("curate", "Reused", "COMPLETED")]
    lines = told().splitlines()
    assert lines[-2].startswith("✓ curate")
    assert "characters 5" in lines[-2]
    assert lines[-1].startswith("= curate")
    manifest = first.manifest
    assert manifest.provenance.run == str(run)
    assert manifest.provenance.attempts == 1
    assert manifest.provenance.params == {"text": "hello"}
    assert manifest.provenance.metrics == {"characters": 5, "name": "hello"}
    assert manifest.provenance.environment["runtime"] == Orders(log=str(log)).model_dump_json()
    assert not store.has_work("curate", first.key)


def test_params_and_inputs_are_in_the_key_and_runtime_is_not(store, log):
    one, two = (page(store, params=Words(text=text), runtime=Orders()) for text in ("a", "b"))
    first = chapter(store, [one, two], params=Words(), runtime=Orders(log=str(log)))
    assert chapter(store, [one, two], params=Words(), runtime=Orders(log=str(log), fail="bug")) == first
    assert log.read_text() == "x"
    others = [
        chapter(store, [two, one], params=Words(), runtime=Orders(log=str(log))),
        chapter(store, [one], params=Words(), runtime=Orders(log=str(log))),
        chapter(store, [one, two], params=Words(text="other"), runtime=Orders(log=str(log))),
    ]
    assert len({first.key, *(other.key for other in others)}) == 4
    assert log.read_text() == "xxxx"
    entries = first.manifest.provenance.inputs
    assert [(entry.name, entry.key, entry.digest) for entry in entries] == [
        ("pages", one.key, one.digest),
        ("pages", two.key, two.digest),
    ]
    key = Store.key("curate", 1, {"text": "hello"}, {"pages": [one.digest, two.digest]})
    assert first.key == key, "a key is what Store.key says and nothing else"


def test_reuse_only_says_what_is_missing(store, log):
    runtime = Orders(log=str(log))
    with pytest.raises(UserError, match="stage curate is not built yet") as error:
        chapter(store, [], params=Words(), runtime=runtime, mode="reuse")
    assert error.value.exit_code == 2
    assert "--from" in error.value.mend
    assert log.read_text() == ""
    built = chapter(store, [], params=Words(), runtime=runtime)
    assert chapter(store, [], params=Words(), runtime=runtime, mode="reuse") == built
    os.truncate(built.file("rest.txt"), 1)
    with pytest.raises(ArtifactDamaged, match=r"rest\.txt"):
        chapter(store, [], params=Words(), runtime=runtime, mode="reuse")
    assert log.read_text() == "x"
    assert built.path.is_dir(), "who only wants to reuse changes nothing"


@pytest.mark.parametrize(("fail", "kind"), [("user", UserError), ("run", RunError), ("bug", KeyError)])
def test_a_failed_build_keeps_its_work_and_raises_what_it_raised(store, log, told, fail, kind):
    with pytest.raises(kind) as error:
        chapter(store, [], params=Words(), runtime=Orders(log=str(log), fail=fail))
    assert type(error.value) is kind
    assert "✗ curate" in told()
    (work,) = (store.root / ".work").iterdir()
    assert (work / "out" / "half.txt").read_text() == "hello"
    assert list(store.artifacts()) == []
    artifact = chapter(store, [], params=Words(), runtime=Orders(log=str(log)))
    assert artifact.manifest.provenance.attempts == 2
    assert "attempt 2" in told()
    assert not work.exists()
    assert log.read_text() == "xx"


@pytest.mark.parametrize(("fail", "kind"), [("ctrl-c", KeyboardInterrupt), ("sigterm", SystemExit)])
def test_a_stopped_build_is_no_failure_and_is_continued(store, log, told, fail, kind):
    with pytest.raises(kind):
        chapter(store, [], params=Words(), runtime=Orders(log=str(log), fail=fail))
    assert "Stopped" in told()
    assert "Failed" not in told()
    artifact = chapter(store, [], params=Words(), runtime=Orders(log=str(log)))
    assert artifact.manifest.provenance.attempts == 2
    assert log.read_text() == "xx"


def test_the_failure_of_a_submitted_step_reaches_the_caller(store, task_states):
    def work():
        future = chapter.submit(store, [], params=Words(), runtime=Orders(fail="run"))
        future.wait()
        with pytest.raises(RunError, match="dead server"):
            future.result()
        good = chapter.submit(store, [], params=Words(), runtime=Orders())
        return good.result()

    artifact, run = in_a_flow(work)
    assert artifact.manifest.provenance.attempts == 2
    assert [state[1] for state in task_states(run, 2)] == ["Failed", "Completed"]


def test_a_full_disk_in_a_build_is_told_with_the_path(store, monkeypatch):
    monkeypatch.setattr("storage.atomic._reached", Counter())
    monkeypatch.setenv("COLLECT_TRAIN_FAULT", "store.publish.before-manifest=enospc")
    with pytest.raises(StorageError, match=f"disk full while writing {store.root}"):
        chapter(store, [], params=Words(), runtime=Orders())
    monkeypatch.delenv("COLLECT_TRAIN_FAULT")
    assert chapter(store, [], params=Words(), runtime=Orders()).manifest.provenance.attempts == 2


def test_a_damaged_artifact_is_set_aside_and_built_again(store, log, told):
    before = chapter(store, [], params=Words(), runtime=Orders(log=str(log)))
    digest = before.digest
    os.truncate(before.file("rest.txt"), 2)
    after = chapter(store, [], params=Words(), runtime=Orders(log=str(log)))
    assert (after, after.digest) == (before, digest)
    assert log.read_text() == "xx"
    aside = store.root / ".aside" / f"curate-{before.key}-1"
    assert (aside / "rest.txt").read_text() == "ol"
    assert "rest.txt has 2 bytes, its manifest says 5" in (aside / "reason.txt").read_text()
    assert str(aside) in told()
    assert "stale" not in told(), "a pure step gives the same bytes again"
    assert after.manifest.provenance.attempts == 1


@pytest.mark.parametrize("damage", ["file", "manifest"])
def test_a_rebuild_of_an_impure_step_names_what_is_stale(store, told, damage):
    first = page(store, params=Words(), runtime=Orders())
    middle = chapter(store, [first], params=Words(), runtime=Orders())
    last = model(store, middle, params=Words(), runtime=Orders())
    digest = first.digest
    os.truncate(first.file("rest.txt" if damage == "file" else "manifest.json"), 2)
    again = page(store, params=Words(), runtime=Orders())
    assert again.digest != digest
    assert f"stale now: curate/{middle.key[:12]}, train/{last.key[:12]}" in told()
    assert chapter(store, [again], params=Words(), runtime=Orders()).key != middle.key


@pytest.mark.parametrize(("text", "pure"), [("steps", True), ("minutes", False)])
def test_settings_may_decide_whether_a_step_is_pure(store, told, text, pure):
    corpus = chapter(store, [], params=Words(), runtime=Orders())
    artifact = model(store, corpus, params=Words(text=text), runtime=Orders())
    assert artifact.manifest.provenance.pure is pure
    page_after = chapter(store, [artifact], params=Words(text="built from it"), runtime=Orders())
    os.truncate(artifact.file("rest.txt"), 0)
    model(store, corpus, params=Words(text=text), runtime=Orders())
    assert (f"stale now: curate/{page_after.key[:12]}" in told()) is not pure


def test_threads_on_one_key_build_it_once(store, log, tmp_path, task_states):
    orders = Orders(log=str(log), wait_for=str(tmp_path / "go"))
    threading.Timer(0.5, (tmp_path / "go").touch).start()

    def work():
        futures = [chapter.submit(store, [], params=Words(), runtime=orders) for _ in range(3)]
        return [future.result() for future in futures]

    artifacts, run = in_a_flow(work)
    assert len(set(artifacts)) == 1
    assert log.read_text() == "x"
    assert sorted(state[1] for state in task_states(run, 3)) == ["Completed", "Reused", "Reused"]


def test_of_two_processes_one_builds_and_the_other_takes_over_when_it_is_killed(store, log, tmp_path, prefect_server):
    paths = os.pathsep.join((str(ROOT), str(Path(__file__).parent)))
    environment = os.environ | {"PREFECT_API_URL": prefect_server, "PYTHONPATH": paths}
    command = [sys.executable, "-m", "steps_made", str(store.root), str(log), str(tmp_path / "go")]

    def start():
        return subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def until(done, process):
        deadline = time.monotonic() + 200
        while not done():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    builder = start()
    until(lambda: log.read_text() == "x", builder)
    waiter = start()
    first_line = waiter.stderr.readline()
    assert f"process {builder.pid} builds it; waiting" in first_line
    assert log.read_text() == "x"
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    until(lambda: log.read_text() == "xx", waiter)
    (tmp_path / "go").touch()
    output, errors = waiter.communicate(timeout=200)
    assert waiter.returncode == 0, errors
    digest, attempts = output.split()
    assert int(attempts) == 2
    artifact = chapter(store, [], params=Words(), runtime=Orders(log=str(log)))
    assert log.read_text() == "xx"
    elsewhere = chapter(Store(tmp_path / "uninterrupted"), [], params=Words(), runtime=Orders())
    assert artifact.digest == elsewhere.digest == digest


def test_what_a_kill_after_publishing_left_is_cleared_on_reuse(store, log):
    artifact = chapter(store, [], params=Words(), runtime=Orders(log=str(log)))
    (store.work("curate", artifact.key) / "checkpoint").write_text("left behind")
    assert chapter(store, [], params=Words(), runtime=Orders(log=str(log))) == artifact
    assert not store.has_work("curate", artifact.key)
    assert log.read_text() == "x"


def test_what_is_told_is_never_markup(told):
    from tasks.progress import Watch

    watch = Watch("collect [bold]site[/bold]")
    watch.note("page [link=http://evil]title[/link] [/]")
    watch.end("Failed", "[red]why[/red]")
    assert "[link=http://evil]title[/link] [/]" in told()
    assert "[bold]site[/bold]" in told()
    assert "[red]why[/red]" in told()


def test_a_step_refuses_a_wrong_number_of_inputs(store):
    with pytest.raises((TypeError, ValueError)):
        chapter(store, params=Words(), runtime=Orders())
    assert list(store.artifacts()) == []
