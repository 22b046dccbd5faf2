"""The small parts: guard, journal, history, allocator, the choices of the probe."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest
import torch

from lmcore.train import machine, plan
from lmcore.train.guard import Guard, stands_still
from lmcore.train.history import History
from lmcore.train.journal import FILE, Journal, newest_line, read_lines
from lmcore.train.params import EarlyStop, TrainParams
from storage.errors import RunError, UserError

NAN = math.nan


def test_guard_skips_what_is_not_a_number_and_recovers():
    guard = Guard()
    assert guard.admits(1, 2.0, 1.0)
    assert not guard.admits(2, NAN, 1.0)
    assert not guard.admits(3, 2.0, math.inf)
    assert guard.admits(4, 2.0, 1.0)
    assert guard.state() == {"in_a_row": 0, "skipped": 2}


def guard_with(**rules):
    return Guard(rules=TrainParams(steps=1, **rules))


def test_a_spike_is_told_by_the_median_of_the_losses_before():
    guard = guard_with(on_spike="skip", spike_factor=2.0)
    for step in range(19):
        assert guard.admits(step, 2.0 + step % 3, 1.0)
    assert guard.admits(19, 100.0, 1.0)  # too early to tell
    assert not guard.admits(20, 6.1, 1.0)  # twice the median 3
    assert guard.spiked
    assert not guard.wants_rewind
    again = Guard(**json.loads(json.dumps(guard.state())), rules=TrainParams(steps=1, on_spike="skip"))
    assert again.state() == guard.state()
    assert guard.admits(21, 5.9, 1.0)
    assert guard.state()["skipped"] == 1
    assert len(guard.state()["losses"]) == 21
    for step in range(100):
        guard.admits(step, 3.0, 1.0)
    assert guard.state()["losses"] == [3.0] * 50
    for step in range(4):
        assert not guard.admits(step, 7.0, 1.0)
    with pytest.raises(RunError, match="5th step in a row with a spike in the loss"):
        guard.admits(4, 7.0, 1.0)


def test_a_spike_to_go_back_from_and_no_end_of_them():
    guard = guard_with(on_spike="rewind")
    for step in range(20):
        assert guard.admits(step, 2.0, 1.0)
    assert not guard.admits(20, 3.1, 1.0)
    assert guard.wants_rewind
    assert guard.skipped == 0
    guard.rewinds = 9
    tenth = guard_with(on_spike="rewind")
    tenth.rewound(guard)
    assert tenth.rewinds == 10
    with pytest.raises(RunError, match="11 spikes"):
        guard_with(on_spike="rewind").rewound(tenth)


def test_rates_are_halved_where_the_numbers_end():
    guard = guard_with(on_nan="lower")
    assert not guard.admits(1, NAN, 1.0)
    assert not guard.admits(2, 2.0, math.inf)
    assert guard.admits(3, 2.0, 1.0)
    assert guard.state() == {"in_a_row": 0, "skipped": 2, "rates": 0.25}
    assert Guard(**guard.state()).rates == 0.25


def test_a_loss_far_above_guessing_for_long_is_divergence():
    guard = Guard(guessing=4.0)
    assert all(guard.admits(step, 5.5, 1.0) for step in range(60))
    guard = Guard(**guard.state(), guessing=4.0)
    assert all(guard.admits(step, 5.5, 1.0) for step in range(60, 99))
    with pytest.raises(RunError, match=r"for 100 steps it has been far above the 4\.000 nats of guessing blindly"):
        guard.admits(99, 5.5, 1.0)
    guard = Guard(guessing=4.0)
    assert all(guard.admits(step, 5.5 if step % 50 else 4.5, 1.0) for step in range(300))


def test_a_trivial_loss_is_told_once_and_survives_a_resume():
    guard = Guard()
    told = [guard.admits(step, 0.001, 1.0) and guard.newly_trivial for step in range(30)]
    guard = Guard(**guard.state())
    told += [guard.admits(step, 0.001, 1.0) and guard.newly_trivial for step in range(30, 120)]
    assert told.index(True) == 49
    assert sum(told) == 1
    guard.admits(120, 1.0, 1.0)
    assert guard.state() == {"in_a_row": 0, "skipped": 0}


@pytest.mark.parametrize(
    ("bits", "still"),
    [
        ([], False), ([3], False), ([3, 2, 2], False), ([3, 2, 2, 2], True), ([3, 3.5, 2, 2.5, 1.5], False),
        ([3, 2, 1.995, 1.991], True), ([3, 2, 1.995, 1.98], False), ([3, 4, 5], True),
    ],
)  # fmt: skip
def test_standing_still(bits, still):
    assert stands_still(bits, EarlyStop(patience=2, min_delta=0.01)) == still


def test_the_options_of_the_guards_are_in_no_key_until_they_are_set():
    later = {"on_nan", "on_spike", "spike_factor", "rewind_every", "early_stop"}
    assert not later & TrainParams(steps=1).key_values().keys()
    assert TrainParams(steps=1, early_stop={"patience": 2}).key_values()["early_stop"]["patience"] == 2


def test_guard_gives_up_at_the_fifth_in_a_row_also_across_a_resume():
    guard = Guard()
    for step in range(3):
        assert not guard.admits(step, NAN, NAN)
    guard = Guard(**guard.state())
    assert not guard.admits(4, NAN, NAN)
    with pytest.raises(RunError, match="at step 5, the 5th step in a row") as error:
        guard.admits(5, NAN, NAN)
    assert "lower train.lr" in error.value.mend


def test_journal_survives_a_cut_line_and_keeps_events(tmp_path, capsys):
    with Journal(tmp_path, print_every=0) as journal:
        journal.event("training", "training for 3 steps")
        journal.step({"step": 1, "progress": 0.5, "loss": 2.0, "bits_per_byte": NAN, "eta_seconds": 61}, 10, 0.5)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes() + b'{"step": 2, "pro')
    with Journal(tmp_path, print_every=0) as journal:
        assert [event["event"] for event in journal.events] == ["training"]
        journal.event("resumed", "resuming")
    lines = read_lines(path)
    assert [line.get("event", line.get("step")) for line in lines] == ["training", 1, "resumed"]
    assert lines[1]["bits_per_byte"] is None
    assert lines[1]["tokens_per_second"] == 20
    assert newest_line(path)["step"] == 1
    assert newest_line(tmp_path / "none") is None
    printed = capsys.readouterr().out
    assert "step       1" in printed
    assert "1:01 left" in printed


def test_journal_gives_means_since_the_last_line(tmp_path):
    line = {"step": 1, "progress": 0.5, "bits_per_byte": 1.0, "eta_seconds": 0}
    with Journal(tmp_path, print_every=1000) as journal:
        journal.step({**line, "loss": 9.0}, 10, 1.0)
        journal.step({**line, "loss": 2.0}, 10, 1.0)
        journal.step({**line, "loss": 4.0}, 30, 1.0, last=True)
    first, second = read_lines(tmp_path / FILE)
    assert (first["loss"], first["tokens_per_second"]) == (9.0, 10)
    assert (second["loss"], second["tokens_per_second"]) == (3.0, 20)


def test_history_is_the_same_table_however_often_it_was_folded():
    straight, folded = History(), History()
    for step in range(5):
        row = {"step": step, "seconds": step / 3, "tokens_per_second": NAN}
        straight.add("timings", **row)
        folded.add("timings", **row)
        folded = History(folded.tables())
    assert str(straight.table("timings")) == str(folded.table("timings"))
    assert straight.table("timings").num_rows == 5


def test_allocator_says_what_it_did():
    code = "from lmcore.train.allocator import raise_thresholds; print(raise_thresholds())"
    plain = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "threshold" in plain.stdout or "not glibc" in plain.stdout
    named = {**os.environ, "LD_PRELOAD": "/nowhere/libtcmalloc.so"}
    preloaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=named)
    assert preloaded.stdout == "tcmalloc is preloaded: its own settings stay\n"


def test_the_trainer_process_sets_the_allocator_before_torch():
    code = "import sys, lmcore.train.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_machine_facts_are_plausible():
    assert 1 <= machine.physical_cores() <= machine.usable_cores() <= (os.cpu_count() or 1)
    assert machine.free_memory("cpu") > 2**20
    assert machine.peak_memory("cpu") > 50 * 2**20
    assert machine.processor("cpu")
    assert machine.product_gflops("cpu", [torch.float32], rounds=1)[0] > 0.1


@pytest.mark.parametrize(
    ("precision", "context", "head", "choice"),
    [
        ("bf16", 512, 32, "plain"), ("bf16", 1024, 32, "sdpa"), ("bf16", 1024, 64, "plain"),
        ("bf16", 2048, 128, "sdpa"), ("fp32", 128, 64, "sdpa"),
    ],
)  # fmt: skip
def test_attention_rule(precision, context, head, choice):
    reasons = {}
    assert plan._choose_attention("auto", "cpu", precision, context, head, reasons) == choice
    assert plan._choose_attention("auto", "cuda", precision, context, head, reasons) == "sdpa"
    assert plan._choose_attention("plain", "cuda", precision, context, head, reasons) == "plain"
    assert reasons == {"attention": "as set"}


def test_precision_needs_a_clear_win():
    assert plan._choose_precision("auto", {"fp32": 100.0, "bf16": 129.0}, {}) == "fp32"
    assert plan._choose_precision("auto", {"fp32": 100.0, "bf16": 131.0}, {}) == "bf16"
    assert plan._choose_precision("bf16", {"fp32": 100.0, "bf16": 1.0}, {}) == "bf16"


def test_fp16_takes_the_place_of_bf16_on_gpus_that_have_none():
    assert plan._timed("cuda", has_bf16=False) == ["fp32", "fp16"]
    assert plan._timed("cuda", has_bf16=True) == plan._timed("cpu", has_bf16=True) == ["fp32", "bf16"]
    reasons = {}
    assert plan._choose_precision("auto", {"fp32": 100.0, "fp16": 131.0}, reasons) == "fp16"
    assert "no bf16 here" in reasons["precision"]
    assert plan._choose_precision("auto", {"fp32": 100.0, "fp16": 129.0}, {}) == "fp32"
    assert machine.has_bf16("cpu")


def test_compilation_only_where_it_pays():
    def choice(wanted="auto", device="cpu", precision="bf16", seconds=3600.0):
        return plan._choose_compile(wanted, device, precision, seconds, {})

    assert not choice("off")
    assert not choice(device="mps")
    assert not choice(precision="fp32")
    assert not choice(seconds=120)
    assert choice(device="cuda", precision="fp32")


def test_a_device_that_is_not_here_is_the_users_mistake():
    if torch.backends.mps.is_available():
        pytest.skip("this machine has mps")
    with pytest.raises(UserError, match="device is mps, which this machine does not have"):
        plan._choose_device("mps", {})


def test_a_plan_file_that_is_no_plan_is_named(tmp_path):
    path = tmp_path / "plan.json"
    assert plan.load(path) is None
    path.write_text(json.dumps({"format": 1, "device": "cpu"}))
    with pytest.raises(RunError, match=r"plan.json is not a training plan"):
        plan.load(path)
