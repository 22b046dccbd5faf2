"""The one type of batch that training and validation work on. B sequences of T tokens."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """What a model reads and what it is held to. Every tensor is (B, T)."""

    ids: Tensor  # int64: what is read
    targets: Tensor  # int64: the token after each of `ids`
    loss_mask: Tensor  # bool: True where the target counts
    doc_ids: Tensor  # int32: index in its split of the document that the token of `ids` is in; -1 where it fills up
    n_bytes: Tensor  # int32: UTF-8 bytes that the target stands for; 0 for specials

    def __post_init__(self) -> None:
        """Hold the five to one shape."""
        shapes = {tuple(getattr(self, field.name).shape) for field in fields(self)}
        assert len(shapes) == 1, f"a batch has one shape, not {shapes}"
        assert self.ids.dim() == 2, f"a batch is (B, T), not {self.ids.shape}"

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same batch on `device`."""
        return TokenBatch(*(getattr(self, field.name).to(device) for field in fields(self)))

    def split(self, n: int) -> list[TokenBatch]:
        """Micro-batches of `n` sequences in order (views, no copies); the last has fewer when B is no multiple."""
        parts = zip(*(torch.split(getattr(self, field.name), n) for field in fields(self)), strict=True)
        return [TokenBatch(*part) for part in parts]
