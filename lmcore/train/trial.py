"""One real optimizer step of a training, on random tokens: `python -m lmcore.train.trial TRIAL.json`.

A process of its own, so that its memory is given back. The step is the trainer's: the same model, plan, optimizer and
`one_step`, at the full shape. Exit codes and `work/error.json` are the trainer's; the result is `work/trial.json`.
"""

from __future__ import annotations

import ctypes
import math
import resource
import signal
import sys
import time
from pathlib import Path

from pydantic import Field

from lmcore.config import Settings
from lmcore.train.allocator import raise_thresholds, sleep_at_barriers
from lmcore.train.params import TrainParams, TrainRuntime
from storage.atomic import write_json
from storage.errors import CollectTrainError

RESULT = "trial.json"
_PR_SET_PDEATHSIG = 1  # prctl(2): the kernel sends this signal when the parent dies


class Trial(Settings):
    """What is tried."""

    work: Path = Field(description="Folder for the result.")
    vocab_size: int = Field(ge=2, description="Tokens in the vocabulary.")
    memory: int | None = Field(None, description="Bytes it may take: beyond, it fails, and nothing else has to.")
    params: TrainParams
    runtime: TrainRuntime


class Tried(Settings):
    """What a step took."""

    seconds: float  # of the step, whose optimizer makes its state
    peak_memory: int  # bytes that the process has held on its device, torch itself included
    predicted_memory: int  # bytes, by the ledger under the plan that was settled
    loss: float  # nats a token, before the step
    uniform_loss: float  # of a model that knows nothing: ln V
    parameters: int
    admitted: bool  # the numbers were finite, and the weights have changed
    plan: list[str]  # how it was computed, in words


def try_step(trial: Trial, allocator: str = "left as it is") -> Tried:
    """Make one step. RunError where even one sequence does not fit into memory."""
    from lmcore.models import build
    from lmcore.models.lora import add_adapters
    from lmcore.train import machine, memory, plan
    from lmcore.train.journal import Journal
    from lmcore.train.params import Job
    from lmcore.train.predict import predict
    from lmcore.train.run import new_run
    from lmcore.train.speed import random_batch
    from lmcore.train.step import one_step
    from lmcore.train.team import Team

    params, work = trial.params, trial.work
    job = Job(work=work, tokens=work, tokenizer=work, params=params, runtime=trial.runtime)
    with Journal(work, 0.0) as journal:
        model = build(params.model, trial.vocab_size, params.seed).train()
        parameters = model.ledger().total
        if params.lora:
            add_adapters(model, params.lora, params.seed)
        model.within_documents = params.document_mask
        with memory.told(job, model, 1):
            batch = random_batch(params, trial.vocab_size)
            how = plan.probe(model, batch, params, trial.runtime, allocator=allocator, run_seconds=lambda _: 0.0)
            plan.apply(how, model)
            run = new_run(job, how, model, journal, Team())
            started = time.perf_counter()
            loss, _, _, admitted = one_step(run, batch, 1.0)
            machine.synchronize(how.device)
            seconds = time.perf_counter() - started
    return Tried(
        seconds=seconds,
        peak_memory=machine.peak_memory(how.device),
        predicted_memory=predict(model.ledger(), params, run.plan, seconds, None).memory_bytes,
        loss=loss,
        uniform_loss=math.log(trial.vocab_size),
        parameters=parameters,
        admitted=admitted,
        plan=run.plan.lines(),
    )


def main(path: str) -> int:
    """Try what a file says and leave the result; the exit code."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    trial = Trial.model_validate_json(Path(path).read_bytes())
    sleep_at_barriers()
    allocator = raise_thresholds()
    if trial.memory is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = trial.memory if soft == resource.RLIM_INFINITY else min(trial.memory, soft)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        from lmcore.train import machine, memory

        try:
            tried = try_step(trial, allocator)
        except (MemoryError, RuntimeError) as error:
            if not machine.is_out_of_memory(error):
                raise
            raise memory.untold() from error
    except CollectTrainError as error:
        write_json(trial.work / "error.json", {"what": error.what, "mend": error.mend, "exit_code": error.exit_code})
        return error.exit_code
    write_json(trial.work / RESULT, tried.model_dump(mode="json"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
