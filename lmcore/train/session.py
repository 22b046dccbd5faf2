"""A run as one process trains it: the batches that come next, the looks, the saves, and what a rewind takes back.

What must be the same after a resume is in `run` (and its checkpoints). The rest here hangs on where the run is, and is
set in one place, `_take_up`: when the process begins and when a rewind has gone back.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lmcore.tokenizer import Tokenizer
from lmcore.tokens import Loader
from lmcore.train import looks, machine, milestones
from lmcore.train.board import Board
from lmcore.train.curriculum import Curriculum
from lmcore.train.epochs import Epochs
from lmcore.train.guard import stands_still
from lmcore.train.history import due, every
from lmcore.train.horizon import Horizon
from lmcore.train.loss import micro_loss
from lmcore.train.run import Run
from lmcore.train.schedule import lr_share
from lmcore.train.step import MicroLoss, compiled, one_step
from storage.atomic import fault


@dataclass
class Session:
    """A run that is open in this process; made by `opening.open_session`."""

    run: Run
    board: Board
    loader: Loader
    tokenizer: Tokenizer
    token_bytes: npt.NDArray[np.integer]  # (V,): bytes that each token stands for
    horizon: Horizon
    warmup: float  # share of the budget
    loss_of: MicroLoss = micro_loss
    _looks_at: tuple[float, ...] = ()  # shares of the budget
    _validates: bool = False
    _passed: float = -1.0  # share of the budget up to which looks and samples are done
    _saved_step: int = 0
    _saved_at: float = 0.0
    _epochs: Epochs = field(init=False)
    _curriculum: Curriculum | None = None

    def begin(self) -> None:
        """Get ready for the first step of this process; rank 0 leaves what a first rewind goes back to."""
        run, params = self.run, self.run.job.params
        self._warm_up()
        told = f"training for {self.horizon.describe()}, {run.at.progress:.0%} done"
        run.journal.event("training", told, step=run.at.step)
        if run.team.leads and params.on_spike == "rewind" and not any((run.job.work / "checkpoints").glob("step-*")):
            run.save()
        self._validates = looks.can_validate(run)
        if self._validates:
            self._looks_at = self._cadence()
        if params.stage_names:
            self._curriculum = Curriculum(run, self.loader, self.horizon, self.token_bytes, validates=self._validates)
        self._take_up()

    @property
    def finished(self) -> bool:
        """True when the budget is used, or early stopping has ended the run."""
        return self.run.at.progress >= 1.0 or self.run.at.ended

    def look(self) -> None:
        """Look at the validation split when it is time to, and end the run where that asks for it."""
        run, early = self.run, self.run.job.params.early_stop
        at, team, epoch = run.at, run.team, self._epoch_ended()
        is_due = due(self._looks_at, self._passed, at.progress) or self._look_by_step()
        found = looks.validate(run, self.token_bytes) if is_due or (epoch and self._validates) else None
        if found and (is_due or not early.patience):  # early stopping counts its own looks alone
            looks.tell(run, self.board, found)
        if epoch:
            fit = looks.fit(run, self.token_bytes)
            looks.tell_epoch(run, self.board, epoch, fit, found.whole if found else None)
        if not is_due:
            return
        if early.patience and team.most(team.leads and stands_still(run.looks()["bits_per_byte"].to_pylist(), early)):
            at.ended = True
            told = f"ended early: {early.patience} looks in a row without a gain of {early.min_delta:g} bits/byte"
            run.journal.event("early-stop", told, step=at.step, progress=at.progress)

    def judge_stage(self) -> None:
        """Look at the stage of a curriculum, and end it, when it is time to."""
        if self._curriculum:
            self._curriculum.attend(self._passed)

    def sample(self) -> None:
        """Continue the recipe's prompts when it is time to; the last that is done at a share of the budget."""
        run = self.run
        is_due = due(run.job.runtime.sample_at, self._passed, run.at.progress) or self._epoch_ended()
        if run.team.leads and is_due:
            looks.tell_samples(run, self.board, looks.continue_prompts(run, self.tokenizer))
        self._passed = run.at.progress

    def save_if_due(self, *, last: bool) -> None:
        """Save when a cadence asks for it; at the `last` in any case, and return when that is on the disk."""
        run, runtime = self.run, self.run.job.runtime
        if run.team.leads:
            milestones.take_if_due(run)  # before the checkpoint: who resumes from that has the milestone
        unsaved = run.at.step - self._saved_step
        by_steps = runtime.save_every_steps is not None and unsaved >= runtime.save_every_steps
        by_time = time.monotonic() - self._saved_at >= runtime.save_every_seconds
        if run.team.leads and unsaved and (last or by_steps or by_time or run.must_save()):
            run.save()
            self._saved_step, self._saved_at = run.at.step, time.monotonic()
        if last:
            run.settle()

    def step(self) -> None:
        """Make the next step, or go back where its loss is a spike that asks for it."""
        run, params, horizon = self.run, self.run.job.params, self.horizon
        at, guard = run.at, run.guard
        number = at.step + at.passed_over
        self._begin_stage(number)

        started = time.perf_counter()
        batch = self.loader.batch(number, at.stage_starts)
        share = lr_share(
            horizon.middle(at.step, at.seconds, run.timed_steps),
            params.schedule,
            warmup=self.warmup,
            decay_share=params.decay_share,
            final=params.final_lr_share,
        )
        share *= guard.rates * self.loader.lr_factor(at.stage_starts)
        run.team.seed(params.seed, at.step)
        loss, bits, norm, admitted = one_step(run, batch, share, self.loss_of)
        if guard.wants_rewind:
            self._rewind(loss)
            return
        machine.synchronize(run.plan.device)
        took = run.team.most(time.perf_counter() - started)
        self._tell_guard(loss, norm, admitted)

        at.step += 1
        at.tokens += batch.ids.numel()
        at.seconds += took
        at.progress = max(at.progress, horizon.progress(at.step, at.seconds))
        numbers = {"loss": loss, "bits_per_byte": bits, "lr": params.lr * share, "grad_norm": norm}
        self._record(numbers, batch.ids.numel(), took, skipped=not admitted)

    def _cadence(self) -> tuple[float, ...]:
        """Shares of the budget at which quick looks are due, beside those that steps ask for."""
        early, runtime = self.run.job.params.early_stop, self.run.job.runtime
        if early.patience:
            return every(early.every)
        return every(runtime.validate_every) if runtime.validate_every_steps is None else (1.0,)

    def _look_by_step(self) -> bool:
        """Whether `validate_every_steps` asks for a look at this step; False once it was there."""
        at, n = self.run.at, self.run.job.runtime.validate_every_steps
        if n is None or not self._validates or self.run.job.params.early_stop.patience:
            return False
        return not at.step % n and at.progress > self._passed

    def _epoch_ended(self) -> int:
        """The number of the epoch that the last step has ended, where `each_epoch` asks; 0 in between, or once told."""
        at, length = self.run.at, self.loader.steps_per_epoch
        if not self.run.job.runtime.each_epoch or at.step % length or at.progress <= self._passed:
            return 0
        return at.step // length

    def _take_up(self) -> None:
        """Set all that hangs on where the run is."""
        at = self.run.at
        if self.run.team.leads:
            milestones.drop_after(self.run.job.work, at.step)
        self.board.begin(at.step)
        self._epochs = Epochs(self.loader.steps_per_epoch, at.step)
        self._passed = at.progress if at.step else -1.0  # a share of 0 is passed before the first step
        self._saved_step, self._saved_at = at.step, time.monotonic()

    def _warm_up(self) -> None:
        """Compile for the rows of the batch that comes next, where the plan says so."""
        at = self.run.at
        if self.run.plan.compile:
            self.loss_of = compiled(self.run, self.loader.batch(at.step + at.passed_over, at.stage_starts))

    def _begin_stage(self, number: int) -> None:
        """Begin the stage that batch `number` is the first of, if there is one."""
        run = self.run
        at, stages = run.at, len(run.job.params.stages)
        starts = self.loader.begun(at.stage_starts, at.progress, number, self.horizon.steps, at.begins)
        if starts == at.stage_starts:
            return
        at.stage_starts = starts
        run.guard.begin_anew()
        name = run.job.params.stages[len(starts) - 1].name
        told = f"stage {len(starts)} of {stages}{f', {name},' if name else ''} begins after step {at.step:,}"
        run.journal.event("stage", told, stage=len(starts), step=at.step)
        self._warm_up()  # its rows may have another length

    def _rewind(self, loss: float) -> None:
        """Go back from the step that comes next, whose `loss` is a spike."""
        run, spiked, stages = self.run, self.run.at.step + 1, len(self.run.at.stage_starts)
        run.rewind()
        at = run.at
        told = f"step {spiked}: loss {loss:.3f} is a spike; back to step {at.step}, passing over the data since"
        run.journal.event("rewound", told, step=at.step, spike=spiked, passed_over=at.passed_over)
        if len(at.stage_starts) != stages:
            self._warm_up()
        self._take_up()

    def _tell_guard(self, loss: float, norm: float, admitted: bool) -> None:
        """Say what the guard found in the step that was just made."""
        run, step = self.run, self.run.at.step + 1
        if not admitted:
            lower = f"; learning rates times {run.guard.rates:g}" if run.guard.rates < 1 else ""
            told = f"step {step} skipped: loss {loss}, gradient norm {norm}{lower}"
            run.journal.event("skipped", told, step=step, loss=loss, grad_norm=norm)
        elif run.guard.newly_trivial:
            told = "the loss is next to nothing: the text repeats itself, or the model knows it by heart"
            run.journal.event("trivial-loss", told, step=step, loss=loss)

    def _record(self, numbers: dict[str, float], tokens: int, took: float, *, skipped: bool) -> None:
        """Note and tell a step that is done: its `numbers`, tokens and seconds."""
        run = self.run
        at, speed = run.at, tokens / took
        where = {"step": at.step, "tokens": at.tokens, "progress": at.progress}
        if run.team.leads:
            run.history.add("metrics", **where, **numbers, skipped=skipped)
            run.history.add("timings", step=at.step, seconds=took, tokens_per_second=speed)
        fault("train.step")
        line = {
            **where,
            "seconds": at.seconds,
            **numbers,
            "memory_mib": round(machine.peak_memory(run.plan.device) / 2**20, 1),
            "eta_seconds": self.horizon.left(at.step, at.seconds, run.timed_steps),
        }
        run.journal.step(line, tokens, took, last=at.progress >= 1.0)
        self.board.scalars("train", at.step, numbers | {"tokens_per_second": speed})
        if run.team.leads:
            self._epochs.tell(run)
