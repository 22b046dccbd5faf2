"""How a run is opened: what is checked before the first step, the plan, and the run as its checkpoint has it."""

from __future__ import annotations

import contextlib

import numpy as np

from lmcore.models.network import Network
from lmcore.tokenizer import load_tokenizer
from lmcore.tokens import Loader, TokenBatch
from lmcore.tokens.meta import check_tokenizer
from lmcore.tokens.params import check_steps
from lmcore.train import curriculum, machine, memory, output, plan
from lmcore.train.board import Board
from lmcore.train.continued import take_up
from lmcore.train.contract import check_data, check_disk
from lmcore.train.horizon import Horizon, make_horizon, warmup_share
from lmcore.train.journal import Journal
from lmcore.train.params import Job
from lmcore.train.run import begin_or_resume
from lmcore.train.session import Session
from lmcore.train.start import first_weights
from lmcore.train.team import Team
from storage.atomic import write_json


def open_session(
    job: Job, team: Team, journal: Journal, board: Board, allocator: str, at_end: contextlib.ExitStack
) -> Session:
    """The run of `job`, new or taken up, and all it needs; what must be closed, or be told when it ends,
    is left to `at_end`.

    Raises UserError for settings that do not fit, RunError for data, a machine or a disk that do not.
    """
    params = job.params
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
    _tell_packing(job, loader, journal)
    check_data(job, loader)
    horizon = make_horizon(params, params.batch * params.model.context, loader.steps_per_epoch)
    if horizon.steps is not None:
        check_steps(params, horizon.steps)
    warmup = warmup_share(params, horizon)
    model = first_weights(job, tokenizer.vocab_size).train()
    model.within_documents = params.document_mask
    at_end.enter_context(memory.told(job, model, team.world))

    how = _settle(job, team, model, team.share(loader.batch(0)), horizon, journal, allocator)
    plan.apply(how, model)
    run = begin_or_resume(job, how, model, journal, team)
    run.steps_per_epoch = loader.steps_per_epoch
    if params.continues and not run.at.step:
        take_up(run, horizon)
    at_end.callback(run.settle)  # before another trainer may have the folder
    if team.leads:
        check_disk(run, horizon)
    journal.peak_share = output.utilisation(run, 1.0)
    return Session(run, board, loader, tokenizer, token_bytes, horizon, warmup)


def _tell_packing(job: Job, loader: Loader, journal: Journal) -> None:
    params, context = job.params, job.params.model.context
    if params.packing != "windows" or params.mixture or params.stages:
        journal.event("packing", f"training text: {loader.describe()}")
    if params.stage_names:
        journal.event("levels", curriculum.describe_levels(job))
    if params.document_mask and loader.longest < context:
        told = f"no document has more than {loader.longest:,} tokens: the model's context will not be learnt beyond"
        journal.event("short-documents", told, longest=loader.longest, context=context)


def _settle(
    job: Job, team: Team, model: Network, batch: TokenBatch, horizon: Horizon, journal: Journal, allocator: str
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
