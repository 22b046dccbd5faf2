"""Many texts at once: a token of each in one step of the model, which on a CPU costs little more than one alone.

As soon as a text has ended the next prompt takes its row; when none is left the rows close up, so that no step is spent
on a text that is over. A text that outgrows the model's context begins a new window, as in `engine.stream`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lmcore.generate.engine import Generation, Request
from lmcore.generate.sampling import Sampling
from lmcore.models.cache import RowCache
from lmcore.models.network import Network

if TYPE_CHECKING:
    from lmcore.tokenizer.interface import Tokenizer


@torch.no_grad()
def generate_many(
    model: Network,
    tokenizer: Tokenizer,
    prompts: Sequence[str | Sequence[int]],
    sampling: Sampling | Sequence[Sampling] | None = None,
    *,
    rows: int = 16,
    chat: bool = False,
    on_done: Callable[[int, Generation], None] | None = None,
) -> list[Generation]:
    """Continue every prompt, at most `rows` at a time; the results are in the order of the prompts.

    `sampling` is for all, or one for each. Each draws from its own seed and gets the text that `generate` would give
    it, unless rounding turns a draw. `on_done` gets the number of a prompt and its result as soon as there is one.
    Raises as `stream` does, before anything is generated.
    """
    assert rows > 0
    each = list(sampling) if isinstance(sampling, Sequence) else [sampling] * len(prompts)
    assert len(each) == len(prompts)
    requests = [Request(model, tokenizer, prompt, how, chat=chat) for prompt, how in zip(prompts, each, strict=True)]
    if not requests:
        return []
    training = model.training
    model.eval()
    try:
        return _run(model, requests, min(rows, len(requests)), on_done)
    finally:
        model.train(training)


def _run(
    model: Network, requests: list[Request], rows: int, on_done: Callable[[int, Generation], None] | None
) -> list[Generation]:
    results: dict[int, Generation] = {}
    waiting = deque(range(len(requests)))
    cache = model.new_rows(rows, max(request.length for request in requests))
    busy: list[int] = []  # the request of each row in use

    def over(number: int) -> None:
        requests[number].rest()
        results[number] = requests[number].result()
        if on_done is not None:
            on_done(number, results[number])

    def fill(row: int) -> bool:
        """Give a row to the next prompt that is not over at once; False when there is none."""
        while waiting:
            number = waiting.popleft()
            _begin(model, requests[number], cache, row)
            if not requests[number].ended:
                busy[row:row] = [number]
                return True
            over(number)
        return False

    while len(busy) < rows and fill(len(busy)):
        pass
    while busy:
        cache.rows = len(busy)
        logits = _step(model, [requests[number] for number in busy], cache)  # (B, V)
        for row in reversed(range(len(busy))):
            request = requests[busy[row]]
            request.take(logits[row])
            if request.begins_window and not request.ended:
                _begin(model, request, cache, row)
            if request.ended:
                over(busy.pop(row))
                if not fill(row):
                    _close_up(cache, busy, row)
    return [results[number] for number in range(len(requests))]


def _begin(model: Network, request: Request, cache: RowCache, row: int) -> None:
    """Let the model read the request's window into a row, and the request take what comes next."""
    while True:
        ids = request.unread()
        hidden = model.hidden(torch.tensor([ids], device=model.device), cache.row(row))
        cache.place(row, len(ids))
        request.take(model.head(hidden[:, -1])[0])
        if request.ended or not request.begins_window:
            return


def _step(model: Network, requests: Sequence[Request], cache: RowCache) -> Tensor:
    """Logits (B, V) after the token that each drew last."""
    ids = [request.unread()[0] for request in requests]
    return model.step(torch.tensor(ids, device=model.device), cache)


def _close_up(cache: RowCache, busy: list[int], row: int) -> None:
    """Rows after a freed one move up by one."""
    for later in range(row, len(busy)):
        cache.move(later + 1, later)
