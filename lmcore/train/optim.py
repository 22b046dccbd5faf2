"""Muon for the hidden matrices and AdamW for the rest, with a state of plain named tensors.

Letters: K matrices of one shape, m rows, n columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lmcore.train.params import TrainParams

# One (a, b, c) per Newton-Schulz step, Jiacheng You 2025. Five steps bring every singular value between 0.003 and 1
# to within 0.15 of 1, most to within 0.02; Jordan's constant (3.4445, -4.7750, 2.0315) leaves them within 0.32.
NEWTON_SCHULZ = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
ADAMW_EPS = 1e-10  # below the usual 1e-8: the gradients of rare embedding rows are that small


def orthogonal(g: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest orthogonal matrix, approximately, of each matrix in `g` (K, m, n); computed in `dtype`.

    Newton-Schulz iteration x <- a x + (b s + c s s) x with s = x x', made of products only (Jordan et al. 2024,
    kellerjordan.github.io/posts/muon).
    """
    x = g.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x  # (K, m, n) with m <= n, so that s is the smaller square
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)  # Frobenius norm: no singular value is above 1
    for a, b, c in NEWTON_SCHULZ:
        s = x @ x.mT  # (K, m, m)
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(g.dtype)


class Muon:
    """Momentum whose update is made orthogonal; same-shaped matrices are stacked and stepped together."""

    def __init__(
        self,
        matrices: Mapping[str, nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.lr, self.momentum, self.weight_decay, self.dtype = lr, momentum, weight_decay, dtype
        self._stacks: dict[tuple[int, ...], list[str]] = {}
        for name, matrix in matrices.items():
            self._stacks.setdefault(tuple(matrix.shape), []).append(name)
        self._matrices = dict(matrices)
        self._momenta = {
            shape: torch.stack([torch.zeros_like(matrices[name]) for name in names])  # (K, m, n)
            for shape, names in self._stacks.items()
        }

    @torch.no_grad()
    def step(self, lr_share: float) -> None:
        """One update at `lr_share` of the peak learning rate. Every matrix must have a gradient.

        The update is scaled by sqrt(max(1, m / n)), so that one learning rate suits all shapes (Jordan 2024).
        """
        lr = self.lr * lr_share
        for shape, names in self._stacks.items():
            g = torch.stack([_gradient(self._matrices[name]) for name in names])  # (K, m, n)
            matrices: list[Tensor] = [self._matrices[name] for name in names]
            momenta = self._momenta[shape]
            momenta.lerp_(g, 1 - self.momentum)
            update = orthogonal(g.lerp_(momenta, self.momentum), self.dtype)  # Nesterov
            if self.weight_decay:
                torch._foreach_mul_(matrices, 1 - lr * self.weight_decay)
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            torch._foreach_add_(matrices, list(update.unbind()), alpha=-lr * scale)

    def tensors(self) -> dict[str, Tensor]:
        """The momentum of each matrix, as `momentum.NAME`."""
        return {
            f"momentum.{name}": self._momenta[shape][i].clone()
            for shape, names in self._stacks.items()
            for i, name in enumerate(names)
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave."""
        for shape, names in self._stacks.items():
            self._momenta[shape].copy_(torch.stack([tensors[f"momentum.{name}"] for name in names]))


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), through torch's fused kernel.

    The same numbers as `torch.optim.AdamW(fused=True)`. That class imports torch's compiler, two seconds of every
    start, and keeps its state by position; here it is tensors by name.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
    ) -> None:
        self.lr, self.betas, self.weight_decay = lr, betas, weight_decay
        self._parameters = dict(parameters)
        self._moments = {
            part: {name: torch.zeros_like(p) for name, p in parameters.items()} for part in ("exp_avg", "exp_avg_sq")
        }
        self._steps = {name: torch.zeros((), device=p.device) for name, p in parameters.items()}

    @torch.no_grad()
    def step(self, lr_share: float) -> None:
        """One update at `lr_share` of the peak learning rate; weight decay acts on matrices only."""
        for matrices in (True, False):
            names = [name for name, p in self._parameters.items() if (p.ndim >= 2) == matrices]
            if names:
                torch._fused_adamw_(
                    [self._parameters[name] for name in names],
                    [_gradient(self._parameters[name]) for name in names],
                    [self._moments["exp_avg"][name] for name in names],
                    [self._moments["exp_avg_sq"][name] for name in names],
                    [],
                    self._count(names),
                    lr=self.lr * lr_share,
                    beta1=self.betas[0],
                    beta2=self.betas[1],
                    weight_decay=self.weight_decay if matrices else 0.0,
                    eps=ADAMW_EPS,
                    amsgrad=False,
                    maximize=False,
                )

    def tensors(self) -> dict[str, Tensor]:
        """Both moments and the number of steps of each parameter, as `exp_avg.NAME`, `exp_avg_sq.NAME`, `step.NAME`."""
        tensors = {f"{part}.{name}": t for part, moments in self._moments.items() for name, t in moments.items()}
        return tensors | {f"step.{name}": count for name, count in self._steps.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])

    def _count(self, names: list[str]) -> list[Tensor]:
        steps = [self._steps[name] for name in names]
        torch._foreach_add_(steps, 1.0)
        return steps


class Optimizer:
    """All parameters of a model under the optimizers that `params` asks for. `dtype` is Muon's."""

    def __init__(self, model: nn.Module, params: TrainParams, dtype: torch.dtype = torch.float32) -> None:
        self._model = model
        hidden = hidden_matrices(model) if params.optimizer == "muon" else {}
        rest = {name: p for name, p in model.named_parameters() if name not in hidden}
        decay = params.weight_decay
        self._parts: dict[str, Muon | AdamW] = {
            "adamw": AdamW(rest, lr=params.lr, betas=params.betas, weight_decay=decay)
        }
        if hidden:
            self._parts["muon"] = Muon(
                hidden, lr=params.muon_lr, momentum=params.momentum, weight_decay=decay, dtype=dtype
            )

    def step(self, lr_share: float) -> None:
        """One update of every parameter at `lr_share` of the peak learning rates; the gradients are then dropped."""
        for part in self._parts.values():
            part.step(lr_share)
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forget the gradients, as after a skipped step."""
        self._model.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """The whole state as tensors named `adamw.exp_avg.NAME`, `muon.momentum.NAME` and so on."""
        return {f"{kind}.{name}": t for kind, part in self._parts.items() for name, t in part.tensors().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave. KeyError when one of this optimizer's is missing."""
        for kind, part in self._parts.items():
            prefix = f"{kind}."
            part.load({key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)})


def hidden_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """The matrices of the blocks, by name: what Muon is for. Embeddings and head are AdamW's."""
    return {name: p for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2}


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None, "a matrix without gradient"
    return parameter.grad
