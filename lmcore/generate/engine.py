"""The one engine: prompt in, text out, with a cache of keys and values.

The text so far may outgrow the model's context. The engine then keeps the last window of it, leaving room for what is
still to come (at most half the context), puts that window through the model again and goes on; `Generation.windows`
and `Generation.note` say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lmcore.generate.sampler import Sampler
from lmcore.generate.sampling import Sampling
from lmcore.generate.streaming import TextStream
from lmcore.models.attention import KVCache
from lmcore.models.decoder import Decoder
from storage.errors import RunError, UserError

if TYPE_CHECKING:
    from lmcore.tokenizer.interface import Tokenizer

END_OF_TURN = "<|end|>"
_JOINT = 8  # tokens of the prompt that a tokenizer may look at to join the text to it


@dataclass(frozen=True)
class Generation:
    """What came of one request."""

    text: str  # without the prompt, a stop string or any special token
    ids: list[int]  # the tokens drawn, without the one that ended the document or turn
    finish_reason: Literal["stop", "length", "end"]  # a stop string, max_tokens, the end of the document or turn
    prompt_tokens: int  # with the document mark before a text prompt
    dropped: int  # first tokens of the prompt that the model did not see
    windows: int  # 1, or more when the text outgrew the context
    seconds: float

    @property
    def note(self) -> str | None:
        """One line when the model could not see the whole text; else None."""
        if self.dropped:
            return (
                f"the prompt of {self.prompt_tokens} tokens is too long: the model did not see the first {self.dropped}"
            )
        if self.windows > 1:
            return f"the text outgrew the model's context and went on from its last part, times {self.windows - 1}"
        return None


def generate(
    model: Decoder,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    sampling: Sampling | None = None,
    on_text: Callable[[str], None] | None = None,
    *,
    chat: bool = False,
) -> Generation:
    """Continue `prompt`; `on_text` gets the text in pieces as it comes. See `stream`."""
    pieces = stream(model, tokenizer, prompt, sampling, chat=chat)
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            result: Generation = end.value
            return result
        if on_text is not None:
            on_text(piece)


def stream(
    model: Decoder,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    sampling: Sampling | None = None,
    *,
    chat: bool = False,
) -> Generator[str, None, Generation]:
    """Yield the continuation of `prompt` in pieces (whole characters, no specials); the `Generation` is its value.

    A text prompt starts a document: the mark goes before it and markers inside are plain text. Token ids are taken as
    they are. Padding and chat markers are never drawn; with `chat` the end of the turn may be, and ends the text.
    UserError for an empty list of ids or ids outside the vocabulary; RunError when the model gives no numbers.
    """
    started = time.perf_counter()
    sampling = sampling or Sampling()
    context = model.config.context
    ids = _prompt_ids(model, tokenizer, prompt)
    ends = {tokenizer.bos_id} | ({tokenizer.specials[END_OF_TURN]} if chat else set())
    forbidden = set(tokenizer.specials.values()) | set(range(tokenizer.vocab_size, model.vocab_size))
    sampler = Sampler(sampling, ids, forbidden - ends)
    text = TextStream(tokenizer, ids[-_JOINT:], sampling.stop)

    window = _window(ids, sampling.max_tokens, context)
    cache = model.new_cache(1, min(context, len(window) + sampling.max_tokens))
    logits = _next_logits(model, window, cache)
    drawn: list[int] = []
    windows = 1
    reason: Literal["stop", "length", "end"] = "length"
    while True:
        token = sampler.pick(logits)
        if token is None or token in ends:
            reason = "end"
            break
        drawn.append(token)
        if piece := text.feed(token):
            yield piece
        if text.stopped or len(drawn) == sampling.max_tokens:
            break
        if cache.position < context:
            logits = _next_logits(model, [token], cache)
        else:
            cache.rewind()
            logits = _next_logits(model, _window(ids + drawn, sampling.max_tokens - len(drawn), context), cache)
            windows += 1
    if rest := text.finish():
        yield rest
    return Generation(
        text=text.text,
        ids=drawn,
        finish_reason="stop" if text.stopped else reason,
        prompt_tokens=len(ids),
        dropped=len(ids) - len(window),
        windows=windows,
        seconds=time.perf_counter() - started,
    )


def _prompt_ids(model: Decoder, tokenizer: Tokenizer, prompt: str | Sequence[int]) -> list[int]:
    if tokenizer.vocab_size > model.vocab_size:
        raise RunError(
            f"the tokenizer has {tokenizer.vocab_size} tokens and the model {model.vocab_size}",
            "use the tokenizer that the model was trained with",
        )
    if isinstance(prompt, str):
        return [tokenizer.bos_id, *tokenizer.encode(prompt)]
    ids = [int(token) for token in prompt]
    if not ids:
        raise UserError("the prompt has no tokens", "start with the document mark, tokenizer.bos_id")
    if not all(0 <= token < model.vocab_size for token in ids):
        raise UserError(
            f"the prompt has token ids outside 0 to {model.vocab_size - 1}", "encode it with the model's tokenizer"
        )
    return ids


def _window(ids: list[int], wanted: int, context: int) -> list[int]:
    """All of `ids`, or the last part that leaves room for `wanted` more, though never more room than half."""
    return ids if len(ids) <= context else ids[-(context - min(wanted, context // 2)) :]


@torch.no_grad()
def _next_logits(model: Decoder, ids: list[int], cache: KVCache) -> Tensor:
    """Logits (V,) of the token after `ids`, which follow what is in the cache."""
    training = model.training
    if training:
        model.eval()
    try:
        hidden = model.hidden(torch.tensor([ids], device=cache.keys.device), cache)
        logits: Tensor = model.head(hidden[:, -1])[0]  # the head only where a token is drawn
    finally:
        if training:
            model.train()
    return logits
