"""`collect-train watch`: the curve, the screen of a run that goes on, and of one that is over."""

import io
import json
import math

import pytest
from helpers_flows import start
from helpers_runs import keepers, terminal
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from flows.curve import BLOCKS, draw_curve
from flows.runstate import RunState
from flows.training import TrainingView
from flows.watch import training_lines, watch_run
from storage.store import Store

KEY = "a" * 24


def heights(lines):
    """How many eighths each column of a drawn curve is high."""
    rows = [line.partition("┤")[2] for line in lines if "┤" in line]
    return [sum(BLOCKS.index(character) for character in column) for column in zip(*rows, strict=True)]


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=300),
    st.integers(1, 120),
    st.integers(1, 12),
)
def test_a_curve_has_the_size_that_was_asked_for(values, width, height):
    lines = draw_curve(values, width, height)
    if not any(map(math.isfinite, values)):
        assert lines == []
        return
    assert len(lines) == height
    found = heights(lines)
    assert 1 <= len(found) <= max(width, len(values))
    assert all(1 <= column <= 8 * height for column in found)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=40, unique=True), st.integers(2, 10))
def test_higher_values_are_never_drawn_lower(values, height):
    found = heights(draw_curve(values, 200, height))
    assert len(found) == len(values)
    by_value = [tall for _, tall in sorted(zip(values, found, strict=True))]
    assert by_value == sorted(by_value)
    assert (by_value[0], by_value[-1]) == (1, 8 * height)


def test_a_curve_names_its_bounds_and_its_ends():
    lines = draw_curve([8.0, 4.0, 2.0, 2.0] * 10, 60, 4, ("step 1", "step 40"))
    assert lines[0].startswith("8.00 ┤")
    assert lines[3].startswith("2.00 ┤")
    assert lines[4].split() == ["step", "1", "step", "40"]
    assert draw_curve([3.0], 60, 4, ("step 1", "step 1"))[-1].strip() == "step 1"


def test_a_long_curve_is_drawn_by_means():
    found = heights(draw_curve([2.0, 4.0] * 500 + [1.0, 1.0] * 500, 48, 8))
    assert len(found) == 48 - 6
    assert min(found[:20]) >= 63, "the mean of 2 and 4 is the highest, give or take one at a share's edge"
    assert set(found[-20:]) == {1}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def keep(store):
    with keepers(store.root) as keep:
        yield keep


class Trainer:
    """What the trainer leaves in its work folder."""

    def __init__(self, store):
        self.path = store.work("train", KEY) / "progress.jsonl"

    def write(self, **line):
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")

    def steps(self, first, last):
        for step in range(first, last + 1):
            line = {"step": step, "progress": step / 100, "loss": 8.0 - step / 20, "bits_per_byte": 6.0 - step / 30}
            self.write(**line, tokens_per_second=1234.5, lr=0.004, eta_seconds=100.0 - step)


def begin(run):
    run.attempt()
    run.write("started", stage="train", key=KEY)


def test_what_is_seen_of_a_training(store, keep):
    run = keep("run-1")
    begin(run)
    trainer = Trainer(store)
    view = TrainingView(store, RunState(run.folder).stages["train", KEY])
    view.update()
    assert training_lines(view, 100) == []
    trainer.write(event="probe", text="probing")
    trainer.steps(1, 40)
    trainer.write(event="validation", text="", step=40, bits_per_byte=4.5)
    trainer.write(event="sample", text="", step=0, prompt="The", continuation=" old")
    trainer.write(event="sample", text="", step=40, prompt="The", continuation=" new\x1b[31m\nline")
    trainer.write(event="sample", text="", step=40, prompt="A", continuation=" [bold]b")
    view.update()
    text = "\n".join(line.plain for line in training_lines(view, 100))
    first = text.splitlines()[0].split("   ")
    assert first == ["step 40", "loss 6.000", "4.667 bits per byte", "1,234 tokens/s", "lr 0.004", "1:00 left"]
    assert "5.97 ┤█" in text
    assert "validation: 4.5000 bits per byte at step 40" in text
    assert "The old" not in text, "only the newest look"
    assert "The new\ufffd[31m line" in text
    assert "A [bold]b" in text


def test_steps_done_again_replace_those_that_were_lost(store, keep):
    run = keep("run-1")
    begin(run)
    trainer = Trainer(store)
    trainer.steps(1, 30)
    view = TrainingView(store, RunState(run.folder).stages["train", KEY])
    view.update()
    trainer.steps(21, 25)
    view.update()
    assert view.steps == list(range(1, 26))
    trainer.write(step=26, loss=None, bits_per_byte=None, tokens_per_second=1.0, eta_seconds=1.0)
    view.update()
    assert (view.steps[-1], view.newest["step"]) == (25, 26), "a loss that is not finite is no point of the curve"


def test_without_a_terminal_it_prints_plain_lines_until_the_end(store, keep):
    run = keep("run-1")
    begin(run)
    run.write("log", text="attempt 1")
    trainer = Trainer(store)
    trainer.steps(1, 40)
    process = start("watch", store=store.root)
    assert process.stdout.readline().endswith("  attempt 1\n")
    assert process.stdout.readline().startswith("train: step 40   loss 6.000   4.667 bits per byte")
    run.write("log", text="✓ train")
    run.end()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "✓ train\n" in out
    assert "┤█" in out
    assert "\x1b" not in out


def test_a_terminal_shows_a_run_until_it_ends(store, keep):
    run = keep("run-1")
    begin(run)
    run.write("progress", stage="train", key=KEY, done=0.2, total=1.0, note="step 20")
    trainer = Trainer(store)
    trainer.steps(1, 20)
    with terminal("watch", "run", "--store", str(store.root)) as screen:
        screen.read_until(r"run run-1  tiny, edition first  running since")
        screen.read_until(r"step 20   loss 7.000   5.333 bits per byte")
        screen.read_until(r"5\.97 ┤█")
        trainer.steps(21, 50)
        screen.read_until(r"step 50   loss 5.500")
        run.write("ended", stage="train", key=KEY, state="Completed", summary="loss 5.5", seconds=3)
        run.end()
        assert screen.finish() == 0
        screen.read_until(r"first  Completed")
        assert "train" in screen.text


def test_a_run_that_failed_is_shown_with_its_reason(store, keep):
    run = keep("run-1")
    run.attempt()
    run.write("started", stage="curate", key=KEY)
    run.end("Failed", what="too few [red]texts[/red]", mend="lower the gate")
    screen = io.StringIO()
    watch_run(store, "", Console(file=screen, width=120, force_terminal=True, color_system=None))
    assert "too few [red]texts[/red]" in screen.getvalue()
    assert "to continue: collect-train run tiny.yaml" in screen.getvalue()


def test_ctrl_c_leaves_the_run_alone(store, keep):
    run = keep("run-1")
    begin(run)
    with terminal("watch", "--store", str(store.root)) as screen:
        screen.read_until("running since")
        screen.process.send_signal(2)
        assert screen.finish() == 0
        assert "\x1b[?25h" in screen.text, "the cursor is back"
    assert run.process.poll() is None
