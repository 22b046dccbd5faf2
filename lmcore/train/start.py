"""The first weights of a run: random ones, or those of a trained model, taken over or grown into the recipe's shape."""

from __future__ import annotations

from pathlib import Path

from lmcore.models import build
from lmcore.models.families import check_trainable
from lmcore.models.fit import misfits
from lmcore.models.growth import grow, with_vocabulary
from lmcore.models.io import load_model
from lmcore.models.lora import add_adapters
from lmcore.models.network import Network
from lmcore.tokenizer import load_tokenizer
from lmcore.tokenizer.across import pieces_in
from lmcore.train.params import Job
from storage.errors import UserError


def first_weights(job: Job, vocab_size: int) -> Network:
    """Random weights from the seed, or those of `start_from`, whose shape must fit (`lmcore.models.fit`).

    With `grow_vocabulary` its embedding and head are spelt anew in the job's vocabulary (`lmcore.tokenizer.across`).
    With LoRA these are frozen, and adapters stand beside them. Raises UserError when it does not fit, RunError for a
    damaged model.
    """
    params, config = job.params, job.params.model
    check_trainable(config)
    if job.start_from is None:
        if params.lora:
            raise UserError("train.lora adapts a trained model, and there is none", "set train.init_from")
        return build(config, vocab_size, params.seed)
    model = _taken_over(job, job.start_from, vocab_size)
    if params.lora:
        add_adapters(model, params.lora, params.seed)
    return model


def _taken_over(job: Job, start_from: Path, vocab_size: int) -> Network:
    params, config = job.params, job.params.model
    model = load_model(start_from)
    if params.grow_vocabulary:
        model = with_vocabulary(model, pieces_in(load_tokenizer(start_from), load_tokenizer(job.tokenizer)))
    if model.vocab_size != vocab_size or misfits(model.config, config, grow=params.grow):
        raise UserError(
            f"{start_from} has another shape than the recipe's model, or another vocabulary than {job.tokenizer}",
            "give the model section the shape in its config.json, and use its tokenizer or train.grow_vocabulary",
        )
    return model if model.config == config.resolved() else grow(model, config, params.seed)
