"""The one training loop, top to bottom.

A run is a pure function of its settings, data, start and plan: the batch of a step depends on (seed, step) only, and a
checkpoint holds all else (weights, optimizer, random state, guard, history, seconds used). So a run that is killed
anywhere and started again ends with the same bytes. Looks at the validation split and samples draw on generators of
their own and change nothing.

Several processes (team.py) go through this loop side by side. Each takes its share of every batch; whatever decides
what comes next (the position, the stop, the guard's numbers) is exchanged and equal in all of them.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lmcore.models.decoder import Decoder
from lmcore.tokenizer import load_tokenizer
from lmcore.tokens import Loader, TokenBatch
from lmcore.tokens.meta import check_tokenizer
from lmcore.tokens.params import check_steps
from lmcore.train import looks, machine, output, plan
from lmcore.train.board import Board
from lmcore.train.continued import take_up
from lmcore.train.contract import check_data, check_disk
from lmcore.train.epochs import Epochs
from lmcore.train.guard import stands_still
from lmcore.train.history import due, every
from lmcore.train.horizon import Horizon, make_horizon, warmup_share
from lmcore.train.journal import Journal
from lmcore.train.loss import micro_loss
from lmcore.train.params import Job, check_processes
from lmcore.train.run import Run, begin_or_resume
from lmcore.train.schedule import lr_share
from lmcore.train.start import first_weights
from lmcore.train.step import MicroLoss, micro_batches, one_step
from lmcore.train.team import Team, Unheard
from storage.atomic import fault, write_json
from storage.locks import file_lock
from storage.text import printable


class Stopped(Exception):
    """Training stopped because it was told to; everything up to the last step is saved."""


def train(
    job: Job,
    *,
    stopped: Callable[[], bool] = lambda: False,
    allocator: str = "left as it is",
    team: Team | None = None,
) -> dict[str, Any]:
    """Train, or go on training, what `job` describes until its budget is used; leaves `work/out` and gives metrics.

    Every rank of `team` calls this; rank 0 alone writes files, and the others give no metrics. Raises Stopped after
    saving when `stopped` says so in any rank, UserError for wrong settings, RunError when the numbers diverge, the
    data do not fit, the disk refuses or another rank is gone.
    """
    params, runtime, work = job.params, job.runtime, job.work
    team = team or Team()
    check_processes(params, team.world)
    with (
        file_lock(work / "trainer.lock", lambda holder: print(f"waiting for trainer process {holder}", flush=True))
        if team.leads
        else contextlib.nullcontext(),
        Journal(work, runtime.log_every_seconds) if team.leads else Unheard() as journal,
        Board(work, on=runtime.tensorboard and team.leads) as board,
        contextlib.ExitStack() as at_end,
    ):
        team.join(runtime.device)
        tokenizer = load_tokenizer(job.tokenizer)
        token_bytes = tokenizer.byte_length(np.arange(tokenizer.vocab_size, dtype=np.uint32))  # (V,)
        loader = Loader(
            job.tokens,
            "train",
            batch=params.batch,
            context=params.model.context,
            seed=params.seed,
            tokenizer_bytes=token_bytes,
            settings=params,
        )
        check_tokenizer(job.tokens, tokenizer)
        if params.packing != "windows" or params.mixture or params.stages:
            journal.event("packing", f"training text: {loader.describe()}")
        if params.document_mask and loader.longest < params.model.context:
            told = f"no document has more than {loader.longest:,} tokens: the model's context will not be learnt beyond"
            journal.event("short-documents", told, longest=loader.longest, context=params.model.context)
        check_data(job, loader)
        horizon = make_horizon(params, params.batch * params.model.context, loader.steps_per_epoch)
        if horizon.steps is not None:
            check_steps(params, horizon.steps)
        warmup = warmup_share(params, horizon)
        model = first_weights(job, tokenizer.vocab_size).train()
        model.within_documents = params.document_mask

        how = _settle(job, team, model, team.share(loader.batch(0)), horizon, journal, allocator)
        plan.apply(how, model)
        run = begin_or_resume(job, how, model, journal, team)
        if params.continues and not run.at.step:
            take_up(run, horizon)
        at_end.callback(run.settle)  # before another trainer may have the folder
        at, history = run.at, run.history
        loss_of = _compiled(run, loader.batch(at.step + at.passed_over, at.stage_starts)) if how.compile else micro_loss
        journal.event("training", f"training for {horizon.describe()}, {at.progress:.0%} done", step=at.step)

        if team.leads:
            check_disk(run, horizon)
            if params.on_spike == "rewind" and not any((work / "checkpoints").glob("step-*")):
                run.save()  # what a first rewind goes back to

        early = params.early_stop if params.early_stop.patience else None
        validate_at = every(early.every if early else runtime.validate_every) if looks.can_validate(run) else ()
        passed = at.progress if at.step else -1.0  # a share of 0 is passed before the first step
        saved_step, saved_at = at.step, time.monotonic()
        epochs = Epochs(loader.steps_per_epoch, at.step)
        journal.peak_share = output.utilisation(run, 1.0)
        board.begin(at.step)
        while True:
            if due(validate_at, passed, at.progress):
                _tell_look(run, board, looks.validate(run, token_bytes))
                if early and team.most(team.leads and stands_still(run.looks()["bits_per_byte"].to_pylist(), early)):
                    at.ended = True
                    told = (
                        f"ended early: {early.patience} looks in a row without a gain of {early.min_delta:g} bits/byte"
                    )
                    journal.event("early-stop", told, step=at.step, progress=at.progress)
            if team.leads and due(runtime.sample_at, passed, at.progress):
                for prompt, text in looks.continue_prompts(run, tokenizer):
                    history.add("samples", step=at.step, progress=at.progress, prompt=prompt, text=text)
                    told = printable(f"sample: {prompt}{text}").replace("\n", " ")
                    journal.event("sample", told, step=at.step, progress=at.progress, prompt=prompt, continuation=text)
                    board.text("sample", at.step, f"{prompt}{text}")
            passed = at.progress

            finished, stopping, unsaved = (
                at.progress >= 1.0 or at.ended,
                bool(team.most(stopped())),
                at.step - saved_step,
            )
            by_steps = runtime.save_every_steps is not None and unsaved >= runtime.save_every_steps
            by_time = time.monotonic() - saved_at >= runtime.save_every_seconds
            if team.leads and unsaved and (finished or stopping or by_steps or by_time or run.must_save()):
                run.save()
                saved_step, saved_at = at.step, time.monotonic()
            if finished or stopping:
                run.settle()
            if finished:
                break
            if stopping:
                journal.event("stopped", f"stopped after step {at.step:,}; nothing is lost", step=at.step)
                team.wait()  # until rank 0 has saved: the first process that ends may take the others with it
                raise Stopped

            started = time.perf_counter()
            share = lr_share(
                horizon.middle(at.step, at.seconds),
                params.schedule,
                warmup=warmup,
                decay_share=params.decay_share,
                final=params.final_lr_share,
            )
            number = at.step + at.passed_over
            starts = loader.begun(at.stage_starts, at.progress, number)
            batch = loader.batch(number, starts)
            if starts != at.stage_starts:
                at.stage_starts = starts
                run.guard.begin_anew()
                told = f"stage {len(starts)} of {len(params.stages)} begins after step {at.step:,}"
                journal.event("stage", told, stage=len(starts), step=at.step)
                loss_of = _compiled(run, batch) if how.compile else micro_loss  # its rows may have another length
                started = time.perf_counter()
            share *= run.guard.rates * loader.lr_factor(starts)
            team.seed(params.seed, at.step)
            loss, bits, norm, admitted = one_step(run, batch, share, loss_of)
            if run.guard.wants_rewind:
                spiked = at.step + 1
                run.rewind()
                at, history, epochs = run.at, run.history, Epochs(loader.steps_per_epoch, run.at.step)
                told = f"step {spiked}: loss {loss:.3f} is a spike; back to step {at.step}, passing over the data since"
                journal.event("rewound", told, step=at.step, spike=spiked, passed_over=at.passed_over)
                board.begin(at.step)
                passed, saved_step, saved_at = at.progress if at.step else -1.0, at.step, time.monotonic()
                continue
            if not admitted:
                lower = f"; learning rates times {run.guard.rates:g}" if run.guard.rates < 1 else ""
                told = f"step {at.step + 1} skipped: loss {loss}, gradient norm {norm}{lower}"
                journal.event("skipped", told, step=at.step + 1, loss=loss, grad_norm=norm)
            if admitted and run.guard.newly_trivial:
                told = "the loss is next to nothing: the text repeats itself, or the model knows it by heart"
                journal.event("trivial-loss", told, step=at.step + 1, loss=loss)
            machine.synchronize(how.device)
            took, tokens = team.most(time.perf_counter() - started), batch.ids.numel()

            at.step += 1
            at.tokens += tokens
            at.seconds += took
            at.progress = max(at.progress, horizon.progress(at.step, at.seconds))
            if team.leads:
                history.add(
                    "metrics",
                    step=at.step,
                    tokens=at.tokens,
                    progress=at.progress,
                    loss=loss,
                    bits_per_byte=bits,
                    lr=params.lr * share,
                    grad_norm=norm,
                    skipped=not admitted,
                )
                history.add("timings", step=at.step, seconds=took, tokens_per_second=tokens / took)
            fault("train.step")
            journal.step(
                {
                    "step": at.step,
                    "progress": at.progress,
                    "tokens": at.tokens,
                    "seconds": at.seconds,
                    "loss": loss,
                    "bits_per_byte": bits,
                    "lr": params.lr * share,
                    "grad_norm": norm,
                    "memory_mib": round(machine.peak_memory(how.device) / 2**20, 1),
                    "eta_seconds": horizon.left(at.step, at.seconds),
                },
                tokens,
                took,
                last=at.progress >= 1.0,
            )
            curves = {"loss": loss, "bits_per_byte": bits, "lr": params.lr * share, "grad_norm": norm}
            board.scalars("train", at.step, curves | {"tokens_per_second": tokens / took})
            if team.leads:
                epochs.tell(run)

        board.close()
        fault("train.before-out")
        metrics = output.write(run) if team.leads else {}
        team.wait()
        return metrics


def _tell_look(run: Run, board: Board, look: looks.Look) -> None:
    """Record and tell a look at the validation split."""
    at, whole = run.at, look.whole
    figures = {"bits_per_byte": whole.bits_per_byte, "loss": whole.loss, "accuracy": whole.accuracy}
    if run.team.leads:
        run.history.add("validation", step=at.step, progress=at.progress, **figures)
    told = f"validation: {whole.bits_per_byte:.4f} bits/byte, "
    told += f"perplexity {whole.perplexity:.4g}, {whole.accuracy:.1%} right"
    by_source = {}
    for source, found in look.by_source.items():
        values = {"bits_per_byte": found.bits_per_byte, "loss": found.loss, "accuracy": found.accuracy}
        if run.team.leads:
            run.history.add("sources", step=at.step, progress=at.progress, source=source, tokens=found.tokens, **values)
        if math.isfinite(found.bits_per_byte):  # its tokens in this look may stand for no bytes
            by_source[source] = found.bits_per_byte
        board.scalars(f"validation/{source}", at.step, values)
    if len(by_source) > 1:
        told += " (" + ", ".join(f"{source} {bits:.4f}" for source, bits in by_source.items()) + ")"
    more = {"perplexity": whole.perplexity, "by_source": by_source}
    # No line but one of a step has a `loss`: whoever reads them tells them apart by it.
    more |= {"bits_per_byte": whole.bits_per_byte, "accuracy": whole.accuracy}
    run.journal.event("validation", told, step=at.step, **more)
    board.scalars("validation", at.step, figures | {"perplexity": whole.perplexity})


def _settle(
    job: Job, team: Team, model: Decoder, batch: TokenBatch, horizon: Horizon, journal: Journal, allocator: str
) -> plan.Plan:
    """The plan in the work folder, made by a probe when there is none; `batch` is this rank's share of one."""
    path = job.work / "plan.json"
    how = plan.load(path)
    if team.most(how is None):  # asked of all, so that all have looked before one writes
        journal.event("probe", "probing this machine")
        how = plan.probe(
            model,
            batch,
            job.params,
            job.runtime,
            allocator=allocator,
            run_seconds=horizon.length,
            processes=team.world,
        )
        if team.leads:
            write_json(path, how.model_dump(mode="json"))
        journal.event("plan", "\n".join(["the plan of this run:", *how.lines()]), plan=how.model_dump(mode="json"))
        team.wait()
        how = how if team.leads else plan.load(path)  # each timed the machine a little differently
    assert how is not None
    if how.processes != team.world:
        text = f"begun with {how.processes} processes, goes on with {team.world}: from here on sums round differently"
        how = plan.for_processes(how, team.world, job.runtime)
        if team.leads:
            write_json(path, how.model_dump(mode="json"))
        journal.event("processes", text, processes=team.world)
    cores = machine.usable_cores()
    if how.device == "cpu" and team.world > cores:
        journal.event(
            "too-many-processes",
            f"{team.world} training processes take turns on {cores} cores: {cores} would be faster",
            processes=team.world,
            cores=cores,
        )
    return how


def _compiled(run: Run, batch: TokenBatch) -> MicroLoss:
    """`micro_loss` compiled, and warmed up so that compilation is not counted as training."""
    loss_of = torch.compile(micro_loss)
    parts = micro_batches(run, batch)
    with torch.random.fork_rng():  # dropout must not draw from the run's random numbers here
        for micro in (parts[0], parts[-1], parts[0]):  # again, because the first pass fills caches that are looked at
            total, _ = loss_of(run.model, micro.to(run.plan.device))
            total.backward()  # type: ignore[no-untyped-call]
    run.model.zero_grad(set_to_none=True)
    return loss_of
