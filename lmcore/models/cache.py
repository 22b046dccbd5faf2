"""Keys and values of tokens seen so far, for inference: they carry no gradients. In memory taken once.

`KVCache` has rows that are equally far, as prompts of one length are; in `RowCache` each row is at a place of its own,
so that texts of any length go on side by side, a token of each in a step.

Letters: B rows, K heads of keys and values, T new tokens, S tokens attended to, W head width.
"""

from __future__ import annotations

from typing import Protocol, Self

import torch
from torch import Tensor

from lmcore.models.families import ModelConfig
from storage.errors import UserError


class Cache(Protocol):
    """What attention asks of a cache."""

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put `layer`'s new keys and values (B, K, T, W) behind the old; gives all of them (B, K, S, W)."""


class KVCache:
    """Keys and values of rows that are all at the same place."""

    def __init__(self, config: ModelConfig, batch: int, length: int, dtype: torch.dtype, device: torch.device) -> None:
        layers, heads, width = config.cache_shape
        shape = (layers, batch, heads, length, width)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)  # (layers, B, K, length, W)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.length = length
        self.position = 0  # tokens seen so far

    @classmethod
    def over(cls, keys: Tensor, values: Tensor) -> Self:
        """An empty cache in this memory, each (layers, B, K, length, W)."""
        cache = cls.__new__(cls)
        cache.keys, cache.values, cache.length, cache.position = keys, values, keys.shape[3], 0
        return cache

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put `layer`'s new keys and values (B, K, T, W) behind the old; gives all of them (B, K, S, W)."""
        end = self.position + k.shape[2]
        self.keys[layer, :, :, self.position : end] = k
        self.values[layer, :, :, self.position : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def room_for(self, tokens: int) -> None:
        """UserError when `tokens` more do not fit: a cache never overwrites or slides by itself."""
        if self.position + tokens > self.length:
            raise UserError(
                f"the cache holds {self.length} tokens: {self.position} are in it and {tokens} more do not fit",
                "make a longer cache, or rewind it and put in the last window of the text",
            )

    def rewind(self, position: int = 0) -> None:
        """Forget all but the first `position` tokens."""
        assert 0 <= position <= self.position
        self.position = position


class RowCache:
    """Keys and values of rows that are each at a place of their own. The first `rows` of them are in use."""

    def __init__(self, config: ModelConfig, rows: int, length: int, dtype: torch.dtype, device: torch.device) -> None:
        layers, heads, width = config.cache_shape
        shape = (layers, rows, heads, length, width)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)  # (layers, rows, K, length, W)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.length = length
        self.rows = rows
        self.places = torch.zeros(rows, dtype=torch.int64, device=device)  # tokens of each row seen so far

    def row(self, number: int) -> KVCache:
        """One row as an empty cache: what is put into it is in the row. Tell `place` where it then is."""
        return KVCache.over(self.keys[:, number : number + 1], self.values[:, number : number + 1])

    def place(self, number: int, seen: int) -> None:
        """Say how many tokens a row has seen."""
        assert 0 <= seen <= self.length
        self.places[number] = seen

    def move(self, source: int, target: int) -> None:
        """Make `target` what `source` is, whose own place is free then."""
        seen = int(self.places[source])
        self.keys[:, target, :, :seen] = self.keys[:, source, :, :seen]
        self.values[:, target, :, :seen] = self.values[:, source, :, :seen]
        self.places[target] = seen

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put one new key and value of each row in use (B, K, 1, W) at its place; all of them (B, K, S, W)."""
        B = self.rows
        at, rows = self.places[:B], torch.arange(B, device=k.device)
        self.keys[layer, rows, :, at] = k[:, :, 0]
        self.values[layer, rows, :, at] = v[:, :, 0]
        S = int(at.max()) + 1
        return self.keys[layer, :B, :, :S], self.values[layer, :B, :, :S]

    def mask(self, dtype: torch.dtype) -> Tensor:
        """(B, 1, 1, S): 0 where the new token of a row may look, its own place included, -inf beyond."""
        at = self.places[: self.rows]
        beyond = torch.arange(int(at.max()) + 1, device=at.device) > at[:, None]  # (B, S)
        return torch.zeros(beyond.shape, dtype=dtype, device=at.device).masked_fill_(beyond, float("-inf"))[
            :, None, None
        ]
