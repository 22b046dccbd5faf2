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
from collections.abc import Callable
from typing import Any

from lmcore.train import output
from lmcore.train.board import Board
from lmcore.train.journal import Journal
from lmcore.train.opening import open_session
from lmcore.train.params import Job, check_processes
from lmcore.train.team import Team, Unheard
from storage.atomic import fault
from storage.locks import file_lock


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
    data do not fit, memory or disk refuse or another rank is gone.
    """
    runtime, work = job.runtime, job.work
    team = team or Team()
    check_processes(job.params, team.world)
    with (
        file_lock(work / "trainer.lock", lambda holder: print(f"waiting for trainer process {holder}", flush=True))
        if team.leads
        else contextlib.nullcontext(),
        Journal(work, runtime.log_every_seconds) if team.leads else Unheard() as journal,
        Board(work, on=runtime.tensorboard and team.leads) as board,
        contextlib.ExitStack() as at_end,
    ):
        team.join(runtime.device)
        session = open_session(job, team, journal, board, allocator, at_end)
        run = session.run
        session.begin()
        while True:
            session.look()
            session.judge_stage()
            session.sample()
            finished, stopping = session.finished, bool(team.most(stopped()))
            session.save_if_due(last=finished or stopping)
            if finished:
                break
            if stopping:
                journal.event("stopped", f"stopped after step {run.at.step:,}; nothing is lost", step=run.at.step)
                team.wait()  # until rank 0 has saved: the first process that ends may take the others with it
                raise Stopped
            session.step()

        board.close()
        fault("train.before-out")
        metrics = output.write(run) if team.leads else {}
        team.wait()
        return metrics
