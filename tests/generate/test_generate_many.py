"""Many texts at once against each alone, and the steps of rows that are at different places."""

import random

import pytest
import torch

from lmcore.generate.engine import generate
from lmcore.generate.many import generate_many
from lmcore.generate.sampling import Sampling
from lmcore.models import build
from lmcore.models.families import parse_config
from storage.errors import UserError

SHAPES = {
    "modern": {"n_kv_heads": 1},
    "mu": {"family": "mu", "matrix": [4, 4], "n_heads": 4},
    "gpt2": {"norm": "layer", "position": "learned", "mlp": "gelu", "qk_norm": False, "bias": True, "embed_norm": True},
}


def restless(seed: int, **changes):
    """A model whose logits differ enough that rounding turns no draw."""
    decoder = {"d_model": 32, "n_heads": 2, "zero_init_projections": False}
    shape = parse_config({"n_layers": 2, "context": 32} | ({} if "family" in changes else decoder) | changes)
    model = build(shape, 300, seed).eval()
    with torch.no_grad():
        model.embed.weight *= 10
        if "family" in changes:
            model.head.weight *= 20
    return model


@pytest.mark.parametrize("kernel", ["plain", "sdpa"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_of_rows_gives_the_logits_of_each_alone(shape, kernel):
    model = restless(3, **SHAPES[shape])
    model.attention = kernel
    texts = [torch.arange(5, 5 + length) for length in (1, 9, 31, 4)]
    cache = model.new_rows(len(texts))
    with torch.no_grad():
        for row, text in enumerate(texts):
            if len(text) > 1:
                model.hidden(text[None, :-1], cache.row(row))
            cache.place(row, len(text) - 1)
        logits = model.step(torch.stack([text[-1] for text in texts]), cache)
        alone = torch.stack([model(text[None])[0, -1] for text in texts])
    torch.testing.assert_close(logits, alone, rtol=1e-5, atol=1e-5)
    assert cache.places.tolist() == [len(text) for text in texts]


def test_a_row_at_the_end_of_the_context_takes_no_more():
    model = restless(3)
    cache = model.new_rows(2)
    cache.place(1, 32)
    with pytest.raises(UserError, match="a row has 32 tokens"):
        model.step(torch.tensor([5, 5]), cache)


@pytest.mark.parametrize("rows", [1, 3, 16])
@pytest.mark.parametrize(("shape", "temperature"), [({}, 0.0), ({}, 1.0), (SHAPES["mu"], 0.0)])
def test_each_gets_the_text_it_would_get_alone(tokenizer, rows, shape, temperature):
    """Prompts of all lengths, some beyond the context; texts that end at different times and outgrow it."""
    seed = 20261121
    print("seed", seed)
    draw = random.Random(seed)
    model = restless(5, **shape)
    prompts = [[draw.randrange(10, 250) for _ in range(draw.choice((1, 7, 30, 32, 45)))] for _ in range(11)]
    sampling = [
        Sampling(max_tokens=draw.choice((1, 5, 40)), temperature=temperature, top_p=0.9, seed=draw.randrange(99))
        for _ in prompts
    ]
    told = []
    many = generate_many(
        model, tokenizer, prompts, sampling, rows=rows, on_done=lambda number, result: told.append((number, result))
    )
    for prompt, how, result in zip(prompts, sampling, many, strict=True):
        alone = generate(model, tokenizer, prompt, how)
        assert (result.ids, result.text, result.windows) == (alone.ids, alone.text, alone.windows)
        assert (result.finish_reason, result.dropped) == (alone.finish_reason, alone.dropped)
    assert sorted(number for number, _ in told) == list(range(len(prompts)))
    assert all(result is many[number] for number, result in told)


def test_a_tale_ends_where_it_does_alone(teller, tokenizer):
    sampling = Sampling(max_tokens=200, temperature=0.0)
    prompts = ["The cat", "The", "The cat sat on the mat."]
    for prompt, result in zip(prompts, generate_many(teller, tokenizer, prompts, sampling, rows=2), strict=True):
        assert result.text == generate(teller, tokenizer, prompt, sampling).text
        assert result.finish_reason == "end"


def test_nothing_to_do_and_a_wrong_prompt(teller, tokenizer):
    assert generate_many(teller, tokenizer, []) == []
    with pytest.raises(UserError, match="the prompt has no tokens"):
        generate_many(teller, tokenizer, ["The", []])
