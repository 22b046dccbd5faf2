"""What one worker of CLLM's eleven finds, to be run by torchrun: `cllm_ranks.py FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
from helpers_ranks import fresh_run, leave

from lmcore.models import build
from lmcore.recipe import load_recipe
from lmcore.tokens import TokenBatch
from lmcore.train.run import Run
from lmcore.train.step import backward, one_step
from lmcore.train.team import Team

VOCABULARY, ROWS, LENGTH, STEPS = 200, 23, 16, 3  # 23 rows: one worker has three, the others two
TINY = (
    "model.d_model=48", "model.d_ff=96", "model.context=32", "train.batch=32", "train.steps=3", "train.stages=[]",
    "evaluate.positions=[]",
)  # fmt: skip
PARAMS = load_recipe("cllm", [*TINY, "train.warmup_steps=1"]).training


def start(team: Team) -> Run:
    """CLLM's model in little, with its settings of training, at step 0."""
    torch.set_num_threads(1)
    model = build(PARAMS.model, VOCABULARY, 1).train()
    with torch.no_grad():  # a new model's last projections are 0, and so would be most gradients
        draw = torch.Generator().manual_seed(2)
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=draw)
    return fresh_run(team, model, PARAMS)


def batch(number: int) -> TokenBatch:
    """Rows of unequal weight: of the first few targets count, of the last all."""
    draw = torch.Generator().manual_seed(number)
    tokens = torch.randint(VOCABULARY, (ROWS, LENGTH + 1), generator=draw)
    mask = torch.rand(ROWS, LENGTH, generator=draw) < torch.linspace(0.1, 1, ROWS)[:, None]
    ids, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    return TokenBatch(ids, targets, mask, torch.zeros_like(ids).int(), torch.ones_like(ids).int() * mask)


def gradients(team: Team) -> tuple[dict[str, torch.Tensor], float]:
    """The gradient of every parameter for the first batch, and its loss."""
    run = start(team)
    loss, _ = backward(run, batch(0))
    return {name: parameter.grad.contiguous() for name, parameter in run.model.named_parameters()}, loss


def weights(team: Team) -> dict[str, torch.Tensor]:
    """The weights after the optimizer's steps."""
    run = start(team)
    for number in range(STEPS):
        one_step(run, batch(number), 1.0)
    return {name: parameter.detach().contiguous() for name, parameter in run.model.named_parameters()}


def main(folder: Path) -> None:
    """Leave this worker's gradients, weights and numbers."""
    team = Team.of_environment()
    team.join("cpu")
    found, loss = gradients(team)
    save_file(found, folder / f"gradients-{team.rank}.safetensors")
    save_file(weights(team), folder / f"weights-{team.rank}.safetensors")
    share = team.share(batch(0))
    told = {"loss": loss, "rows": len(share.ids), "tokens": int(share.loss_mask.sum())}
    (folder / f"{team.rank}.json").write_text(json.dumps(told))
    leave(team)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
