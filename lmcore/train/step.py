"""One optimizer step: the gradient of a whole batch from micro-batches, judged by the guard, applied or left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from lmcore.models.network import Network
from lmcore.tokens import TokenBatch
from lmcore.train import machine, memory
from lmcore.train.loss import BatchSize, bits_per_byte, micro_loss
from lmcore.train.optim import trainable
from lmcore.train.run import Run, random_state, set_random_state
from storage.atomic import write_json
from storage.errors import RunError

MicroLoss = Callable[[Network, TokenBatch], tuple[Tensor, Tensor]]
T = TypeVar("T")


class _NoRoom(Exception):
    """A micro-batch of some rank did not fit into its memory."""


def one_step(
    run: Run, batch: TokenBatch, share: float, loss_of: MicroLoss = micro_loss
) -> tuple[float, float, float, bool]:
    """One optimizer step at `share` of the peak rates: loss (nats per token), bits per byte, gradient norm, admitted.

    A step whose numbers are not finite is not admitted and changes no weight. With `on_oom: halve`, a step that does
    not fit into memory is done again in smaller micro-batches. RunError when one sequence does not fit.
    """
    loss, bits = _that_fits(run, batch, lambda: backward(run, batch, loss_of))
    if run.scale is not None:
        run.scale.divide(trainable(run.model).values())
    norm = float(nn.utils.clip_grad_norm_(run.model.parameters(), run.job.params.grad_clip or math.inf))
    if run.scale is not None and not run.scale.fits(loss, norm):
        admitted = run.guard.overflowed()
    else:
        admitted = run.guard.admits(run.at.step + 1, loss, norm)
    if admitted:
        run.optimizer.step(share)
    else:
        run.optimizer.drop_gradients()
    return loss, bits, norm, admitted


def backward(run: Run, batch: TokenBatch, loss_of: MicroLoss = micro_loss) -> tuple[float, float]:
    """Leave the gradient of the batch of all ranks in every rank; loss (nats per token) and bits per byte.

    Micro-batches, and ranks, add up sums that are divided by the tokens of the whole batch, so how it is divided
    changes rounding only.
    """
    size = BatchSize.of(batch)
    factor = (run.scale.value if run.scale is not None else 1.0) / size.tokens
    sums: list[tuple[Tensor, Tensor]] = []

    def passes() -> None:
        for micro in micro_batches(run, batch):
            total, of_bytes = loss_of(run.model, micro.to(run.plan.device))
            scaled = total / size.tokens if run.scale is None else total * factor
            scaled.backward()  # type: ignore[no-untyped-call]
            sums.append((total.detach(), of_bytes))

    _in_all_ranks(run, passes)
    run.team.add_gradients(trainable(run.model).values())
    nats, nats_of_bytes = run.team.total(sum(float(total) for total, _ in sums), sum(float(part) for _, part in sums))
    return nats / size.tokens, bits_per_byte(nats_of_bytes, size.n_bytes)


def compiled(run: Run, batch: TokenBatch) -> MicroLoss:
    """`micro_loss` compiled, and warmed up on `batch` so that compilation is not counted as training.

    It draws none of the run's random numbers, and halves what does not fit as a step does. Every shape is compiled by
    itself and anew: what torch remembers of other shapes would make kernels that a resumed process does not make.
    """
    torch.compiler.reset()
    loss_of = torch.compile(micro_loss, dynamic=False)
    drawn = random_state()

    def passes() -> None:
        parts = micro_batches(run, batch)
        for micro in (parts[0], parts[-1], parts[0]):  # again, because the first pass fills caches that are looked at
            total, _ = loss_of(run.model, micro.to(run.plan.device))
            total.backward()  # type: ignore[no-untyped-call]

    _that_fits(run, batch, lambda: _in_all_ranks(run, passes))
    run.optimizer.drop_gradients()
    set_random_state(drawn)
    return loss_of


def micro_batches(run: Run, batch: TokenBatch) -> list[TokenBatch]:
    """This rank's share in parts of as many tokens as the plan's: more sequences where a stage has shorter ones."""
    longer = run.job.params.model.context // batch.ids.shape[1]
    return run.team.share(batch).split(run.plan.micro_batch * longer)


def _in_all_ranks(run: Run, passes: Callable[[], None]) -> None:
    """Do `passes`. _NoRoom in every rank when one has no memory for them and `on_oom` says to halve."""
    halves, fits = run.job.params.on_oom == "halve", True
    try:
        passes()
    except (MemoryError, RuntimeError) as error:
        if not (halves and machine.is_out_of_memory(error)):
            raise
        fits = False
    if halves and run.team.most(not fits):  # asked of all: the others must not wait for this one's gradients
        raise _NoRoom


def _that_fits(run: Run, batch: TokenBatch, work: Callable[[], T]) -> T:
    """What `work` on `batch` gives, done again in micro-batches of half the size for as long as it raises _NoRoom."""
    drawn = random_state() if run.job.params.on_oom == "halve" else {}
    while True:
        try:
            return work()
        except _NoRoom:
            pass  # outside of this block, so that the failed pass is no longer held by the error
        run.optimizer.drop_gradients()
        machine.release_memory(run.plan.device)
        set_random_state(drawn)
        _halve(run, batch.ids.shape[0])


def _halve(run: Run, sequences: int) -> None:
    """Plan micro-batches of half the size from this step on. RunError when they have one sequence already."""
    step, was = run.at.step + 1, min(run.plan.micro_batch, -(-sequences // run.team.world))
    if was == 1:
        raise RunError(
            f"step {step} does not fit into memory, not even one sequence at a time",
            memory.mend(run.job.params, 1, run.plan.activation_checkpointing),
        )
    told = f"step {step} does not fit into memory: micro-batches of {was // 2} sequences in place of {was} from here on"
    reasons = run.plan.reasons | {"micro-batch": f"halved at step {step}, out of memory"}
    run.plan = run.plan.model_copy(update={"micro_batch": was // 2, "reasons": reasons})
    if run.team.leads:
        run.save()  # a resume must not do the steps before it in the new plan
        run.settle()
        write_json(run.job.work / "plan.json", run.plan.model_dump(mode="json"))
    run.journal.event("out-of-memory", f"{told}; a step stays {sequences}", step=step, micro_batch=was // 2)
