"""The learning rate at fixed points, the horizons, and what is due when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lmcore.train.history import due, every
from lmcore.train.horizon import Horizon, make_horizon
from lmcore.train.params import TrainParams
from lmcore.train.schedule import lr_share

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
    st.sampled_from(["trapezoid", "cosine", "linear", "constant"]),
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
    assert horizon.length(2.0) == 8.0


def test_time_horizon_follows_the_seconds():
    horizon = make_horizon(TrainParams(minutes=2), 100, 7)
    assert horizon.progress(10, 30.0) == 0.25
    assert horizon.progress(10, 121.0) == 1.0
    assert horizon.middle(0, 0.0) == 0.0
    assert horizon.middle(10, 20.0) == pytest.approx(21 / 120)
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
