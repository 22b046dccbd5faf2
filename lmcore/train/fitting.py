"""The micro-batch of a run: passes over some sequences are timed in turns, and the fastest that fits is taken."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from lmcore.models.network import Network
from lmcore.tokens import TokenBatch
from lmcore.train import machine
from lmcore.train.loss import first_rows, micro_loss
from lmcore.train.params import TrainParams

PROBE_SECONDS, PROBE_ROUNDS = 2.0, 5
SAME_SPEED = 1.1  # a smaller micro-batch must win by a tenth: timings of a few passes are no more exact


def choose_micro_batch(
    model: Network,
    batch: TokenBatch,
    params: TrainParams,
    device: str,
    reasons: dict[str, str],
    *,
    needs: Callable[[int], int],
    free: float,
) -> tuple[int, float]:
    """Sequences of the fastest forward and backward pass that fits, and seconds of a whole step at that size.

    `needs` gives the bytes that so many sequences need by the ledger, `free` those that may be taken; `reasons` is
    told why. MemoryError when the size that is set does not fit, or none does.
    """
    sequences = batch.ids.shape[0]
    if params.micro_batch is not None:
        reasons["micro-batch"] = "as set"
        return _time_as_set(model, batch, params, device, reasons)
    powers = [2**n for n in range(sequences.bit_length()) if 2**n < sequences]
    sizes = [size for size in [*powers, sequences] if size == 1 or needs(size) <= free]
    seconds = _time_passes(model, batch, sizes, device)
    if not seconds:
        raise MemoryError("out of memory in a pass over one sequence")
    fastest = min(seconds.values())
    best = max(size for size, each in seconds.items() if each <= fastest * SAME_SPEED)
    reasons["micro-batch"] = "ms a sequence " + ", ".join(f"{n}: {1000 * s:.1f}" for n, s in seconds.items())
    if len(sizes) <= len(powers):
        more = needs(min(2 * sizes[-1], sequences)) / 2**20
        reasons["micro-batch"] += f"; more would need {more:,.0f} MiB, over half of what is free"
    elif len(seconds) < len(sizes):
        reasons["micro-batch"] += "; more would take the probe too long"
    return best, seconds[best] * sequences


def _time_as_set(
    model: Network, batch: TokenBatch, params: TrainParams, device: str, reasons: dict[str, str]
) -> tuple[int, float]:
    """The micro-batch of the settings and seconds of a whole step; halved until it fits, where they say so."""
    assert params.micro_batch is not None
    sequences = batch.ids.shape[0]
    size = params.micro_batch
    while True:
        rows = min(size, sequences)
        timed = _time_passes(model, batch, [rows], device)
        if timed:
            return size, timed[rows] * sequences
        if params.on_oom != "halve" or rows == 1:
            raise MemoryError(f"out of memory in a pass over {rows} sequences")
        reasons["micro-batch"] = f"halved: {rows} sequences do not fit into memory"
        size = rows // 2


def _time_passes(model: Network, batch: TokenBatch, sizes: list[int], device: str) -> dict[int, float]:
    """Best seconds a sequence of forward and backward over the first sequences of `batch`, by how many there are.

    The sizes take turns, so that what else the machine does slows none of them alone. A size is left out when a pass
    would end after PROBE_SECONDS, but for the first, and when it does not fit into memory.
    """
    deadline = time.perf_counter() + PROBE_SECONDS
    best: dict[int, float] = {}
    for _ in range(PROBE_ROUNDS):
        for size in sizes:
            expected = size * best.get(size, max(best.values(), default=0.0))
            if best and time.perf_counter() + expected > deadline:
                return best
            seconds = _time_pass(model, first_rows(batch, size), device)
            if seconds is None:  # nor would a larger one fit
                sizes = [each for each in sizes if each < size]
                best = {each: best[each] for each in sizes if each in best}
                break
            best[size] = min(best.get(size, math.inf), seconds / size)
    return best


def _time_pass(model: Network, rows: TokenBatch, device: str) -> float | None:
    """Seconds of forward and backward over `rows`; None when there is no memory for them."""
    try:
        rows = rows.to(device)
        started = time.perf_counter()
        total, _ = micro_loss(model, rows)
        total.backward()  # type: ignore[no-untyped-call]
        machine.synchronize(device)
        return time.perf_counter() - started
    except (MemoryError, RuntimeError) as error:
        if not machine.is_out_of_memory(error):
            raise
        return None
    finally:
        model.zero_grad(set_to_none=True)
