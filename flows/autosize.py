"""`collect-train autosize`: a shape, a batch and a number of tokens for a budget, measured on this machine."""

from __future__ import annotations

from dataclasses import replace

import yaml
from rich.console import Console
from rich.text import Text

from flows.look import human_bytes
from lmcore.models.ledger import Ledger
from lmcore.train.autosize import Proposal, propose
from lmcore.train.params import TrainParams, TrainRuntime
from storage.errors import UserError

GUESS = 0.4  # share of the product speed that a step reaches, before one is timed
ROUNDS = 3  # proposals that are timed until one stays the same


def show_proposal(minutes: float, flops: float, vocab_size: int, context: int, console: Console) -> Proposal:
    """Print a recipe snippet for `minutes` of training, or for `flops` of arithmetic, and what it was chosen by.

    Raises UserError unless exactly one of the two is given.
    """
    if (minutes > 0) == (flops > 0):
        raise UserError("autosize needs a budget", "give --minutes N or --flops F, one of them")
    proposal, product, measured = size_up(minutes, flops, vocab_size, context)
    budget = {"minutes": minutes} if minutes else {"tokens": proposal.tokens}
    c = proposal.config
    snippet = {
        "model": {"n_layers": c.n_layers, "d_model": c.d_model, "n_heads": c.n_heads, "context": c.context},
        "train": budget | {"batch": proposal.batch},
    }
    console.print(Text(yaml.safe_dump(snippet, sort_keys=False, default_flow_style=None)), soft_wrap=True)
    share = proposal.ledger.flops_per_token() * proposal.tokens_per_second / product
    ratio = proposal.tokens / proposal.ledger.total
    told = [
        f"# {proposal.ledger.total:,} parameters ({human_bytes(proposal.ledger.bytes())}) with a vocabulary of "
        f"{vocab_size:,}",
        f"# {proposal.tokens:,} tokens in {proposal.steps:,} steps of {proposal.batch * c.context:,}: "
        f"{ratio:.1f} tokens a parameter, {proposal.flops:.2g} operations, {proposal.minutes:,.1f} minutes here",
        f"# {proposal.tokens_per_second:,.0f} tokens/s measured with this shape, {share:.0%} of the product speed "
        f"({product / 1e9:,.0f} GFLOP/s in {measured})",
    ]
    for line in told:
        console.print(Text(line), soft_wrap=True)
    return proposal


def size_up(minutes: float, flops: float, vocab_size: int, context: int) -> tuple[Proposal, float, str]:
    """The proposal, the product speed in operations a second, and the number format it was measured in."""
    import torch

    from lmcore.train.machine import devices, free_memory, product_gflops
    from lmcore.train.plan import HALF_GAIN
    from lmcore.train.speed import measure

    device = devices()[0]  # which the trainer takes as well
    fp32, bf16 = product_gflops(device, [torch.float32, torch.bfloat16])
    product, precision = (bf16, "bf16") if bf16 >= HALF_GAIN * fp32 else (fp32, "fp32")
    product *= 1e9
    share = GUESS

    def speed(ledger: Ledger) -> float:
        return share * product / ledger.flops_per_token()

    measured: dict[int, float] = {}
    for _ in range(ROUNDS):
        proposal = propose(
            vocab_size=vocab_size,
            context=context,
            speed=speed,
            seconds=minutes * 60 if minutes else None,
            flops=flops or None,
            memory=free_memory(device) // 2,
        )
        width = proposal.config.d_model
        if width in measured:
            break
        params = TrainParams(model=proposal.config, batch=proposal.batch, minutes=minutes or 1.0)
        measured[width] = measure(params, vocab_size, TrainRuntime()).tokens_per_second
        share = measured[width] * proposal.ledger.flops_per_token() / product
    rate = measured.get(proposal.config.d_model, proposal.tokens_per_second)
    tokens = int(rate * minutes * 60) if minutes else proposal.tokens
    return replace(proposal, tokens_per_second=rate, tokens=tokens), product, precision
