"""Stores with damaged files: commands that only look say so and go on, or name the file; none is a fault of ours."""

from __future__ import annotations

import json
import os

import pytest
from helpers_flows import collect
from helpers_runs import ABOUT
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.runstate import RunState
from storage.store import Store
from storage.tombstones import FILE
from tasks.alive import describe
from tasks.journal import JOURNAL, last_event, parse_events, read_events

AT = "2026-01-01T00:00:00.000Z"
ATTEMPT = {
    "at": AT, "event": "attempt", "run": "run-1", "number": 1, "deployed": False, "command": "collect-train run tiny",
    "first": "collect", "last": "release", **ABOUT, **describe(os.getpid()),
}  # fmt: skip
STARTED = {"at": AT, "event": "started", "stage": "curate", "key": "a" * 24}
PROGRESS = STARTED | {"event": "progress", "done": 1, "total": 4, "note": ""}
ENDED = STARTED | {"event": "ended", "state": "Failed", "summary": "", "seconds": 1.0}
END = {"at": AT, "event": "end", "state": "Failed", "what": "x", "mend": "y", "seconds": 1.0, **ABOUT}
EVENTS = (ATTEMPT, STARTED, PROGRESS, ENDED, END)
STRANGE = [
    {"event": "progress", "stage": "curate"},
    {"at": AT},
    {"at": AT, "event": "attempt"},
    {"at": "yesterday", "event": "note", "stage": "curate", "key": "a"},
    {"at": "2026-01-01T00:00:00", "event": "end"},
    {"at": AT, "event": ["end"]},
    ATTEMPT | {"pid": -1},
    ATTEMPT | {"last": "nowhere"},
    ATTEMPT | {"number": True},
    PROGRESS | {"done": float("nan")},
    PROGRESS | {"total": "4"},
    {"at": AT, "event": "of a later program", "stage": [], "key": {}},
    7,
    None,
]


def journal(store, lines, run="run-1"):
    folder = store / "runs" / run
    folder.mkdir(parents=True)
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    (folder / JOURNAL).write_text(text)
    (folder / "run.log").write_text("2026-01-01T00:00:00Z  hello\n")
    return folder


def test_strange_lines_of_a_journal_are_left_out(tmp_path):
    lines = [line for event in EVENTS for line in (*STRANGE, event)]
    folder = journal(tmp_path / "store", [*lines, *STRANGE, "{cut\n"])
    known = [event for event in read_events(folder) if event["event"] != "of a later program"]
    assert known == list(EVENTS)
    run = RunState(folder)
    assert (run.state, run.began.year, [stage.state for stage in run.stages.values()]) == ("Failed", 2026, ["Failed"])
    assert last_event(folder)["event"] in ("end", "of a later program")


@pytest.mark.parametrize("command", [["status"], ["status", "run-1"], ["logs"], ["watch"], ["gc"]])
def test_commands_that_look_at_such_a_journal(tmp_path, command):
    store = tmp_path / "store"
    folder = journal(store, [*STRANGE, ATTEMPT, *STRANGE, STARTED, PROGRESS, *STRANGE, END, *STRANGE])
    plan = {"run": "run-1", "recipe": "tiny"}
    if command != ["gc"]:
        (folder / "plan.json").write_text(json.dumps(plan))
    done = collect(*command, store=store)
    assert "run-1" in done.out or "hello" in done.out or command == ["gc"]
    assert done.err == ""


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(EVENTS), st.data())
def test_a_field_of_another_kind_costs_the_line_or_nothing(tmp_path_factory, event, data):
    name = data.draw(st.sampled_from(sorted(event)))
    value = data.draw(st.sampled_from([None, -1, 0, True, 1e300, float("inf"), "", "x", [], [1], {}, {"a": 1}]))
    changed = [each | {name: value} if each is event else each for each in EVENTS]
    folder = journal(tmp_path_factory.mktemp("store"), changed)
    run = RunState(folder)
    assert run.state in ("running", "interrupted", "Failed", str(value)) if run.attempts else run.stages is not None
    assert all(isinstance(each["at"], str) for each in parse_events((folder / JOURNAL).read_bytes()))


def test_a_manifest_that_cannot_be_read_is_told(tmp_path):
    folder = tmp_path / "store" / "curate" / ("a" * 24)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("garbage")
    done = collect("status", store=tmp_path / "store")
    assert f"damaged curate/{'a' * 24}: its manifest cannot be read" in done.out
    assert "collect-train verify" in done.out
    assert "holds no artifact" not in done.out


@pytest.mark.parametrize("text", ['{"x":1}', "garbage", "{}"])
def test_a_broken_list_of_forgotten_texts_is_one_failure_for_all(tmp_path, text):
    store = Store(tmp_path / "store")
    store.root.mkdir()
    (store.root / FILE).write_text(text)
    told = json.loads(collect("doctor", "--json", store=store.root, code=1).out)
    (found,) = [check for check in told["checks"] if check["state"] == "failure"]
    assert (found["name"], "is damaged" in found["told"], "backup" in found["mend"]) == ("takedown", True, True)
    assert "telemetry" in {check["name"] for check in told["checks"]}, "it goes on"
    for command in (["gc"], ["gc", "--delete"], ["forget", "http://x.example/"]):
        what, mend = collect(*command, store=store.root, code=1).error
        assert f"{FILE} is damaged" in what, command
        assert "backup" in mend


@pytest.mark.parametrize("command", [["status"], ["logs"], ["gc"], ["doctor"], ["verify"], ["releases"]])
@pytest.mark.parametrize("below", ["", "sub/store"])
def test_a_file_is_no_store(tmp_path, command, below):
    (tmp_path / "file").write_text("x")
    what, mend = collect(*command, store=tmp_path / "file" / below, code=2).error
    assert f"{tmp_path / 'file'} is not a folder" in what
    assert "--store" in mend
