"""A run between two steps: everything a checkpoint holds, saved and taken up again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from lmcore.models.network import Network
from lmcore.tokens.meta import train_digest
from lmcore.train import checkpoint
from lmcore.train.guard import Guard
from lmcore.train.history import History
from lmcore.train.journal import Journal
from lmcore.train.optim import Optimizer, trainable
from lmcore.train.params import Job
from lmcore.train.plan import Plan
from lmcore.train.scale import LossScale
from lmcore.train.team import Team
from storage.digest import digest_json
from storage.errors import RunError


@dataclass
class Position:
    """How far a run is. The next batch depends on the step and on what was passed over alone."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0  # spent inside steps
    progress: float = 0.0  # share of the budget used; the schedule's position
    passed_over: int = 0  # batches that rewinds left out: step s reads batch s + passed_over
    begun: int = 0  # the steps of the run that this one continues
    stage_starts: list[int] = field(default_factory=lambda: [0])  # numbers of the batches that the stages began with
    begins: list[float] = field(default_factory=list)  # where stages ended early: the shares that the stages begin with
    stages_done: int = 0  # named stages that have ended
    ended: bool = False  # before the budget was used, because the validation split no longer gained


@dataclass
class Run:
    """One training run in memory."""

    job: Job
    plan: Plan
    model: Network
    optimizer: Optimizer
    journal: Journal
    at: Position
    guard: Guard
    history: History
    team: Team = field(default_factory=Team)
    scale: LossScale | None = None  # of fp16
    data: str = ""  # digest of the training text
    steps_per_epoch: int = 0
    writing: checkpoint.Writing | None = None  # the checkpoint that a thread is writing
    written: dict[str, Any] = field(default_factory=dict)  # its position

    @property
    def timed_steps(self) -> int:
        """Steps that `at.seconds` were spent in: also those that rewinds took back, but for the spikes."""
        return self.at.step + self.at.passed_over - self.guard.rewinds

    def looks(self) -> pa.Table:
        """The looks at the validation split, without those of the run that this one continues."""
        looks = self.history.table("validation")
        return looks.filter(pc.greater(looks["step"], self.at.begun)) if self.at.begun else looks

    def must_save(self) -> bool:
        """True when a checkpoint of this very step is to be kept: the best so far, one of every n, or for a rewind."""
        return self._protects()(self.at.step)

    def rewind(self) -> None:
        """Go back to the last checkpoint of `rewind_every`, pass over the data since, and forget the way that is left.

        The target follows from settings alone, and what is kept on the disk is only what came before it: a run that
        is killed after this meets the same spike again and goes the same way. RunError at the eleventh time.
        """
        self.settle()
        folder, live, guard = self.job.work / "checkpoints", Position(**asdict(self.at)), self.guard
        target = self._rewind_point(live.step)
        snapshot = self.team.first(lambda: checkpoint.load_step(folder, target))
        restore(self, snapshot)
        self.at.seconds = live.seconds
        if self.job.params.minutes is not None:
            self.at.progress = live.progress  # the time is used, and a schedule never goes back
        self.at.passed_over = live.passed_over + live.step + 1 - target
        self.guard.rewound(guard)
        if self.team.leads:
            checkpoint.drop_after(folder, target)

    def save(self) -> None:
        """Write a checkpoint, or begin to. StorageError when the disk refuses; the ones before are kept."""
        self.settle()
        self.journal.doing("checkpoint")
        state = {
            "position": asdict(self.at),
            "guard": self.guard.state(),
            "random": random_state(),
            "settings": _settings(self.job),
            "params": self.job.params.key_values(),
            "data": self.data,
            "steps_per_epoch": self.steps_per_epoch,
        }
        if self.scale is not None:
            state["scale"] = self.scale.state()
        weights: dict[str, Tensor] = dict(trainable(self.model))
        snapshot = checkpoint.Snapshot(self.at.step, weights, self.optimizer.tensors(), self.history.tables(), state)
        runtime, protects = self.job.runtime, self._protects()

        def write(snapshot: checkpoint.Snapshot) -> None:
            checkpoint.save(self.job.work / "checkpoints", snapshot, runtime.keep_checkpoints, protects)

        with self.optimizer.averaged():  # model.safetensors has what the run would leave
            self.written = asdict(self.at)
            if runtime.save_async:
                copied = snapshot.copied()
                self.writing = checkpoint.Writing(lambda: write(copied))
                return
            write(snapshot)
        self._tell_saved()

    def settle(self) -> None:
        """Return when the checkpoint that a thread writes is on the disk. StorageError when the disk refused."""
        if self.writing is not None:
            writing, self.writing = self.writing, None
            writing.wait()
            self._tell_saved()

    def _tell_saved(self) -> None:
        told = {name: self.written[name] for name in ("step", "tokens", "seconds", "progress")}
        self.journal.event("checkpoint", f"saved at step {told['step']:,}", **told)

    def best(self) -> int | None:
        """The step of the look with the fewest bits per byte, where keep_best asks for it; the first of equal ones."""
        if not self.job.runtime.keep_best or not (looks := self.looks()).num_rows:
            return None
        bits = looks["bits_per_byte"].to_pylist()
        return int(looks["step"][bits.index(min(bits))].as_py())

    def _rewind_point(self, step: int) -> int:
        return max(self.at.begun, step - step % self.job.params.rewind_every)

    def _protects(self) -> Callable[[int], bool]:
        best, every = self.best(), self.job.runtime.keep_every_steps
        rewinds, point = self.job.params.on_spike == "rewind", self._rewind_point(self.at.step)
        return lambda step: step == best or (every is not None and step % every == 0) or (rewinds and step == point)


def new_run(job: Job, plan: Plan, model: Network, journal: Journal, team: Team) -> Run:
    """A run at step 0 with the weights that `model` has, of no text yet."""
    torch.manual_seed(job.params.seed)
    # Muon in fp16 would lose what is small against the largest.
    optimizer = Optimizer(model, job.params, torch.float32 if plan.precision == "fp16" else plan.dtype)
    scale = LossScale() if plan.precision == "fp16" else None
    guard = make_guard(job, model)
    return Run(job, plan, model, optimizer, journal, Position(), guard, History(), team, scale)


def begin_or_resume(job: Job, plan: Plan, model: Network, journal: Journal, team: Team) -> Run:
    """The run as its newest whole checkpoint has it, or at step 0 with the weights that `model` has.

    Every rank reads the same files, whichever number of ranks wrote them. Raises RunError when the checkpoint belongs
    to other settings or another text.
    """
    run = new_run(job, plan, model, journal, team)
    run.data = train_digest(job.tokens)
    folder = job.work / "checkpoints"
    # Rank 0 first: it sets aside what is damaged.
    snapshot = team.first(
        lambda: checkpoint.load_newest(folder, lambda text: journal.event("checkpoint-damaged", text))
    )
    step = snapshot.step if snapshot else 0
    if not team.most(step) == step == -team.most(-step):
        raise RunError(f"the training processes read different checkpoints in {folder}", "run again to continue")
    if snapshot is None:
        return run
    state = snapshot.state
    if state["settings"] != _settings(job):
        raise RunError(f"{folder} belongs to a run with other settings", f"remove {job.work}, or use the old settings")
    if state.get("data", run.data) != run.data:
        raise RunError(f"{folder} belongs to a run on another text", f"remove {job.work}, or use the old tokens")
    restore(run, snapshot)
    journal.event("resumed", f"resuming at step {run.at.step:,}, {run.at.progress:.0%} done", step=run.at.step)
    return run


def restore(run: Run, snapshot: checkpoint.Snapshot) -> None:
    """Make `run` what it was when `snapshot` was taken."""
    state = snapshot.state
    with torch.no_grad():
        for name, parameter in trainable(run.model).items():
            parameter.copy_(snapshot.model[name])
    run.optimizer.load(snapshot.optimizer)
    set_random_state(state["random"])
    if run.scale is not None:
        run.scale = LossScale(**state.get("scale", {}))  # a run in another format had none
    run.at = Position(**state["position"])
    run.guard = make_guard(run.job, run.model, state["guard"])
    run.history = History(snapshot.tables)


def make_guard(job: Job, model: Network, state: Mapping[str, Any] | None = None) -> Guard:
    """The guard of a run, as its `state` was or at its begin."""
    return Guard(**(state or {}), guessing=math.log(model.vocab_size), rules=job.params)


def _settings(job: Job) -> str:
    return digest_json(job.params.key_values())


def random_state() -> dict[str, Any]:
    """Where torch's random numbers of this process are, as plain JSON."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": _hex(torch.get_rng_state()), "cuda": [_hex(state) for state in cuda]}


def set_random_state(state: dict[str, Any]) -> None:
    """Go on drawing from where `random_state` was taken."""
    torch.set_rng_state(_unhex(state["cpu"]))
    for device, text in enumerate(state["cuda"][: torch.cuda.device_count()]):  # another machine may have fewer
        torch.cuda.set_rng_state(_unhex(text), device)


def _hex(state: Tensor) -> str:
    return state.numpy().tobytes().hex()


def _unhex(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
