"""One process among several that train one model together, on one machine.

Every process (rank) holds the whole model and the whole batch, works on its share of the sequences, and adds its
gradients to those of the others; then all make the same optimizer step. What they do next depends on values that are
equal in all of them, so none waits for an exchange that another one leaves out. Rank 0 leads: it alone writes files,
tells and samples. A process that trains alone is a team of one, for which nothing here does anything.

Letters: W processes, B sequences of a batch.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lmcore.tokens import TokenBatch
from lmcore.train.journal import Journal
from storage.digest import digest_json
from storage.errors import RunError, UserError

BUCKET = 2**26  # gradient elements in one exchange, 256 MiB: what a large model needs beside its gradients
PATIENCE = timedelta(days=7)  # a rank that dies closes its connections; one that is slow may wait for another trainer
_LOOPBACK = {"linux": "lo", "darwin": "lo0"}

T = TypeVar("T")


class LostPeer(RunError):
    """Another process of the team is gone; whoever started them knows which and why."""

    def __init__(self, rank: int, error: Exception) -> None:
        said = (str(error).splitlines() or [type(error).__name__])[0].partition(". This is")[0]
        super().__init__(f"rank {rank} lost the other training processes: {said}", "run again to continue")


class Team:
    """This process (`rank`, from 0) and how many there are (`world`)."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        assert 0 <= rank < world
        self.rank, self.world = rank, world

    @classmethod
    def of_environment(cls) -> Team:
        """The team that torchrun started this process for; a team of one without it."""
        if not dist.is_torchelastic_launched():
            return cls()
        return cls(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))

    @property
    def leads(self) -> bool:
        """True for the one that writes files and tells."""
        return self.rank == 0

    def join(self, device: str) -> None:
        """Meet the others, to train on `device` (auto, cpu, cuda, mps). UserError when it cannot be shared out."""
        if self.world == 1:
            return
        backend = "gloo"
        if device in ("auto", "cuda") and torch.cuda.is_available():
            there = torch.cuda.device_count()
            if there < self.world:
                raise UserError(
                    f"{self.world} training processes need a CUDA device each, and {there} can be seen",
                    f"set processes to {there}, give the run more GPUs, or set runtime.train.device=cpu",
                )
            torch.cuda.set_device(self.rank)
            backend = "cpu:gloo,cuda:nccl"
        elif device == "mps" or (device == "auto" and torch.backends.mps.is_available()):
            raise UserError(
                f"{self.world} training processes cannot share this machine's one mps device",
                "set processes to 1, or runtime.train.device=cpu",
            )
        if sys.platform in _LOOPBACK:  # else gloo looks its own host name up, and talks where others can listen
            os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK[sys.platform])
        with self._others():
            dist.init_process_group(backend, timeout=PATIENCE)

    def share(self, batch: TokenBatch) -> TokenBatch:
        """This rank's sequences of a batch: B / W, and one more for the first B mod W ranks. It may have none."""
        if self.world == 1:
            return batch
        whole, more = divmod(batch.ids.shape[0], self.world)
        first = self.rank * whole + min(self.rank, more)
        last = first + whole + (self.rank < more)
        return TokenBatch(**{field.name: getattr(batch, field.name)[first:last] for field in fields(batch)})

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the sum over all ranks, the same bits in each of them."""
        if self.world == 1:
            return
        for bucket in _buckets(parameters):
            flat = torch.cat([_gradient(parameter).flatten() for parameter in bucket])
            with self._others():
                dist.all_reduce(flat)
            for parameter, part in zip(bucket, torch.split(flat, [p.numel() for p in bucket]), strict=True):
                parameter.grad = part.view_as(parameter)

    def total(self, *values: float) -> list[float]:
        """The sum over all ranks of each of these, in double precision."""
        return self._exchanged(values, dist.ReduceOp.SUM)

    def most(self, value: float) -> float:
        """The largest over all ranks: whether any was told to stop, how long the slowest took."""
        return self._exchanged([value], dist.ReduceOp.MAX)[0]

    def wait(self) -> None:
        """Return when every rank has come here."""
        self.most(0.0)

    def first(self, read: Callable[[], T]) -> T:
        """What `read` gives, done by rank 0 before the others do it."""
        if not self.leads:
            self.wait()
        result = read()
        if self.leads:
            self.wait()
        return result

    def seed(self, seed: int, step: int) -> None:
        """Give this rank random numbers of its own for one step: no two drop the same, and no state is to be kept."""
        if self.world > 1:
            torch.manual_seed(int(digest_json(["rank", seed, step, self.rank])[:15], 16))

    def _exchanged(self, values: Sequence[float], operation: dist.ReduceOp.RedOpType) -> list[float]:
        if self.world == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        with self._others():
            dist.all_reduce(numbers, operation)
        return numbers.tolist()

    @contextlib.contextmanager
    def _others(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # gloo and nccl have no type of their own for a closed connection
            raise LostPeer(self.rank, error) from error


class Unheard(Journal):
    """The journal of a rank that does not lead: it tells nothing and keeps nothing."""

    def __init__(self) -> None:
        self.events = []

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def event(self, name: str, text: str, **values: Any) -> None:
        """Rank 0 tells it."""

    def doing(self, what: str) -> None:
        """Rank 0 tells it."""

    def step(self, line: dict[str, Any], tokens: int, seconds: float, *, last: bool = False) -> None:
        """Rank 0 tells it."""


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """The parameters in order, in lists of at most BUCKET elements together, or of one that is larger."""
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and size + parameter.numel() > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    if bucket:
        yield bucket


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None, "a parameter without gradient"
    return parameter.grad
