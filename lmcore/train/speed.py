"""How fast this machine trains a shape, measured: a model with random weights takes a few real steps on random text."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import torch

from lmcore.models import build
from lmcore.models.lora import add_adapters
from lmcore.tokens import TokenBatch
from lmcore.train import machine, memory
from lmcore.train.loss import micro_loss
from lmcore.train.optim import Optimizer
from lmcore.train.params import TrainParams, TrainRuntime
from lmcore.train.plan import Plan, apply, probe
from storage.errors import RunError

UPDATES = 2  # optimizer steps that are timed; the first warms up


@dataclass(frozen=True)
class Speed:
    """What was measured. Compilation is not tried: it takes longer than the measurement."""

    plan: Plan
    step_seconds: float  # of a whole optimizer step
    tokens_per_second: float


def measure(params: TrainParams, vocab_size: int, runtime: TrainRuntime) -> Speed:
    """The speed of training `params` here, in some seconds. No text is read, no global random state is changed.

    Raises RunError when there is no memory for a single sequence.
    """
    threads = torch.get_num_threads()
    cuda = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(cuda), contextlib.ExitStack() as at_end:  # dropout draws from them
        at_end.callback(torch.set_num_threads, threads)
        model = build(params.model, vocab_size, params.seed).train()
        if params.lora:
            add_adapters(model, params.lora, params.seed)
        batch = random_batch(params, vocab_size)
        try:
            how = probe(model, batch, params, runtime, allocator="", run_seconds=lambda _: 0.0)
        except MemoryError as error:
            raise RunError(
                f"there is no memory for this training: {error}", memory.mend(params, 1, model.recompute)
            ) from error
        apply(how, model)
        optimizer = Optimizer(model, params, how.dtype)
        seconds = []
        for _ in range(UPDATES):
            total, _ = micro_loss(model, batch.split(1)[0].to(how.device))
            total.backward()  # type: ignore[no-untyped-call]
            machine.synchronize(how.device)
            started = time.perf_counter()
            optimizer.step(1e-6)
            machine.synchronize(how.device)
            seconds.append(time.perf_counter() - started)
    step = how.step_seconds + min(seconds)
    return Speed(how, step, batch.ids.numel() / step)


def random_batch(params: TrainParams, vocab_size: int) -> TokenBatch:
    """A batch of random tokens in the shape of `params`, each a byte long, one document a row."""
    shape = (params.batch, params.model.context)
    ids = torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(params.seed))
    return TokenBatch(
        ids, ids.roll(-1, 1), torch.ones(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.int32),
        torch.ones(shape, dtype=torch.int32),
    )  # fmt: skip
