"""The loss of one micro-batch, as sums, so that micro-batches of any size add up to the exact mean.

Letters: B sequences, T tokens, N = B T, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lmcore.models.network import Network
from lmcore.tokens import TokenBatch

BITS = 1 / math.log(2)  # bits in a nat


def micro_loss(model: Network, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Sums over a batch, in nats: of every token that counts (with gradient), of those that stand for bytes.

    Special tokens stand for no bytes. Bits per byte leave them out, as everywhere in this project; the loss does not.
    """
    logits = model(batch.ids, doc_ids=batch.doc_ids if model.within_documents else None).flatten(0, 1)  # (B T, V)
    nats = token_nats(logits, batch.targets.flatten())  # (B T,)
    counts = batch.loss_mask.flatten()
    total = (nats * counts).sum()
    of_bytes = (nats.detach() * (counts & (batch.n_bytes.flatten() > 0))).sum()
    return total, of_bytes


def look_sums(
    model: Network, batch: TokenBatch, groups: Tensor, count: int, charges: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Sums over the tokens that count, for each of `count` groups (5, count), float64 on the CPU, without gradient.

    `groups` (B, T) says which one a token is in. The rows: nats; nats of tokens that stand for bytes; tokens; tokens
    that the model would have guessed; bytes. `charges`, both (B, T), are of a lossy vocabulary: the bytes that each
    target stands for in the original text (0: none, as begin marks), and nats for those that it loses.
    """
    logits = model(batch.ids, doc_ids=batch.doc_ids if model.within_documents else None).flatten(0, 1)  # (B T, V)
    targets, counts, n_bytes = batch.targets.flatten(), batch.loss_mask.flatten(), batch.n_bytes.flatten()
    nats = token_nats(logits, targets)
    guessed = logits.argmax(-1) == targets
    lost: Tensor | float = 0.0
    if charges is not None:
        n_bytes, lost = charges[0].flatten(), charges[1].flatten()
    of_bytes = (nats + lost) * (counts & (n_bytes > 0))
    rows = (nats * counts, of_bytes, counts, guessed & counts, n_bytes * counts)
    columns = torch.stack([row.detach().cpu().double() for row in rows])  # (5, B T)
    return torch.zeros(5, count, dtype=torch.float64).index_add_(1, groups.flatten().long(), columns)


def token_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each token, float32 (N,), of logits (N, V) in any dtype and targets (N,)."""
    if logits.device.type == "cpu" and not torch.compiler.is_compiling():
        nats: Tensor = _CPUCrossEntropy.apply(logits, targets)  # type: ignore[no-untyped-call]
        return nats
    return F.cross_entropy(logits.float(), targets, reduction="none")


class _CPUCrossEntropy(torch.autograd.Function):
    """Cross-entropy that turns the probabilities into the gradient in place.

    torch's own writes log-probabilities, zeros and the gradient, each as large as the logits; this writes one, in half
    the time. A token less likely than float32's smallest number counts 87 nats; its gradient is exact.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        p = torch.softmax(logits, -1, dtype=torch.float32)  # (N, V)
        ctx.save_for_backward(p, targets)
        ctx.dtype = logits.dtype
        return p.gather(1, targets[:, None]).squeeze(1).clamp_min_(torch.finfo(p.dtype).tiny).log_().neg_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (p, targets), scale = ctx.saved_tensors, gradients[0][:, None]  # (N, V), (N,), (N, 1)
        p.mul_(scale).scatter_add_(1, targets[:, None], -scale)
        return p.to(ctx.dtype), None


@dataclass(frozen=True)
class BatchSize:
    """What a whole batch is divided by."""

    tokens: int  # that count in the loss; 1 where none does (all are masked), so that loss and gradient are 0
    n_bytes: int  # that those tokens stand for

    @classmethod
    def of(cls, batch: TokenBatch) -> BatchSize:
        """Count a batch while it is still on the CPU."""
        return cls(max(1, int(batch.loss_mask.sum())), int((batch.n_bytes * batch.loss_mask).sum()))


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Bits per byte of text; NaN when the text has no bytes."""
    return nats * BITS / n_bytes if n_bytes else math.nan


def first_rows(batch: TokenBatch, count: int) -> TokenBatch:
    """The first `count` sequences of a batch."""
    return TokenBatch(**{field.name: getattr(batch, field.name)[:count] for field in fields(batch)})
