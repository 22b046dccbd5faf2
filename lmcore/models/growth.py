"""A larger model that computes what a smaller one does, to train on from: wider, deeper, or with another vocabulary.

Width (HyperCloning, Samragh et al. 2024, arXiv:2409.12903): the stream holds its numbers n times over, so every matrix
that reads it is a grid of n x n copies divided by n. Copies that are all alike would get equal gradients and stay alike
for ever. So each row of the grid carries noise that adds up to zero over the columns: the sums stay what they were, the
gradients differ. Widths that are no whole multiple are padded instead (`lmcore.models.padding`). Depth: blocks whose
output matrices are zero add nothing to the stream. Vocabulary: a new token begins as the mean of the pieces that the
old vocabulary cuts it into.

Letters: D model width, H heads, K heads of keys and values, G = H / K, W head width, F MLP width, V vocabulary, n
copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.models.families import ModelConfig
from lmcore.models.fit import clones, misfits
from lmcore.models.init import normal
from lmcore.models.network import Network
from lmcore.models.padding import longer, padded
from storage.errors import UserError

NOISE = 0.1  # of a grid's own root mean square


@torch.no_grad()
def grow(model: Network, config: ModelConfig, seed: int = 0) -> Network:
    """A model of shape `config` with the logits of `model` on every text that fits both contexts.

    Widths of a decoder grow, by copies where all are whole multiples, and blocks are put between the old ones; a
    context is cut, or longer; dropout is that of `config`. Raises UserError naming the settings for which that cannot
    be.
    """
    wrong = misfits(model.config, config, grow=True)
    if wrong:
        named = ", ".join(
            f"{name} {getattr(model.config, name)} to {getattr(config.resolved(), name)}" for name in wrong
        )
        raise UserError(
            f"a model cannot grow from {named} and compute the same",
            "make d_model, n_heads, n_kv_heads and d_ff larger and keep head_dim and the queries of a key; more "
            "n_layers need norm_placement: pre; a wider model needs norm_affine: true as well, unless its head is not "
            "tied and all widths are whole multiples",
        )
    state = dict(model.state_dict())
    if isinstance(model.config, DecoderConfig) and isinstance(config, DecoderConfig):
        widen = widened if clones(model.config, config) else padded
        state = widen(state, model.config, config, seed)
        state = deepened(state, model.config.n_layers, config.n_layers)
    if "position.weight" in state:
        state["position.weight"] = longer(state["position.weight"], config.context)
    grown = build(config, model.vocab_size, 0)
    grown.load_state_dict(state)
    return grown.train(model.training)


def widened(state: dict[str, Tensor], old: DecoderConfig, new: DecoderConfig, seed: int) -> dict[str, Tensor]:
    """The parameters of a decoder with `new`'s widths, whole multiples, and `old`'s blocks."""
    n = new.d_model // old.d_model
    f = new.ff_width // old.ff_width
    if n == f == 1:
        return dict(state)
    heads = head_order(old, new)
    columns = rows_of(heads, old.head_width)  # of `attn.o`: the heads' outputs as they stand side by side
    q, k, _ = old.qkv_rows
    queries = columns
    keys = torch.arange(q, q + k).repeat(new.kv_heads // old.kv_heads)
    qkv = torch.cat((queries, keys, keys + k))
    out = {}
    for name, tensor in state.items():
        part = name.rpartition(".")[0]
        if name.endswith((".q_norm.weight", ".k_norm.weight")):
            grown = tensor  # a head's width stays
        elif part.endswith("attn.qkv"):
            grown = tensor[qkv] if tensor.ndim == 1 else _spread(tensor[qkv], n, seed, name)
        elif name.endswith("attn.o.weight"):
            grown = _spread_over(tensor.repeat(n, 1), heads, old.head_width, seed, name)
        elif name.endswith("mlp.down.weight"):
            grown = _spread(tensor.repeat(n, 1), f, seed, name)
        elif part.endswith(("mlp.up", "mlp.gate")):
            grown = tensor.repeat(f) if tensor.ndim == 1 else _spread(tensor.repeat(f, 1), n, seed, name)
        elif name == "head.weight":
            grown = _spread(tensor, n, seed, name)
        elif part == "norm" and old.tie_embeddings:
            grown = tensor.repeat(n) / n  # the tied head sums the n copies, and its matrix cannot be divided
        else:  # embeddings, norms, and the biases of what writes into the stream
            grown = tensor.repeat(*[1] * (tensor.ndim - 1), n)
        out[name] = grown.contiguous()
    return out


def deepened(state: dict[str, Tensor], before: int, after: int) -> dict[str, Tensor]:
    """The parameters of a decoder with `after` blocks: copies of old ones that write nothing stand between them."""
    origins = [number * before // after for number in range(after)]
    out = {name: tensor for name, tensor in state.items() if not name.startswith("blocks.")}
    for number, origin in enumerate(origins):
        copy = number > 0 and origins[number - 1] == origin
        prefix = f"blocks.{origin}."
        for name, tensor in state.items():
            if name.startswith(prefix):
                part = name.removeprefix(prefix)
                silent = copy and part.startswith(("attn.o.", "mlp.down."))
                out[f"blocks.{number}.{part}"] = torch.zeros_like(tensor) if silent else tensor.clone()
    return out


@torch.no_grad()
def with_vocabulary(model: Network, pieces: Sequence[Sequence[int]]) -> Network:
    """The same model over another vocabulary: token i begins as the mean of the old tokens `pieces[i]`.

    A token that one old token spells keeps its row. No pieces: the mean of all rows.
    """
    grown = build(model.config, len(pieces), 0)
    state = dict(model.state_dict())
    for name in model.token_rows:
        if name in state:
            old = state[name]  # (V, D), or (V,) of a bias
            mean = old.mean(0)
            state[name] = torch.stack([old[list(some)].mean(0) if len(some) else mean for some in pieces])
    grown.load_state_dict(state)
    return grown.train(model.training)


def head_order(old: DecoderConfig, new: DecoderConfig) -> Tensor:
    """Which old head each new one is a copy of, (H',): every new head must read a copy of its old keys and values."""
    times = new.n_heads // old.n_heads
    heads = torch.arange(old.n_heads)
    if new.kv_heads == old.kv_heads:  # G grows: the copies of a group stay beside it
        return heads.view(old.kv_heads, -1).repeat(1, times).flatten()
    return heads.repeat(times)


def rows_of(heads: Tensor, width: int) -> Tensor:
    """The rows, or columns, of these heads: (H,) -> (H W,)."""
    return (heads[:, None] * width + torch.arange(width)).flatten()


def _spread(matrix: Tensor, n: int, seed: int, name: str) -> Tensor:
    """(m, k) for k numbers -> (m, n k) for n copies of them, side by side, with the same product."""
    noise = _cancelling((matrix.shape[0], n, matrix.shape[1]), matrix, n, seed, name)
    return (matrix[:, None] / n + noise).flatten(1)


def _spread_over(matrix: Tensor, heads: Tensor, width: int, seed: int, name: str) -> Tensor:
    """`_spread` for the columns of heads that stand in any order: (m, H W) -> (m, H' W)."""
    n = len(heads) // (matrix.shape[1] // width)
    spread = _spread(matrix, n, seed, name).view(len(matrix), n, -1, width)  # (m, n, H, W)
    seen: dict[int, int] = {}
    parts = []
    for head in heads.tolist():
        copy = seen.get(head, 0)
        seen[head] = copy + 1
        parts.append(spread[:, copy, head])
    return torch.cat(parts, 1)


def _cancelling(shape: tuple[int, int, int], like: Tensor, n: int, seed: int, name: str) -> Tensor:
    """Noise (m, n, k) whose sum over the n copies is zero."""
    if n == 1:
        return torch.zeros(shape)
    noise = normal(torch.Size(shape), seed, f"growth {name}")
    return (noise - noise.mean(1, keepdim=True)) * (NOISE * like.square().mean().sqrt() / n)
