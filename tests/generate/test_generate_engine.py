"""The engine against a plain loop without cache, and how a text ends."""

import pytest
import torch

from lmcore.generate.engine import generate, stream
from lmcore.generate.sampler import Sampler
from lmcore.generate.sampling import Sampling
from lmcore.models import build
from lmcore.models.config import DecoderConfig
from storage.errors import RunError, UserError

GREEDY = {"temperature": 0.0}
TALE = "The cat sat on the mat. Der Bär aß Öl und Brei. ሰላም ለዓለም! 🙂 The end."


@torch.no_grad()
def plain_loop(model, tokenizer, prompt, sampling, window=None):
    """Tokens drawn one by one, all of it through the model each time; `window(ids, drawn)` chooses what it sees."""
    forbidden = set(tokenizer.specials.values()) - {tokenizer.bos_id}
    sampler = Sampler(sampling, prompt, forbidden)
    drawn = []
    while len(drawn) < sampling.max_tokens:
        seen = window(prompt, drawn) if window else prompt + drawn
        token = sampler.pick(model(torch.tensor([seen]))[0, -1])
        if token is None or token == tokenizer.bos_id:
            break
        drawn.append(token)
    return drawn


@pytest.mark.parametrize("kernel", ["plain", "sdpa"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_equal_to_a_loop_without_cache(babbler, tokenizer, temperature, kernel):
    sampling = Sampling(max_tokens=20, temperature=temperature, top_p=0.95, repetition_penalty=1.2, no_repeat_ngram=2)
    prompt = [tokenizer.bos_id, *tokenizer.encode("The cat")]
    babbler.attention = kernel
    result = generate(babbler, tokenizer, "The cat", sampling)
    assert result.ids == plain_loop(babbler, tokenizer, prompt, sampling)
    assert result.prompt_tokens == len(prompt)
    assert (result.windows, result.dropped, result.note) == (1, 0, None)


@pytest.mark.parametrize("length", [5, 31, 32, 33, 80])
def test_a_text_that_outgrows_the_context_goes_on_from_its_last_part(babbler, tokenizer, length):
    prompt = [40 + i for i in range(length)]
    starts = []

    def window(prompt, drawn):  # the rule of the engine's docstring, said another way
        if not starts:
            starts.append(max(0, length - 16) if length > 32 else 0)
        if length + len(drawn) - starts[-1] > 32:
            starts.append(length + len(drawn) - 32 + min(60 - len(drawn), 16))
        return (prompt + drawn)[starts[-1] :]

    sampling = Sampling(max_tokens=60, temperature=1.0)
    result = generate(babbler, tokenizer, prompt, sampling)
    assert result.ids == plain_loop(babbler, tokenizer, prompt, sampling, window)
    assert result.windows == len(starts) > 1
    assert result.dropped == starts[0]
    assert ("too long" if length > 32 else "outgrew") in result.note


def test_a_long_prompt_leaves_room_for_the_few_tokens_wanted(babbler, tokenizer):
    result = generate(babbler, tokenizer, [40] * 50, Sampling(max_tokens=4))
    assert result.dropped == 50 - (32 - 4)
    assert result.windows == 1


def test_greedy_tells_the_tale_and_ends_with_the_document(teller, tokenizer):
    result = generate(teller, tokenizer, "The cat", Sampling(max_tokens=200, **GREEDY))
    assert result.text == TALE.removeprefix("The cat")
    assert result.finish_reason == "end"
    assert tokenizer.decode(result.ids) == result.text
    assert result.seconds > 0


def test_length_is_the_number_of_tokens(teller, tokenizer):
    result = generate(teller, tokenizer, "The cat", Sampling(max_tokens=7, **GREEDY))
    assert result.finish_reason == "length"
    assert len(result.ids) == 7
    assert TALE.removeprefix("The cat").startswith(result.text.rstrip("\ufffd"))


@pytest.mark.parametrize("stop", [("mat",), ("🙂",), ("xyz", " und", "ß Ö")])
def test_a_stop_string_ends_the_text_before_it(teller, tokenizer, stop):
    pieces = []
    result = generate(teller, tokenizer, "The cat", Sampling(max_tokens=200, stop=stop, **GREEDY), pieces.append)
    rest = TALE.removeprefix("The cat")
    assert result.text == rest[: min(at for at in map(rest.find, stop) if at >= 0)] == "".join(pieces)
    assert result.finish_reason == "stop"


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_pieces_join_to_the_text(babbler, tokenizer, temperature):
    """Also for a model that draws broken UTF-8."""
    pieces = []
    sampling = Sampling(max_tokens=300, temperature=temperature)
    result = generate(babbler, tokenizer, "Ö", sampling, pieces.append)
    assert "".join(pieces) == result.text == tokenizer.decode(result.ids)
    assert result == generate(babbler, tokenizer, "Ö", sampling).__class__(**vars(result))


def test_stream_is_generate_piece_by_piece(teller, tokenizer):
    sampling = Sampling(max_tokens=200, **GREEDY)
    pieces = list(stream(teller, tokenizer, "The cat", sampling))
    assert "".join(pieces) == generate(teller, tokenizer, "The cat", sampling).text
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(pieces) > 10


def test_nobody_else_is_disturbed_between_pieces(babbler, tokenizer):
    """Neither the training mode, nor gradients, nor the global random numbers."""
    babbler.train()
    state = torch.get_rng_state()
    pieces = stream(babbler, tokenizer, "a", Sampling(max_tokens=20))
    next(pieces)
    assert torch.is_grad_enabled()
    assert babbler.training
    list(pieces)
    assert torch.equal(torch.get_rng_state(), state)
    babbler.eval()


def test_specials_are_never_drawn(tokenizer):
    """By a model to which every token is equally likely."""
    model = build(DecoderConfig(n_layers=1, d_model=16, n_heads=1, context=64), tokenizer.vocab_size + 40, 0)
    with torch.no_grad():
        model.embed.weight.zero_()
    ends = set()
    for chat in (False, True):
        drawn = set()
        for seed in range(4):
            result = generate(model, tokenizer, "a", Sampling(max_tokens=200, temperature=1.0, seed=seed), chat=chat)
            drawn |= set(result.ids)
            ends.add(result.finish_reason)
        assert len(drawn) > 100
        assert not drawn & set(tokenizer.specials.values())
        assert max(drawn) < tokenizer.vocab_size
    assert ends == {"end", "length"}


def test_the_end_of_a_turn_ends_a_chat_only(tokenizer):
    model = build(DecoderConfig(n_layers=1, d_model=16, n_heads=1, tie_embeddings=False), tokenizer.vocab_size, 0)
    with torch.no_grad():
        model.embed.weight.fill_(1.0)
        model.head.weight.zero_()
        model.head.weight[tokenizer.specials["<|end|>"]] = 1.0  # by far the likeliest
    sampling = Sampling(max_tokens=5, **GREEDY)
    assert generate(model, tokenizer, "a", sampling, chat=True).finish_reason == "end"
    plain = generate(model, tokenizer, "a", sampling)
    assert plain.finish_reason in ("length", "end")
    assert tokenizer.specials["<|end|>"] not in plain.ids


def test_markers_in_a_prompt_are_text(babbler, tokenizer):
    result = generate(babbler, tokenizer, "<|end|>", Sampling(max_tokens=1))
    assert result.prompt_tokens > 2


def test_an_empty_text_starts_a_document(teller, tokenizer):
    assert generate(teller, tokenizer, "", Sampling(max_tokens=200, **GREEDY)).text == TALE


@pytest.mark.parametrize("ids", [[], [-1], [5, 10_000]])
def test_impossible_prompts_are_refused(babbler, tokenizer, ids):
    with pytest.raises(UserError, match="prompt has"):
        generate(babbler, tokenizer, ids)


def test_a_tokenizer_of_another_model_is_refused(tokenizer):
    model = build(DecoderConfig(n_layers=1, d_model=16, n_heads=1), tokenizer.vocab_size - 1, 0)
    with pytest.raises(RunError, match="the tokenizer has"):
        generate(model, tokenizer, "a")


def test_a_diverged_model_is_named(tokenizer):
    model = build(DecoderConfig(n_layers=1, d_model=16, n_heads=1), tokenizer.vocab_size, 0)
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))
    with pytest.raises(RunError, match="diverged"):
        generate(model, tokenizer, "a")
