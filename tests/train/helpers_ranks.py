"""What one rank finds, to be run by torchrun: `helpers_ranks.py FOLDER`. The tests compare it with one process."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from lmcore.models import build
from lmcore.models.config import DecoderConfig
from lmcore.models.network import Network
from lmcore.tokens import TokenBatch
from lmcore.train.guard import Guard
from lmcore.train.history import History
from lmcore.train.loss import micro_loss
from lmcore.train.optim import Optimizer
from lmcore.train.params import Job, TrainParams
from lmcore.train.plan import Plan
from lmcore.train.run import Position, Run
from lmcore.train.step import backward, one_step
from lmcore.train.team import Team

SHAPE = DecoderConfig(n_layers=2, d_model=32, n_heads=2, context=16)
PARAMS = TrainParams(model=SHAPE, batch=7, steps=1)


def fresh_run(team: Team, model: Network, params: TrainParams) -> Run:
    """A run of a model at step 0, in micro-batches of two rows on one thread."""
    torch.set_num_threads(1)
    plan = Plan(
        device="cpu", processes=team.world, threads=1, precision="fp32", attention="sdpa", micro_batch=2,
        compile=False, allocator="", processor="", torch_version="", gflops={}, step_seconds=0, reasons={},
    )  # fmt: skip
    nowhere = Path("nowhere")
    job = Job(work=nowhere, tokens=nowhere, tokenizer=nowhere, params=params)
    return Run(job, plan, model, Optimizer(model, params), None, Position(), Guard(), History(), team)


def leave(team: Team) -> None:
    """End this process once the others are as far, and do not wait for torch's threads."""
    team.wait()
    sys.stdout.flush()
    os._exit(0)


def start(team: Team) -> Run:
    """A run at step 0 with a tiny model."""
    torch.set_num_threads(1)  # before there is a model: the first sums are as in every other process
    return fresh_run(team, build(SHAPE, 64, 1).train(), PARAMS)


def batch() -> TokenBatch:
    """Seven rows, of which the first count for little and the last for all; some targets stand for no bytes."""
    generator = torch.Generator().manual_seed(6)
    tokens = torch.randint(64, (7, 17), generator=generator)
    mask = torch.rand(7, 16, generator=generator) < torch.linspace(0.05, 1, 7)[:, None]
    ids, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    return TokenBatch(ids, targets, mask, torch.zeros_like(ids).int(), (targets > 5).int() * mask)


def gradients(team: Team) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The gradient of every parameter for `batch`, and loss and bits per byte."""
    run = start(team)
    numbers = list(backward(run, batch()))
    return {name: parameter.grad.contiguous() for name, parameter in run.model.named_parameters()}, numbers


def sick(team: Team) -> dict:
    """A step in which the last rank's loss alone is not finite."""
    run = start(team)

    def loss_of(model, micro):
        total, of_bytes = micro_loss(model, micro)
        return (total * math.inf if team.rank == team.world - 1 else total), of_bytes

    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    *_, admitted = one_step(run, batch(), 1.0, loss_of)
    unchanged = all(torch.equal(p, before[name]) for name, p in run.model.named_parameters())
    return {"admitted": admitted, "unchanged": unchanged, "guard": run.guard.state()}


def main(folder: Path) -> None:
    """Leave `RANK.safetensors` and `RANK.json`."""
    team = Team.of_environment()
    team.join("cpu")
    found, numbers = gradients(team)
    save_file(found, folder / f"{team.rank}.safetensors")
    order = folder / "order"
    team.first(lambda: order.open("a").write(f"{team.rank} "))
    team.seed(1, 0)
    drawn = torch.rand(4).tolist()
    team.seed(1, 0)
    again = torch.rand(4).tolist()
    told = {
        "numbers": numbers, "total": team.total(team.rank, 0.5), "most": team.most(team.rank), "sick": sick(team),
        "drawn": drawn, "again": again, "rows": team.share(batch()).ids.shape[0],
    }  # fmt: skip
    (folder / f"{team.rank}.json").write_text(json.dumps(told))
    leave(team)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
