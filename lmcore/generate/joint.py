"""Where a prompt ends and the text begins, when the model's own tokens would go across.

After `<assistant>Szia!` in its texts a model may know a token `>Szia`; a prompt that ends in the token `>` is then
something that it has never seen. So the prompt gives its last token back, and the model draws tokens again until that
piece of text is written, each of which must spell it or go on behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_UNLIKELY = 1e-6  # ways to spell a text that are rarer than this are not followed


class Joint:
    """What the model must still write of its prompt."""

    def __init__(self, spelt: Sequence[bytes], owed: bytes) -> None:
        """`spelt`: the bytes of every token; `owed`: what the first tokens must spell."""
        self._spelt, self._owed = spelt, owed

    @property
    def owed(self) -> bytes:
        """What is still to be written, b"" when nothing is."""
        return self._owed

    def allowed(self) -> list[int]:
        """The tokens that write a piece of it, or all of it and more."""
        return [i for i, text in enumerate(self._spelt) if text and _agree(text, self._owed)]

    def take(self, token: int) -> bytes:
        """Count a token that was drawn; gives what it says beyond."""
        text = self._spelt[token]
        beyond, self._owed = text[len(self._owed) :], self._owed[len(text) :]
        return beyond


def last_given_back(ids: list[int], spelt: Sequence[bytes]) -> tuple[list[int], Joint | None]:
    """A prompt without its last token, and the joint for that; the prompt itself when that token is no whole text."""
    owed = spelt[ids[-1]]
    if len(ids) < 2 or not owed or "\ufffd" in owed.decode(errors="replace"):
        return ids, None
    return ids[:-1], Joint(spelt, owed)


@torch.no_grad()
def log_probability(model: Callable[[Tensor], Tensor], first: int, text: bytes, spelt: Sequence[bytes]) -> float:
    """The natural logarithm of the probability that what comes after the token `first` begins with `text`.

    Summed over all ways to spell it in tokens, also those that go on behind it. `model` gives logits (1, T, V).
    """

    def rest(ids: list[int], owed: bytes) -> float:
        chances = torch.softmax(model(torch.tensor([ids]))[0, -1].float(), -1).tolist()
        total = 0.0
        for token, said in enumerate(spelt):
            if not said or not _agree(said, owed) or not chances[token] > _UNLIKELY:
                continue
            whole = len(said) >= len(owed)
            total += chances[token] * (1.0 if whole else rest([*ids, token], owed[len(said) :]))
        return total

    chance = rest([first], text)
    return math.log(chance) if chance > 0 else -math.inf


def _agree(one: bytes, other: bytes) -> bool:
    return one.startswith(other) or other.startswith(one)
