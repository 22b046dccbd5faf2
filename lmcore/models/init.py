"""Deterministic initialisation: every parameter is drawn from (seed, its own name) and nothing else.

Neither the global random state nor the order or number of the other parameters matters, so two shapes that share a
parameter's name and size share its start.

zero_init_projections on: matrices normal with standard deviation 1/sqrt(D), which keeps a normed input's scale; the
matrices that write into the stream (`attn.o`, `mlp.down`) zero, so that the model starts as the identity (as nanochat
and modded-nanogpt). Off: GPT-2's, everything .02, those two .02 / sqrt(2 n_layers) (Radford et al. 2019).
Embeddings .02; norms 1; biases 0.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn

from lmcore.models.config import DecoderConfig

STD = 0.02
# With zero projections a tied model starts by predicting its own input with logit std * D. 5 adds e^5 = 148 to a sum
# of V ones: the first loss stays near ln V at every width.
TIED_SELF_LOGIT = 5.0
# An untied head's logits have standard deviation std * sqrt(D), which adds half its square to the first loss.
HEAD_LOGIT_STD = 0.5


@torch.no_grad()
def initialise(model: nn.Module, config: DecoderConfig, seed: int) -> None:
    """Fill every parameter of `model`, wherever it lives, from `seed`."""
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            parameter.zero_()
        elif parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            std = _std(name, config)
            if std == 0.0:
                parameter.zero_()
            else:
                parameter.copy_(normal(parameter.shape, seed, name).mul_(std))


def _std(name: str, config: DecoderConfig) -> float:
    if name == "embed.weight":
        return min(STD, TIED_SELF_LOGIT / config.d_model) if config.tie_embeddings else STD
    if name == "head.weight":
        return min(STD, HEAD_LOGIT_STD / math.sqrt(config.d_model))
    if name == "position.weight":
        return STD
    if name.endswith(("attn.o.weight", "mlp.down.weight")):
        return 0.0 if config.zero_init_projections else STD / math.sqrt(2 * config.n_layers)
    return config.d_model**-0.5 if config.zero_init_projections else STD


def normal(shape: torch.Size, seed: int, name: str) -> Tensor:
    """Standard normal numbers of the CPU's generator, the same on every device."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randn(shape, generator=generator)
