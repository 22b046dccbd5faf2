"""Looks at a model while it trains: a quick validation and continued prompts.

Both draw on generators of their own and leave the model in training mode, so their cadence changes no weight.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from lmcore.generate.engine import generate
from lmcore.generate.sampling import Sampling
from lmcore.tokenizer import Tokenizer
from lmcore.tokens import sequential
from lmcore.tokens.meta import read_meta
from lmcore.train.loss import bits_per_byte, micro_loss
from lmcore.train.run import Run
from storage.errors import RunError

TEMPERATURE, TOP_P = 0.8, 0.95  # of continued prompts: lively, without the long tail


def can_validate(run: Run) -> bool:
    """True when the validation split has a token to predict; otherwise says that the looks are left out."""
    split = read_meta(run.job.tokens).splits.get("val")
    if split is not None and split.tokens > 1:
        return True
    if run.job.params.early_stop:
        raise RunError(
            f"{run.job.tokens} has no validation text, and train.early_stop needs some",
            "give the curation a share for validation, or set train.early_stop to null",
        )
    run.journal.event("no-validation", f"{run.job.tokens} has no validation text: quick looks are left out")
    return False


@torch.no_grad()
def validate(run: Run, token_bytes: npt.NDArray[np.integer]) -> float:
    """Bits per byte over the first tokens of the validation split, shared by all ranks.

    They are as many as early_stop says, else `runtime.validation_tokens`.

    Every window starts without what came before it, so this is a little above what `evaluate` measures.
    """
    with run.optimizer.averaged():
        return _validate(run, token_bytes)


def _validate(run: Run, token_bytes: npt.NDArray[np.integer]) -> float:
    params, plan = run.job.params, run.plan
    run.model.eval()
    limit = params.early_stop.tokens if params.early_stop else run.job.runtime.validation_tokens
    nats, n_bytes, seen = 0.0, 0, 0
    for batch in sequential(run.job.tokens, "val", params.batch, params.model.context, tokenizer_bytes=token_bytes):
        run.journal.doing("validation")
        share = run.team.share(batch)
        for micro in share.split(plan.micro_batch) if len(share.ids) else ():
            _, of_bytes = micro_loss(run.model, micro.to(plan.device))
            nats += float(of_bytes)
        n_bytes += int(batch.n_bytes.sum())
        seen += batch.ids.numel()
        if seen >= limit:
            break
    run.model.train()
    (nats,) = run.team.total(nats)
    return bits_per_byte(nats, n_bytes)


def continue_prompts(run: Run, tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """(prompt, continuation) for each of the recipe's prompts."""
    params = run.job.params
    sampling = Sampling(
        max_tokens=run.job.runtime.sample_tokens, temperature=TEMPERATURE, top_p=TOP_P, seed=params.seed
    )
    continued = []
    with run.optimizer.averaged():
        for prompt in params.prompts:
            run.journal.doing("samples")
            continued.append((prompt, generate(run.model, tokenizer, prompt, sampling).text))
    return continued
