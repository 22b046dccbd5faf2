"""The one sampler: from logits to the next token.

Steps, in this order (transformers has the same): repetition penalty, no-repeat n-gram, forbidden tokens; then at
temperature 0 the likeliest token; else temperature, top-k, top-p, min-p, and a draw from what is left.

Letters: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lmcore.generate.sampling import Sampling
from storage.errors import RunError

NOTHING = float("-inf")


class Sampler:
    """Chooses the tokens of one request; it remembers the text so far and draws from its own generator."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], forbidden: Iterable[int] = ()) -> None:
        self.sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)
        self._forbidden = sorted(forbidden)
        self._text: list[int] = []
        self._seen: set[int] = set()
        self._followers: dict[tuple[int, ...], set[int]] = {}  # last n - 1 tokens -> tokens that came after them
        for token in prompt:
            self.see(token)

    def see(self, token: int) -> None:
        """Take `token` as the next of the text."""
        n = self.sampling.no_repeat_ngram
        if n:
            self._followers.setdefault(self._last(n - 1), set()).add(token)
        self._text.append(token)
        self._seen.add(token)

    def pick(self, logits: Tensor, among: Sequence[int] | None = None) -> int | None:
        """The next token for `logits` (V,), which it then has seen; None when no token is allowed.

        Only of those `among`, where given. RunError when the model gives NaN or infinity.
        """
        scores = self.scores(logits)
        if among is not None:
            kept = scores[list(among)]
            scores = torch.full_like(scores, NOTHING)
            scores[list(among)] = kept
        if self.sampling.temperature == 0.0:
            token = int(scores.argmax())
            if scores[token] == NOTHING:
                return None
        else:
            drawn = self._draw(self.probabilities(scores))
            if drawn is None:
                return None
            token = drawn
        self.see(token)
        return token

    def scores(self, logits: Tensor) -> Tensor:
        """Float32 logits (V,) after the penalties; tokens that may not come are -inf."""
        scores = logits.detach().to("cpu", torch.float32, copy=True)
        if not scores.isfinite().all():
            raise RunError(
                "the model's logits are not finite numbers",
                "its training diverged: use an earlier checkpoint, or train again with a lower rate",
            )
        s = self.sampling
        window = s.repetition_window
        if s.repetition_penalty != 1.0:
            _penalise(scores, set(self._text[-window:]) if window else self._seen, s.repetition_penalty)
        banned = self._banned()
        if s.no_repeat_factor:
            _penalise(scores, banned, 1.0 / s.no_repeat_factor)
            banned = set()
        scores[self._forbidden + sorted(banned)] = NOTHING
        return scores

    def probabilities(self, scores: Tensor) -> Tensor:
        """What is drawn from: probabilities (V,) of `scores` (V,), or all 0 when every token is forbidden."""
        s = self.sampling
        largest = scores.max()
        if largest == NOTHING:
            return torch.zeros_like(scores)
        scores = (scores - largest) / (s.temperature or 1.0)  # at most 0: no temperature makes it overflow
        if not s.top_k and s.top_p == 1.0:
            probabilities = torch.softmax(scores, -1)
            return _share_of_largest(probabilities, s.min_p) if s.min_p else probabilities
        if s.top_k:
            ranked, order = scores.topk(min(s.top_k, len(scores)))
        else:
            ranked, order = scores.sort(descending=True, stable=True)
        ranked = torch.softmax(ranked, -1)
        if s.top_p < 1.0:
            ranked[ranked.cumsum(-1) - ranked >= s.top_p] = 0.0  # what is likelier already has that mass
        ranked = _share_of_largest(ranked, s.min_p)
        return torch.zeros_like(scores).scatter_(0, order, ranked)

    def _draw(self, probabilities: Tensor) -> int | None:
        """One token by its probability: the inverse of their sums, five times as fast as torch.multinomial."""
        sums = probabilities.double().cumsum(-1)
        if sums[-1] == 0:
            return None
        at = torch.rand((), generator=self._generator, dtype=torch.float64) * sums[-1]
        # The first sum beyond `at` belongs to a token of some probability, unless rounding put `at` at the very end.
        return min(int(torch.searchsorted(sums, at, right=True)), int(probabilities.nonzero()[-1]))

    def _banned(self) -> set[int]:
        n = self.sampling.no_repeat_ngram
        return self._followers.get(self._last(n - 1), set()) if n else set()

    def _last(self, count: int) -> tuple[int, ...]:
        return tuple(self._text[-count:]) if count else ()


def _penalise(scores: Tensor, tokens: set[int], penalty: float) -> None:
    """Make `tokens` less likely in `scores` (V,), for a penalty above 1.

    Keskar et al. 2019 (CTRL) divide; a negative logit must be multiplied or it would become likelier.
    """
    if tokens:
        which = torch.tensor(sorted(tokens))
        scores[which] = torch.where(scores[which] < 0, scores[which] * penalty, scores[which] / penalty)


def _share_of_largest(probabilities: Tensor, min_p: float) -> Tensor:
    """`probabilities` without those below `min_p` times the largest, which sum to 1 again."""
    kept = torch.where(probabilities < min_p * probabilities.max(), 0.0, probabilities)
    return kept / kept.sum()
