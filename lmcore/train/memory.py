"""Memory that does not suffice, told with the settings that would mend it."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from lmcore.models.network import Network
from lmcore.train import machine, plan
from lmcore.train.params import Job, TrainParams
from storage.errors import RunError


@contextlib.contextmanager
def told(job: Job, model: Network, processes: int) -> Iterator[None]:
    """Turn an "out of memory" inside into a RunError that names what to set, and what the probe would choose now."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not machine.is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what the failed pass has made
        model.zero_grad(set_to_none=True)
        machine.release_memory(next(model.parameters()).device.type)
        how = _planned(job.work / "plan.json")
        size = how.micro_batch if how else job.params.micro_batch or 1  # where it is open, the probe begins with one
        size = min(size, -(-job.params.batch // processes))
        fits = plan.suggested(model, job.params, processes)
        raise RunError(_what(), mend(job.params, size, model.recompute, fits)) from error


def untold() -> RunError:
    """The same where even this finds no room, or there is no model yet."""
    return RunError(_what(), "set train.micro_batch, model.context, model.d_model or model.n_layers lower" + _more())


def mend(params: TrainParams, micro_batch: int, recompute: bool, fits: int | None = None) -> str:
    """What to set when `micro_batch` sequences at a time do not fit, and the probe would take `fits`."""
    ways = [f"set model.context ({params.model.context:,}), {params.model.width} or model.n_layers lower"]
    if not recompute:
        ways.insert(0, "set runtime.train.activation_checkpointing=on")
    if micro_batch > 1:
        ways = ways[:1]
        if params.on_oom != "halve":
            ways.insert(0, "train.on_oom=halve, which finds it by itself")
        if fits is None or fits >= micro_batch:
            ways.insert(0, f"set train.micro_batch={micro_batch // 2}")
        else:
            known = ", which the probe would let fit" if fits else ""
            ways.insert(0, f"set train.micro_batch={max(fits, 1)}{known}")
    return ", or ".join(ways) + _more()


def _what() -> str:
    limit = machine.limits()["memory_bytes"]
    return "the training process ran out of memory" + (f"; it may use {limit / 2**20:,.0f} MiB" if limit else "")


def _more() -> str:
    limited = machine.limits()["memory_bytes"]
    return "; or give it more: the job variable memory, in MiB" if limited else ""


def _planned(path: Path) -> plan.Plan | None:
    """The plan that was settled, None when the probe itself had no room."""
    return plan.load(path) if path.exists() else None
