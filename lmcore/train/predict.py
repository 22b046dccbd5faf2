"""What a training will take, from its plan: time, memory and the file that it leaves. And what it then took.

`params` shows the prediction before anything runs; a finished run has it beside the measurement, under the same names,
in `provenance/training.json` and on the report page.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from lmcore.models.ledger import Ledger
from lmcore.models.lora import adapter_parameters
from lmcore.train import TORCH_BYTES, machine
from lmcore.train.horizon import Horizon
from lmcore.train.params import TrainParams
from lmcore.train.plan import Plan

if TYPE_CHECKING:
    from lmcore.train.run import Run


@dataclass(frozen=True)
class Costs:
    """What a training takes; seconds and bytes. Memory is that of one process, torch itself included."""

    step_seconds: float
    tokens_per_second: float
    memory_bytes: int
    file_bytes: int  # of model.safetensors, the header of about a kilobyte left out of a prediction
    steps: int | None = None  # None where the budget is in epochs of a text that is not there yet
    seconds: float | None = None

    def to_json(self) -> dict[str, float | int | None]:
        """Plain JSON."""
        return asdict(self)


def predict(ledger: Ledger, params: TrainParams, plan: Plan, step_seconds: float, horizon: Horizon | None) -> Costs:
    """The costs under a plan, when a step takes `step_seconds`."""
    memory = ledger.training_memory(
        min(plan.micro_batch, params.batch),
        optimizer=params.optimizer,
        stream_dtype=plan.dtype,
        attention=plan.attention,
        recompute=plan.activation_checkpointing,
        adapters=adapter_parameters(params.model, params.lora) if params.lora else None,
    )
    seconds = None if horizon is None else horizon.length(step_seconds)
    return Costs(
        step_seconds=step_seconds,
        tokens_per_second=params.batch * params.model.context / step_seconds,
        memory_bytes=memory["total"] + TORCH_BYTES,
        file_bytes=ledger.bytes(),
        steps=None if seconds is None else round(seconds / step_seconds),
        seconds=seconds,
    )


def predicted(run: Run) -> Costs:
    """What a run's plan promised. Its probe times forward and backward alone, so the optimizer comes on top."""
    params, at = run.job.params, run.at
    if params.minutes is not None:
        horizon = Horizon(seconds=60 * params.minutes)
    else:
        horizon = Horizon(steps=max(1, round(at.step / at.progress)))  # an early stop used a part of them
    return predict(run.model.ledger(), params, run.plan, run.plan.step_seconds, horizon)


def measured(run: Run, model_file: Path) -> Costs:
    """What a run that has ended took. A step is the median one, the speed that of the whole run."""
    at = run.at
    return Costs(
        step_seconds=median(run.history.table("timings")["seconds"].to_pylist()),
        tokens_per_second=at.tokens / at.seconds,
        memory_bytes=machine.peak_memory(run.plan.device),
        file_bytes=model_file.stat().st_size,
        steps=at.step,
        seconds=at.seconds,
    )
