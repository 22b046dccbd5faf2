"""The learning rate at fixed points, the horizons, and what is due when."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lmcore.train.history import due, every
from lmcore.train.horizon import Horizon, make_horizon, warmup_share
from lmcore.train.params import TrainParams
from lmcore.train.schedule import lr_share
from storage.errors import UserError

TRAPEZOID = {"warmup": 0.02, "decay_share": 0.6, "final": 0.1}


@pytest.mark.parametrize(
    ("progress", "share"),
    [(0, 0), (0.01, 0.5), (0.02, 1), (0.3, 1), (0.4, 1), (0.7, 0.55), (0.85, 0.325), (1, 0.1), (1.7, 0.1), (-1, 0)],
)
def test_trapezoid_at_fixed_points(progress, share):
    assert lr_share(progress, "trapezoid", **TRAPEZOID) == pytest.approx(share)


@pytest.mark.parametrize(
    ("schedule", "progress", "share"),
    [
        ("cosine", 0.1, 1), ("cosine", 0.55, 0.55), ("cosine", 0.325, 0.1 + 0.9 * 0.8535533905932737),
        ("cosine", 1, 0.1), ("linear", 0.1, 1), ("linear", 0.55, 0.55), ("linear", 1, 0.1),
        ("constant", 0.05, 0.5), ("constant", 0.1, 1), ("constant", 1, 1),
    ],
)  # fmt: skip
def test_other_schedules_at_fixed_points(schedule, progress, share):
    assert lr_share(progress, schedule, warmup=0.1, final=0.1) == pytest.approx(share)


def test_without_warmup_and_decay_the_rate_is_full():
    assert lr_share(0, "trapezoid") == lr_share(1, "trapezoid") == lr_share(0, "cosine") == 1


@given(
    st.sampled_from(["trapezoid", "cosine", "linear", "one_cycle", "constant"]),
    st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1),
)  # fmt: skip
def test_the_share_stays_in_range_and_falls_after_the_warmup(schedule, warmup, decay, final, a, b):
    settings = {"warmup": warmup, "decay_share": decay, "final": final}
    early, late = sorted((a, b))
    first, second = (lr_share(at, schedule, **settings) for at in (early, late))
    assert 0 <= first <= 1 + 1e-12
    if early >= warmup:
        assert second <= first + 1e-12
        assert second >= min(final, 1) - 1e-12


# The course of the rate in the five systems' documents, at steps whose values they give. (steps, warm-up steps, peak).
SOMA = (3000, 300, 3e-4)  # [derived] there: warm-up over 10 %, cosine down to 5 %
LAI = (5000, 100, 3e-4)
CLLM = (100_000, 1000, 1e-4)
MU = (1310, 393, 1e-4)  # a cycle of the 262 x 5 steps; torch's own share of 0.3 in place of the document's 76 %
AMHARIC = (1886, 100, 5e-5)


@pytest.mark.parametrize(
    ("system", "schedule", "final", "step", "rate"),
    [
        (SOMA, "cosine", 0.05, 0, 0), (SOMA, "cosine", 0.05, 300, 3e-4), (SOMA, "cosine", 0.05, 3000, 1.5e-5),
        (LAI, "cosine", 0.1, 1, 3e-6), (LAI, "cosine", 0.1, 100, 3e-4), (LAI, "cosine", 0.1, 2550, 1.65e-4),
        (LAI, "cosine", 0.1, 5000, 3e-5),
        (CLLM, "constant", 0, 500, 5e-5), (CLLM, "constant", 0, 1000, 1e-4), (CLLM, "linear", 0, 50_500, 5e-5),
        (CLLM, "constant", 0, 100_000, 1e-4),
        (MU, "one_cycle", 4e-6, 0, 4e-6), (MU, "one_cycle", 4e-6, 393, 1e-4), (MU, "one_cycle", 4e-6, 1310, 4e-10),
        (AMHARIC, "linear", 0, 50, 2.5e-5), (AMHARIC, "linear", 0, 100, 5e-5), (AMHARIC, "linear", 0, 1886, 0),
    ],
)  # fmt: skip
def test_the_rates_of_the_five_systems(system, schedule, final, step, rate):
    steps, warmup_steps, peak = system
    params = TrainParams(steps=steps, warmup_steps=warmup_steps, schedule=schedule, final_lr_share=final, lr=peak)
    warmup = warmup_share(params, make_horizon(params, 1, 1))
    assert params.lr * lr_share(step / steps, schedule, warmup=warmup, final=final) == pytest.approx(rate, abs=1e-12)


def test_cllms_30_epochs_are_43_620_steps_whose_rate_rises_over_the_first_1000():
    words, a_step = 5_952_986, 32 * 128  # the counts in CLLM's own vocab.txt; 16 rows of 256 tokens are as many
    per_epoch = -(-(words // 256) // 16)  # as the loader cuts them
    assert per_epoch == math.ceil(words / a_step) == 1454
    params = TrainParams(epochs=30, warmup_steps=1000, schedule="constant", lr=1e-4)
    horizon = make_horizon(params, a_step, per_epoch)
    assert horizon.steps == math.ceil(words / a_step) * 30 == 43_620
    warmup = warmup_share(params, horizon)
    # As the loop reads it: at the middle of step n, counted from 1.
    rates = [params.lr * lr_share(horizon.middle(n - 1, 0.0), "constant", warmup=warmup) for n in range(1, 1101)]
    assert rates[0] == pytest.approx(5e-8)
    assert rates == sorted(rates)
    assert rates[499] == pytest.approx(5e-5, rel=2e-3)
    assert rates[999] == pytest.approx(1e-4, rel=1e-3)
    assert (rates[499] + rates[500]) / 2 == pytest.approx(5e-5)
    assert rates[1000:] == [1e-4] * 100


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_mus_1310_steps_reach_the_peak_and_end_near_nothing(schedule):
    """MU's own warm-up of 1,000 of 1,310 steps leaves a quarter of the run for the way down; .3 is torch's."""
    params = TrainParams(epochs=5, warmup=0.3, schedule=schedule, lr=1e-4)
    horizon = make_horizon(params, 32 * 512, -(-8_366 // 32))
    assert horizon.steps == 262 * 5 == 1310
    warmup = warmup_share(params, horizon)
    rates = [params.lr * lr_share(horizon.middle(n, 0.0), schedule, warmup=warmup) for n in range(1310)]
    assert max(rates) == pytest.approx(1e-4, rel=1e-3)
    assert max(rates) <= 1e-4
    assert abs(rates.index(max(rates)) - 393) <= 1
    assert 0 < rates[-1] < 1e-9
    assert rates[393:] == sorted(rates[393:], reverse=True)


def test_one_cycle_is_torchs():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    # torch counts from step 0 to steps - 1 and ends the rise one step early: 101 steps and a share that says the same.
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=101, pct_start=31 / 101)
    for step in range(101):
        ours = lr_share(step / 100, "one_cycle", warmup=0.3, final=4e-6)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9), step
        optimizer.step()
        if step < 100:
            theirs.step()


def test_a_warmup_in_steps_replaces_the_share_and_must_fit():
    def share(**settings):
        params = TrainParams(**settings)
        return warmup_share(params, make_horizon(params, 100, 7))

    assert share(steps=200) == 0.02
    assert share(steps=200, warmup_steps=50) == 0.25
    assert share(tokens=1000, warmup_steps=1) == 0.1
    assert share(steps=10, schedule="constant", warmup_steps=10) == 1
    with pytest.raises(UserError, match="1,000 of 500 steps leaves nothing for the cosine"):
        share(steps=500, schedule="cosine", warmup_steps=1000)
    with pytest.raises(UserError, match="more than the run's 5"):
        share(steps=5, schedule="constant", warmup_steps=6)
    with pytest.raises(UserError, match=r"90 of 200 steps and decay_share 0\.6 together exceed 1"):
        share(steps=200, warmup_steps=90)


def test_an_unset_warmup_in_steps_is_not_in_the_key():
    assert "warmup_steps" not in TrainParams(steps=1).key_values()
    assert TrainParams(steps=9, warmup_steps=2).key_values()["warmup_steps"] == 2


def test_counted_horizons_are_whole_steps():
    def steps(**budget):
        return make_horizon(TrainParams(**budget), tokens_per_step=100, steps_per_epoch=7).steps

    assert steps(steps=5) == 5
    assert steps(tokens=500) == 5
    assert steps(tokens=501) == 6
    assert steps(epochs=2) == 14
    assert steps(epochs=0.5) == 4
    assert steps(epochs=0.001) == 1


def test_counted_horizon_reads_the_rate_in_the_middle_of_a_step():
    horizon = Horizon(steps=4)
    assert [horizon.middle(step, 99.0) for step in range(4)] == [0.125, 0.375, 0.625, 0.875]
    assert [horizon.progress(step, 99.0) for step in (0, 2, 4)] == [0, 0.5, 1]
    assert horizon.left(1, 3.0) == 9.0
    assert horizon.left(1, 9.0, 3) == 9.0, "two steps were taken back"
    assert horizon.length(2.0) == 8.0


def test_time_horizon_follows_the_seconds():
    horizon = make_horizon(TrainParams(minutes=2), 100, 7)
    assert horizon.progress(10, 30.0) == 0.25
    assert horizon.progress(10, 121.0) == 1.0
    assert horizon.middle(0, 0.0) == 0.0
    assert horizon.middle(10, 20.0) == pytest.approx(21 / 120)
    assert horizon.middle(10, 20.0, 20) == pytest.approx(20.5 / 120), "ten steps were taken back"
    assert horizon.left(10, 20.0) == 100.0
    assert horizon.describe() == "2 minutes"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "set one of steps, tokens, epochs, minutes"),
        ({"steps": 1, "minutes": 2}, "2 budgets, steps and minutes: keep one and set the others to null"),
        ({"steps": 1, "warmup": 0.5, "decay_share": 0.6}, "together exceed 1"),
        ({"steps": 1, "schedule": "cosine", "warmup": 1}, "leaves nothing"),
        ({"steps": 1, "batch": 4, "micro_batch": 8}, "micro_batch 8 is larger than batch 4"),
        ({"minutes": 1, "warmup_steps": 5}, "warmup_steps with a budget in minutes"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"minutes": -1}, "greater than 0"),
        ({"steps": 1, "lr": 0}, "greater than 0"),
        ({"steps": 1, "stepz": 1}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_settings_are_refused_with_a_reason(settings, message):
    with pytest.raises(ValidationError, match=message):
        TrainParams(**settings)


def test_due_and_every():
    assert every(0) == ()
    assert every(1) == (0.0, 1.0)
    assert every(0.25) == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert len(every(0.1)) == 11
    assert every(0.4) == (0.0, 0.4, 0.8, 1.0)
    assert due((0.0, 0.5), -1.0, 0.0)
    assert not due((0.0, 0.5), 0.0, 0.4)
    assert due((0.0, 0.5), 0.4, 0.5)
    assert not due((0.0, 0.5), 0.5, 1.0)
