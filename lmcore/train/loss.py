"""The loss of one micro-batch, as sums, so that micro-batches of any size add up to the exact mean.

Letters: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch.nn.functional as F
from torch import Tensor

from lmcore.models.decoder import Decoder
from lmcore.tokens import TokenBatch

BITS = 1 / math.log(2)  # bits in a nat


def micro_loss(model: Decoder, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Sums over a batch, in nats: of every token that counts (with gradient), of those that stand for bytes.

    Special tokens stand for no bytes. Bits per byte leave them out, as everywhere in this project; the loss does not.
    """
    logits = model(batch.ids)  # (B, T, V)
    nats = F.cross_entropy(logits.float().flatten(0, 1), batch.targets.flatten(), reduction="none")  # (B * T,)
    counts = batch.loss_mask.flatten()
    total = (nats * counts).sum()
    of_bytes = (nats.detach() * (counts & (batch.n_bytes.flatten() > 0))).sum()
    return total, of_bytes


@dataclass(frozen=True)
class BatchSize:
    """What a whole batch is divided by."""

    tokens: int  # that count in the loss
    n_bytes: int  # that those tokens stand for

    @classmethod
    def of(cls, batch: TokenBatch) -> BatchSize:
        """Count a batch while it is still on the CPU."""
        return cls(int(batch.loss_mask.sum()), int((batch.n_bytes * batch.loss_mask).sum()))


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Bits per byte of text; NaN when the text has no bytes."""
    return nats * BITS / n_bytes if n_bytes else math.nan


def first_rows(batch: TokenBatch, count: int) -> TokenBatch:
    """The first `count` sequences of a batch."""
    return TokenBatch(**{field.name: getattr(batch, field.name)[:count] for field in fields(batch)})
