"""What every family of models offers: the one interface by which the other rooms train, score, save and ask for text.

Letters: B rows, T tokens, D model width, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from lmcore.models.attention import Kernel
from lmcore.models.cache import KVCache, RowCache
from lmcore.models.families import ModelConfig
from lmcore.models.ledger import Ledger
from storage.errors import UserError


class Network(nn.Module, ABC):
    """A causal language model: no logit depends on a later token.

    Some attributes are set by whoever runs it and change no result beyond rounding: `stream_dtype`, the dtype of the
    activations (weights stay float32), and `attention`, the kernel ("sdpa" or "plain"). Another, `within_documents`,
    is set by the trainer and says that the loss is of documents that do not see each other. A fourth, `recompute`,
    keeps no block's activations for the backward pass, which makes them anew: the same bits, less memory, more time.

    Parameters of layers are named `blocks.N.` and what has a row per token stands outside of these, so that
    optimizers can tell hidden matrices from tables.
    """

    config: ModelConfig
    vocab_size: int
    head: Callable[[Tensor], Tensor]  # (..., D) of `hidden` -> logits (..., V)

    def __init__(self) -> None:
        super().__init__()
        self.stream_dtype: torch.dtype = torch.float32
        self.attention: Kernel = "sdpa"
        self.within_documents = False
        self.recompute = False

    def forward(self, ids: Tensor, cache: KVCache | None = None, doc_ids: Tensor | None = None) -> Tensor:
        """Token ids (B, T) -> logits (B, T, V) in `stream_dtype`."""
        logits: Tensor = self.head(self.hidden(ids, cache, doc_ids))
        return logits

    @abstractmethod
    def hidden(self, ids: Tensor, cache: KVCache | None = None, doc_ids: Tensor | None = None) -> Tensor:
        """Token ids (B, T) -> what the head reads (B, T, D).

        With a cache, `ids` are the tokens that follow those already in it. With `doc_ids` (B, T), which document each
        token is in, no token sees another document and learned positions begin anew with each; not together with a
        cache. UserError beyond the context or the cache.
        """

    @abstractmethod
    def step(self, ids: Tensor, cache: RowCache) -> Tensor:
        """The next token of each row in use (B,), each at its own place -> logits (B, V) of the tokens after them.

        UserError when a row is at the end of the context or the cache.
        """

    @abstractmethod
    def ledger(self) -> Ledger:
        """Where the parameters are."""

    @property
    @abstractmethod
    def token_rows(self) -> Collection[str]:
        """Names of the parameters that have a row, or a number, for every token of the vocabulary."""

    def _enter_window(self, count: int, cache: KVCache | None) -> int:
        """The place of the first of `count` tokens, for which the cache has room. UserError beyond context or cache."""
        start = 0 if cache is None else cache.position
        if start + count > self.config.context:
            raise UserError(
                f"{start + count} tokens are more than the model's context of {self.config.context}",
                "pass the last window of the text",
            )
        if cache is not None:
            cache.room_for(count)
        return start

    def _row_places(self, cache: RowCache) -> Tensor:
        """The place of the next token of each row in use (B,). UserError when one is at the end of context or cache."""
        places = cache.places[: cache.rows]
        if int(places.max()) >= min(self.config.context, cache.length):
            raise UserError(
                f"a row has {int(places.max())} tokens, which fills its cache or the model's context",
                "put the last window of its text into the row",
            )
        return places

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def new_cache(self, batch: int, length: int | None = None) -> KVCache:
        """An empty cache for `batch` rows of `length` tokens (default: the context)."""
        length = self.config.context if length is None else length
        return KVCache(self.config, batch, length, self.stream_dtype, self.device)

    def new_rows(self, rows: int, length: int | None = None) -> RowCache:
        """An empty cache for `rows` texts, each at a place of its own, of `length` tokens (default: the context)."""
        length = self.config.context if length is None else length
        return RowCache(self.config, rows, length, self.stream_dtype, self.device)
