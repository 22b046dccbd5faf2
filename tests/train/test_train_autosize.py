"""Proposals for a budget: what they cost, and that more time, speed or arithmetic gives larger models."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmcore.models.config import DecoderConfig
from lmcore.models.ledger import estimate
from lmcore.train.autosize import LEAST_BATCH, MOST_BATCH, WIDTHS, batch_of, propose, shape_of
from lmcore.train.params import TrainParams, TrainRuntime
from lmcore.train.speed import measure


def at(flops_per_second):
    return lambda ledger: flops_per_second / ledger.flops_per_token()


def proposed(seconds, rate=4e10, **options):
    return propose(vocab_size=4096, context=256, speed=at(rate), seconds=seconds, **options)


def test_the_ladder_has_the_depths_of_the_published_models():
    assert {width: shape_of(width, 256).n_layers for width in (128, 384, 768, 1024)} == {
        128: 3, 384: 8, 768: 12, 1024: 14,
    }  # fmt: skip
    for width in WIDTHS:
        config = shape_of(width, 256)
        assert config.head_width in (32, 64)


def test_more_time_and_more_speed_give_more_parameters():
    sizes = [proposed(60 * minutes).ledger.total for minutes in (0.5, 2, 10, 60, 600, 6000)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 20 * sizes[0]
    assert proposed(120, rate=4e13).ledger.total > proposed(120, rate=4e10).ledger.total


def test_arithmetic_is_a_budget_too_and_spent_whole():
    found = propose(vocab_size=4096, context=256, speed=at(4e10), flops=1e15)
    assert found.flops == pytest.approx(1e15, rel=1e-3)
    assert found.minutes == pytest.approx(1e15 / 4e10 / 60, rel=1e-3)


def test_what_does_not_fit_the_memory_is_left_out():
    roomy, narrow = proposed(6e6), proposed(6e6, memory=300_000_000)
    assert narrow.ledger.total < roomy.ledger.total
    assert narrow.ledger.training_memory(1)["total"] <= 300_000_000
    assert proposed(60, memory=1).config.d_model == WIDTHS[0], "the smallest is always left"


@given(tokens=st.floats(1, 1e13), context=st.integers(2, 65536))
@settings(max_examples=200, deadline=None)
def test_a_batch_is_a_power_of_two_of_tokens_within_bounds(tokens, context):
    batch = batch_of(tokens, context)
    assert batch >= 1
    if context & (context - 1) == 0 and context <= LEAST_BATCH:
        in_tokens = batch * context
        assert LEAST_BATCH <= in_tokens <= MOST_BATCH
        assert in_tokens & (in_tokens - 1) == 0


def test_the_speed_is_measured():
    config = DecoderConfig(n_layers=1, d_model=32, n_heads=1, context=32)
    params = TrainParams(model=config, batch=2, steps=1)
    found = measure(params, 300, TrainRuntime(device="cpu", threads=1))
    assert found.step_seconds > found.plan.step_seconds > 0
    assert found.tokens_per_second == pytest.approx(64 / found.step_seconds)
    assert found.tokens_per_second * estimate(config, 300).flops_per_token() < 1e13
