"""A run between two steps: everything a checkpoint holds, saved and taken up again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from lmcore.models.decoder import Decoder
from lmcore.train import checkpoint
from lmcore.train.guard import Guard
from lmcore.train.history import History
from lmcore.train.journal import Journal
from lmcore.train.optim import Optimizer
from lmcore.train.params import Job
from lmcore.train.plan import Plan
from lmcore.train.team import Team
from storage.digest import digest_json
from storage.errors import RunError


@dataclass
class Position:
    """How far a run is. The step is also the loader's position: the next batch depends on it alone."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0  # spent inside steps
    progress: float = 0.0  # share of the budget used; the schedule's position


@dataclass
class Run:
    """One training run in memory."""

    job: Job
    plan: Plan
    model: Decoder
    optimizer: Optimizer
    journal: Journal
    at: Position
    guard: Guard
    history: History
    team: Team = field(default_factory=Team)
    writing: checkpoint.Writing | None = None  # the checkpoint that a thread is writing
    written: dict[str, Any] = field(default_factory=dict)  # its position

    def must_save(self) -> bool:
        """True when a checkpoint of this very step is to be kept: the best so far, or one of every n."""
        every = self.job.runtime.keep_every_steps
        return (every is not None and self.at.step % every == 0) or self._best() == self.at.step

    def save(self) -> None:
        """Write a checkpoint, or begin to. StorageError when the disk refuses; the ones before are kept."""
        self.settle()
        self.journal.doing("checkpoint")
        state = {
            "position": asdict(self.at),
            "guard": self.guard.state(),
            "random": _random_state(),
            "settings": _settings(self.job),
        }
        weights: dict[str, Tensor] = dict(self.model.named_parameters())
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
        self.journal.event("checkpoint", f"saved at step {self.written['step']:,}", **self.written)

    def _best(self) -> int | None:
        """The step of the look with the fewest bits per byte, where keep_best asks for it; the first of equal ones."""
        looks = self.history.table("validation")
        if not self.job.runtime.keep_best or not looks.num_rows:
            return None
        bits = looks["bits_per_byte"].to_pylist()
        return int(looks["step"][bits.index(min(bits))].as_py())

    def _protects(self) -> Callable[[int], bool]:
        best, every = self._best(), self.job.runtime.keep_every_steps
        return lambda step: step == best or (every is not None and step % every == 0)


def begin_or_resume(job: Job, plan: Plan, model: Decoder, journal: Journal, team: Team) -> Run:
    """The run as its newest whole checkpoint has it, or at step 0 with the weights that `model` has.

    Every rank reads the same files, whichever number of ranks wrote them. Raises RunError when the checkpoint belongs
    to other settings.
    """
    torch.manual_seed(job.params.seed)
    optimizer = Optimizer(model, job.params, plan.dtype)
    folder = job.work / "checkpoints"
    # Rank 0 first: it sets aside what is damaged.
    snapshot = team.first(
        lambda: checkpoint.load_newest(folder, lambda text: journal.event("checkpoint-damaged", text))
    )
    step = snapshot.step if snapshot else 0
    if not team.most(step) == step == -team.most(-step):
        raise RunError(f"the training processes read different checkpoints in {folder}", "run again to continue")
    if snapshot is None:
        return Run(job, plan, model, optimizer, journal, Position(), Guard(), History(), team)
    state = snapshot.state
    if state["settings"] != _settings(job):
        raise RunError(f"{folder} belongs to a run with other settings", f"remove {job.work}, or use the old settings")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(snapshot.model[name])
    optimizer.load(snapshot.optimizer)
    _set_random_state(state["random"])
    at = Position(**state["position"])
    journal.event("resumed", f"resuming at step {at.step:,}, {at.progress:.0%} done", step=at.step)
    return Run(job, plan, model, optimizer, journal, at, Guard(**state["guard"]), History(snapshot.tables), team)


def _settings(job: Job) -> str:
    return digest_json(job.params.key_values())


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": _hex(torch.get_rng_state()), "cuda": [_hex(state) for state in cuda]}


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(_unhex(state["cpu"]))
    for device, text in enumerate(state["cuda"][: torch.cuda.device_count()]):  # another machine may have fewer
        torch.cuda.set_rng_state(_unhex(text), device)


def _hex(state: Tensor) -> str:
    return state.numpy().tobytes().hex()


def _unhex(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
