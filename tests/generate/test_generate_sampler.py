"""The sampler, rule by rule and against transformers."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process

from lmcore.generate.sampler import Sampler
from lmcore.generate.sampling import Sampling, make_sampling
from storage.errors import RunError, UserError

logit_lists = st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=40)


def distribution(logits, prompt=(), forbidden=(), **options):
    sampler = Sampler(Sampling(**{"temperature": 1.0} | options), prompt, forbidden)
    return sampler.probabilities(sampler.scores(torch.tensor(logits)))


@given(
    logits=st.lists(st.integers(-60, 60), min_size=2, max_size=40, unique=True),
    prompt=st.lists(st.integers(0, 1), max_size=8),
    temperature=st.floats(0.1, 5),
    top_k=st.integers(0, 10),
    top_p=st.floats(0.05, 1.0),
    min_p=st.floats(0.0, 0.9),
    penalty=st.floats(0.5, 3),
    ngram=st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_the_distribution_is_transformers(logits, prompt, temperature, top_k, top_p, min_p, penalty, ngram):
    logits = [0.37 * logit for logit in logits]
    options = {"temperature": temperature, "top_k": top_k, "repetition_penalty": penalty, "no_repeat_ngram": ngram}
    ranked = distribution(logits, prompt, **options).sort(descending=True).values
    # Equal scores, and masses within rounding of a limit, may fall on either side.
    assume(not (ranked.diff().abs() < 1e-5 * ranked[1:]).any())
    assume(((ranked.cumsum(-1) - top_p).abs() > 1e-4).all())
    assume(((ranked / ranked[0] - min_p).abs() > 1e-4).all())

    chain = [logits_process.RepetitionPenaltyLogitsProcessor(penalty)] if prompt else []
    chain += [logits_process.NoRepeatNGramLogitsProcessor(ngram)] if ngram else []
    chain += [logits_process.TemperatureLogitsWarper(temperature)]
    chain += [logits_process.TopKLogitsWarper(top_k)] if top_k else []
    chain += [logits_process.TopPLogitsWarper(top_p)] if top_p < 1 else []
    chain += [logits_process.MinPLogitsWarper(min_p)] if min_p else []
    scores = torch.tensor([logits])
    for step in chain:
        scores = step(torch.tensor([prompt], dtype=torch.long), scores)
    found = distribution(logits, prompt, top_p=top_p, min_p=min_p, **options)
    if (scores == -math.inf).all():
        assert not found.any()
    else:
        torch.testing.assert_close(found, torch.softmax(scores, -1)[0], atol=1e-5, rtol=1e-3)


@given(logits=logit_lists, seed=st.integers(0, 2**62))
def test_top_k_1_is_greedy(logits, seed):
    logits = torch.tensor(logits)
    drawn = Sampler(Sampling(top_k=1, temperature=3.0, seed=seed), []).pick(logits)
    greedy = Sampler(Sampling(temperature=0.0), []).pick(logits)
    assert logits[greedy] == logits.max()
    cooled = logits / 3.0  # which may make equal what was almost equal
    assert cooled[drawn] == cooled.max()


@given(logits=logit_lists, top_p=st.floats(0.01, 0.999))
def test_top_p_keeps_the_fewest_with_that_mass(logits, top_p):
    whole, kept = distribution(logits), distribution(logits, top_p=top_p)
    of_kept = whole[kept > 0]
    assert of_kept.sum() >= top_p - 1e-5
    assert of_kept.sum() - of_kept.min() < top_p + 1e-5  # without its least likely, it is too little
    assert of_kept.min() >= whole[kept == 0].max() if (kept == 0).any() else True


@given(logits=logit_lists, min_p=st.floats(0.01, 1))
def test_min_p_is_a_share_of_the_likeliest(logits, min_p):
    whole, kept = distribution(logits), distribution(logits, min_p=min_p)
    assert (whole[kept > 0] >= min_p * whole.max() * (1 - 1e-5)).all()
    assert (whole[kept == 0] <= min_p * whole.max() * (1 + 1e-5)).all()


@given(logits=st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=20), penalty=st.floats(1.1, 5))
def test_a_penalty_makes_what_was_said_less_likely(logits, penalty):
    """Also where the logit is negative: dividing that would make it likelier."""
    before, after = distribution(logits), distribution(logits, [0], repetition_penalty=penalty)
    assert after[0] <= before[0] * (1 + 1e-5)
    if abs(logits[0]) > 0.1 and 1e-3 < before[0] < 0.999:
        assert after[0] < before[0]


def test_a_penalty_by_value():
    """MU's program divides every logit: -2 would become -1.67, and the token be repeated the more."""
    scores = Sampler(Sampling(repetition_penalty=1.2), [0, 1]).scores(torch.tensor([-2.0, 3.0, -1.0, 1.0]))
    assert torch.allclose(scores, torch.tensor([-2.4, 2.5, -1.0, 1.0]))


@given(prompt=st.lists(st.integers(0, 5), max_size=30), window=st.integers(1, 40))
def test_a_window_forgets_what_lies_before_it(prompt, window):
    logits = torch.tensor([-2.0, 3.0, 0.5, -0.1, 1.0, 2.0])
    some, all_of_it = Sampling(repetition_penalty=1.3, repetition_window=window), Sampling(repetition_penalty=1.3)
    windowed = Sampler(some, prompt).scores(logits)
    assert torch.equal(windowed, Sampler(all_of_it, prompt[-window:]).scores(logits))
    if window >= len(prompt):
        assert torch.equal(windowed, Sampler(all_of_it, prompt).scores(logits))


def test_a_soft_limit_on_ngrams_by_value():
    """What was said counts half a logit; below 0, where that would make it likelier, twice."""
    soft = Sampling(no_repeat_ngram=2, no_repeat_factor=0.5)
    logits = torch.tensor([2.0, -2.0, 1.0])
    assert Sampler(soft, [2, 0, 2]).scores(logits).tolist() == [1.0, -2.0, 1.0]
    assert Sampler(soft, [2, 1, 2]).scores(logits).tolist() == [2.0, -4.0, 1.0]
    assert Sampler(soft, [2, 1, 2], [1]).scores(logits)[1] == -math.inf, "what may never come still may not"
    assert {"repetition_window", "no_repeat_factor"}.isdisjoint(Sampling().key_values()), "keys of before stay"


@given(n=st.integers(1, 4), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_no_ngram_comes_twice(n, seed):
    prompt = [0, 1, 2, 0, 1]
    given_twice = {tuple(prompt[i : i + n]) for i in range(len(prompt) - n + 1)}
    sampler = Sampler(Sampling(no_repeat_ngram=n, seed=seed, temperature=1.0), prompt)
    text = list(prompt)
    for _ in range(60):
        token = sampler.pick(torch.zeros(4))
        if token is None:
            assert n == 1 or len(text) > 4
            break
        text.append(token)
    new = [tuple(text[i - n + 1 : i + 1]) for i in range(len(prompt), len(text))]
    assert len(set(new)) == len(new)
    assert not given_twice & set(new)


def test_when_nothing_is_allowed_there_is_no_token():
    for temperature in (0.0, 1.0):
        assert Sampler(Sampling(temperature=temperature), [], [0, 1, 2]).pick(torch.zeros(3)) is None
        assert Sampler(Sampling(temperature=temperature, no_repeat_ngram=1), [0, 1, 2]).pick(torch.zeros(3)) is None


def test_forbidden_tokens_never_come():
    sampler = Sampler(Sampling(temperature=2.0), [], [3])
    logits = torch.zeros(5)
    logits[3] = 50.0
    assert 3 not in {sampler.pick(logits) for _ in range(200)}
    assert Sampler(Sampling(temperature=0.0), [], [3]).pick(logits) != 3


def test_draws_follow_the_probabilities():
    sampler = Sampler(Sampling(temperature=0.5), [])
    logits = torch.tensor([0.0, 1.0, 2.0])
    counts = torch.zeros(3)
    for _ in range(4000):
        counts[sampler.pick(logits)] += 1
    wanted = torch.softmax(logits / 0.5, -1)
    assert ((counts / 4000 - wanted).abs() < 4 * (wanted * (1 - wanted) / 4000).sqrt()).all()


def test_a_seed_is_all_that_a_draw_depends_on():
    def draw(seed):
        sampler = Sampler(Sampling(temperature=1.0, seed=seed), [])
        return [sampler.pick(torch.zeros(50)) for _ in range(20)]

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = draw(3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert draw(3) == first
    assert draw(4) != first


def test_the_smallest_temperature_does_not_overflow():
    for temperature in (1e-30, 1e-3):
        assert distribution([1.0, 3.0, -2.0], temperature=temperature).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_model_that_gives_no_numbers_is_named(bad):
    with pytest.raises(RunError, match="not finite"):
        Sampler(Sampling(), []).pick(torch.tensor([0.0, bad]))


def test_logits_are_not_changed():
    logits = torch.tensor([1.0, -1.0, 2.0])
    Sampler(Sampling(repetition_penalty=2.0, temperature=0.5), [0, 1], [2]).pick(logits)
    assert logits.tolist() == [1.0, -1.0, 2.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temprature": 1}, r"no sampling setting 'temprature'(.|\n)*did you mean temperature"),
        ({"temperature": -1}, "temperature cannot be -1"),
        ({"top_p": 0}, "top_p cannot be 0"),
        ({"stop": ["a", ""]}, "a stop string is empty"),
        ({"max_tokens": 0}, "max_tokens cannot be 0"),
    ],
)
def test_wrong_requests_are_named(options, message):
    with pytest.raises(UserError, match=message):
        make_sampling(**options)


def test_one_stop_string_may_be_given_bare():
    assert make_sampling(stop="\n").stop == ("\n",)
    assert make_sampling(stop=["\n", "end"]).stop == ("\n", "end")
