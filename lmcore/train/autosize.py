"""Which shape, batch and number of tokens suit a budget on this machine.

A larger model learns more from a token and sees fewer of them. Hoffmann et al. 2022 (arXiv:2203.15556, approach 3)
fitted the loss that N parameters reach on D tokens; here the shapes of a ladder are compared by that fit, each with the
tokens that the budget pays for at the speed that was measured. The constants come from models above 70 million
parameters: for small ones the order of the shapes is what they are good for, not the loss itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lmcore.models.config import DecoderConfig
from lmcore.models.ledger import Ledger, estimate

A, ALPHA, B, BETA = 406.4, 0.34, 410.7, 0.28  # loss = 1.69 + A / N^ALPHA + B / D^BETA
WIDTHS = (64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 2048)
STEPS = 500  # optimizer steps that a budget should buy at least: fewer large ones learn less
LEAST_BATCH, MOST_BATCH = 1024, 2**19  # tokens in an optimizer step


@dataclass(frozen=True)
class Proposal:
    """A shape for a budget."""

    ledger: Ledger
    tokens: int  # that the budget pays for
    batch: int  # sequences in an optimizer step
    tokens_per_second: float

    @property
    def config(self) -> DecoderConfig:
        """The shape."""
        assert isinstance(self.ledger.config, DecoderConfig)
        return self.ledger.config

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return max(1, self.tokens // (self.batch * self.config.context))

    @property
    def minutes(self) -> float:
        """What it takes here."""
        return self.tokens / self.tokens_per_second / 60

    @property
    def flops(self) -> float:
        """Its arithmetic."""
        return float(self.tokens) * self.ledger.flops_per_token()


def shape_of(width: int, context: int) -> DecoderConfig:
    """The ladder's model of that width: deeper as it is wider, as the published ones are (128/4, 384/8, 768/12)."""
    layers = max(2, round(width / (32 + width / 24)))
    head = 64 if width % 64 == 0 else 32
    return DecoderConfig(n_layers=layers, d_model=width, n_heads=width // head, context=context)


def propose(
    *,
    vocab_size: int,
    context: int,
    speed: Callable[[Ledger], float],
    seconds: float | None = None,
    flops: float | None = None,
    memory: int | None = None,
) -> Proposal:
    """The shape that should reach the lowest loss in `seconds` of training, or with `flops` of arithmetic.

    `speed` gives tokens per second of a shape. Shapes that need more than `memory` bytes for a single sequence are left
    out, all but the smallest.
    """
    assert (seconds is None) != (flops is None)
    found: list[tuple[float, Proposal]] = []
    for width in WIDTHS:
        ledger = estimate(shape_of(width, context), vocab_size)
        if found and memory is not None and ledger.training_memory(1)["total"] > memory:
            break
        rate = speed(ledger)
        tokens = rate * seconds if seconds is not None else (flops or 0.0) / ledger.flops_per_token()
        tokens = max(tokens, 1.0)
        found.append((expected_loss(ledger, tokens), Proposal(ledger, int(tokens), batch_of(tokens, context), rate)))
    return min(found, key=lambda pair: pair[0])[1]


def expected_loss(ledger: Ledger, tokens: float) -> float:
    """Nats a token by the fit, without its constant; for comparing shapes."""
    loss: float = A / float(ledger.product_parameters) ** ALPHA + B / tokens**BETA
    return loss


def batch_of(tokens: float, context: int) -> int:
    """Sequences in a step: a power of two of tokens, so large that there are still STEPS steps."""
    wanted = min(MOST_BATCH, max(LEAST_BATCH, tokens / STEPS))
    return max(1, (1 << int(wanted).bit_length()) // 2 // context)
