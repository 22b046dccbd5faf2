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

from lmcore.generate.joint import Joint
from lmcore.generate.sampler import Sampler
from lmcore.generate.sampling import Sampling
from lmcore.generate.streaming import TextStream
from lmcore.models.cache import KVCache
from lmcore.models.network import Network
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
    model: Network,
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
    model: Network,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    sampling: Sampling | None = None,
    *,
    chat: bool = False,
    joint: Joint | None = None,
) -> Generator[str, None, Generation]:
    """Yield the continuation of `prompt` in pieces (whole characters, no specials); the `Generation` is its value.

    A text prompt starts a document: the mark goes before it and markers inside are plain text. Token ids are taken as
    they are. Padding and chat markers are never drawn; with `chat` the end of the turn may be, and ends the text.
    What a `joint` owes is drawn first and counts as prompt.
    UserError for an empty list of ids or ids outside the vocabulary; RunError when the model gives no numbers.
    """
    request = Request(model, tokenizer, prompt, sampling, chat=chat, joint=joint)
    cache = model.new_cache(1, request.length)
    while not request.ended:
        if request.begins_window:
            cache.rewind()
        if piece := request.take(_next_logits(model, request.unread(), cache)):
            yield piece
    if rest := request.rest():
        yield rest
    return request.result()


class Request:
    """One text on its way: what the model is to read next, and what becomes of the logits that it gives."""

    def __init__(
        self,
        model: Network,
        tokenizer: Tokenizer,
        prompt: str | Sequence[int],
        sampling: Sampling | None = None,
        *,
        chat: bool = False,
        joint: Joint | None = None,
    ) -> None:
        """See `stream` for what is taken and raised."""
        self._started = time.perf_counter()
        self._sampling = sampling or Sampling()
        self._context = model.config.context
        self._prompt = _prompt_ids(model, tokenizer, prompt)
        self._ends = {tokenizer.bos_id} | ({tokenizer.specials[END_OF_TURN]} if chat else set())
        forbidden = set(tokenizer.specials.values()) | set(range(tokenizer.vocab_size, model.vocab_size))
        self._sampler = Sampler(self._sampling, self._prompt, forbidden - self._ends)
        self._joint = joint
        owed = joint.owed if joint else b""
        self._text = TextStream(tokenizer, self._prompt[-_JOINT:], self._sampling.stop, skip=len(owed.decode()))
        self._most = self._sampling.max_tokens + len(owed)  # a byte is a token at least
        self._drawn: list[int] = []
        self._reason: Literal["stop", "length", "end"] = "length"
        self._windows, self._place = 0, 0  # how often the model began to read, and where in its context it is
        self._unread = self._window()
        self._dropped = len(self._prompt) - len(self._unread)
        self.begins_window = True
        self.ended = False

    @property
    def length(self) -> int:
        """Tokens of cache that it needs at most."""
        return min(self._context, len(self._unread) + self._most)

    def unread(self) -> list[int]:
        """Tokens that the model is to read now: a whole window at its beginning, else the token drawn last."""
        if self.begins_window:
            self._windows += 1
            self._place = 0
        self._place += len(self._unread)
        return self._unread

    def take(self, logits: Tensor) -> str:
        """Draw a token from the logits (V,) of what comes after `unread`; gives the text that is now certain."""
        owed = self._joint if self._joint and self._joint.owed else None
        token = self._sampler.pick(logits, owed.allowed() if owed else None)
        if token is None or token in self._ends:
            self._reason, self.ended = "end", True
            return ""
        (self._drawn if owed is None or owed.take(token) else self._prompt).append(token)
        piece = self._text.feed(token)
        self.ended = self._text.stopped or len(self._drawn) == self._sampling.max_tokens
        self.begins_window = self._place == self._context
        self._unread = self._window() if self.begins_window else [token]
        return piece

    def rest(self) -> str:
        """The text that was held back, at the end."""
        return self._text.finish()

    def result(self) -> Generation:
        """What came of it; after `rest`."""
        return Generation(
            text=self._text.text,
            ids=self._drawn,
            finish_reason="stop" if self._text.stopped else self._reason,
            prompt_tokens=len(self._prompt),
            dropped=self._dropped,
            windows=self._windows,
            seconds=time.perf_counter() - self._started,
        )

    def _window(self) -> list[int]:
        """All of the text, or the last part that leaves room for what is to come, though never more than half."""
        ids, wanted = self._prompt + self._drawn, self._sampling.max_tokens - len(self._drawn)
        return ids if len(ids) <= self._context else ids[-(self._context - min(wanted, self._context // 2)) :]


def _prompt_ids(model: Network, tokenizer: Tokenizer, prompt: str | Sequence[int]) -> list[int]:
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


@torch.no_grad()
def _next_logits(model: Network, ids: list[int], cache: KVCache) -> Tensor:
    """Logits (V,) of the token after `ids`, which follow what is in the cache."""
    training = model.training
    if training:
        model.eval()
    try:
        hidden = model.hidden(torch.tensor([ids], device=model.device), cache)
        logits: Tensor = model.head(hidden[:, -1])[0]  # the head only where a token is drawn
    finally:
        if training:
            model.train()
    return logits
