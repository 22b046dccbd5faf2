"""Muon for the hidden matrices and AdamW for the rest, or schedule-free AdamW; a state of plain named tensors.

Letters: K matrices of one shape, m rows, n columns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

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
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decayed: Collection[str] = (),
    ) -> None:
        """`decayed` names the parameters that `weight_decay` acts on."""
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self._groups = _groups(parameters, decayed)
        self._parameters = dict(parameters)
        self._moments = {
            part: {name: torch.zeros_like(p) for name, p in parameters.items()} for part in ("exp_avg", "exp_avg_sq")
        }
        self._steps = {name: torch.zeros((), device=p.device) for name, p in parameters.items()}

    @torch.no_grad()
    def step(self, lr_share: float) -> None:
        """One update at `lr_share` of the peak learning rate. Every parameter must have a gradient."""
        for decays, names in self._groups.items():
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
                    weight_decay=self.weight_decay if decays else 0.0,
                    eps=self.eps,
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


class ScheduleFree:
    """AdamW whose weights are averaged as it goes, so that no learning rate needs to decay.

    Defazio et al. 2024, arXiv:2405.15682, algorithm 1 with their code's weights of the mean, the square of the
    largest rate so far. Three points a parameter: z, which AdamW's steps move; x, the mean of all z, which is the
    result; and y = (1 - beta1) z + beta1 x, where gradients are taken and which the model holds while it trains.
    Their code keeps y and z and reckons x back; here x is kept and y made of it, so that a look at x or a file of it
    changes no bit of what follows.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decayed: Collection[str] = (),
    ) -> None:
        """`decayed` names the parameters that `weight_decay` acts on."""
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self._parameters = dict(parameters)
        self._groups = _groups(parameters, decayed)
        self._z = {name: p.detach().clone() for name, p in parameters.items()}
        self._x = {name: p.detach().clone() for name, p in parameters.items()}
        self._exp_avg_sq = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self._counts = torch.zeros(3, dtype=torch.float64)  # steps, sum of the weights of the mean, largest rate

    @torch.no_grad()
    def step(self, lr_share: float) -> None:
        """One update at `lr_share` of the peak learning rate. Every parameter must have a gradient."""
        steps, weights, largest = self._counts.tolist()
        lr, beta2 = self.lr * lr_share, self.betas[1]
        steps, largest = steps + 1, max(largest, lr)
        weights += largest**2
        self._counts = torch.tensor([steps, weights, largest], dtype=torch.float64)
        for decays, names in self._groups.items():
            if not names:
                continue
            y: list[Tensor] = [self._parameters[name] for name in names]
            g = [_gradient(self._parameters[name]) for name in names]
            z, x, v = ([part[name] for name in names] for part in (self._z, self._x, self._exp_avg_sq))
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, g, g, 1 - beta2)
            denominator = torch._foreach_div(v, 1 - beta2**steps)
            torch._foreach_sqrt_(denominator)
            torch._foreach_add_(denominator, self.eps)
            update = torch._foreach_div(g, denominator)
            if decays and self.weight_decay:
                torch._foreach_add_(update, y, alpha=self.weight_decay)
            torch._foreach_add_(z, update, alpha=-lr)
            torch._foreach_lerp_(x, z, largest**2 / weights if weights else 1.0)
        self.to_training()

    @torch.no_grad()
    def to_average(self) -> None:
        """Put x into the model: what is looked at and left."""
        for name, p in self._parameters.items():
            p.copy_(self._x[name])

    @torch.no_grad()
    def to_training(self) -> None:
        """Put y into the model: where the next gradient is taken."""
        for name, p in self._parameters.items():
            torch.lerp(self._z[name], self._x[name], self.betas[0], out=p.data)

    def tensors(self) -> dict[str, Tensor]:
        """`z.NAME`, `x.NAME`, `exp_avg_sq.NAME` of each parameter, and `counts`."""
        parts = {"z": self._z, "x": self._x, "exp_avg_sq": self._exp_avg_sq}
        tensors = {f"{part}.{name}": t for part, named in parts.items() for name, t in named.items()}
        return tensors | {"counts": self._counts}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave, and put y into the model."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        self.to_training()


class Optimizer:
    """All parameters of a model under the optimizers that `params` asks for. `dtype` is Muon's."""

    def __init__(self, model: nn.Module, params: TrainParams, dtype: torch.dtype = torch.float32) -> None:
        self._model = model
        hidden = hidden_matrices(model) if params.optimizer == "muon" else {}
        rest = {name: p for name, p in trainable(model).items() if name not in hidden}
        decay = params.weight_decay
        decayed = decayed_names(model, params.decays)
        kind = ScheduleFree if params.optimizer == "schedule_free" else AdamW
        self._parts: dict[str, Muon | AdamW | ScheduleFree] = {
            "adamw": kind(rest, lr=params.lr, betas=params.betas, eps=params.eps, weight_decay=decay, decayed=decayed)
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

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model has the weights that the run would leave now: the mean ones of schedule_free."""
        parts = [part for part in self._parts.values() if isinstance(part, ScheduleFree)]
        for part in parts:
            part.to_average()
        try:
            yield
        finally:
            for part in parts:
                part.to_training()

    def tensors(self) -> dict[str, Tensor]:
        """The whole state as tensors named `adamw.exp_avg.NAME`, `muon.momentum.NAME` and so on."""
        return {f"{kind}.{name}": t for kind, part in self._parts.items() for name, t in part.tensors().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave. KeyError when one of this optimizer's is missing."""
        for kind, part in self._parts.items():
            prefix = f"{kind}."
            part.load({key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)})


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name: all, or with LoRA those of the adapters."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def hidden_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """The matrices of the blocks, by name: what Muon is for. Embeddings, head and adapters are AdamW's."""
    matrices = {name: p for name, p in trainable(model).items() if name.startswith("blocks.") and p.ndim == 2}
    return {name: p for name, p in matrices.items() if ".lora_" not in name}


def decayed_names(model: nn.Module, decays: Literal["matrices", "hidden", "all"]) -> set[str]:
    """The parameters that weight decay acts on. Every matrix of the blocks is in each of the three."""
    if decays == "all":
        return {name for name, _ in model.named_parameters()}
    matrices = {name for name, p in model.named_parameters() if p.ndim >= 2}
    return matrices if decays == "matrices" else {name for name in matrices if name.startswith("blocks.")}


def _groups(parameters: Mapping[str, nn.Parameter], decayed: Collection[str]) -> dict[bool, list[str]]:
    """The names of those that decay and of those that do not."""
    return {decays: [name for name in parameters if (name in decayed) == decays] for decays in (True, False)}


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None, "a matrix without gradient"
    return parameter.grad
