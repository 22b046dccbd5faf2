"""The first weights of a run: random ones, or those of a trained model, taken over or grown into the recipe's shape."""

from __future__ import annotations

from lmcore.models import build
from lmcore.models.decoder import Decoder
from lmcore.models.fit import misfits
from lmcore.models.growth import grow
from lmcore.models.io import load_model
from lmcore.train.params import Job
from storage.errors import UserError


def first_weights(job: Job, vocab_size: int) -> Decoder:
    """Random weights from the seed, or those of `start_from`, whose shape must fit (`lmcore.models.fit`).

    Raises UserError when it does not, RunError for a damaged model.
    """
    params, config = job.params, job.params.model
    if job.start_from is None:
        return build(config, vocab_size, params.seed)
    model = load_model(job.start_from)
    if model.vocab_size != vocab_size or misfits(model.config, config, grow=params.grow):
        raise UserError(
            f"{job.start_from} has another shape than the recipe's model, or another vocabulary than {job.tokenizer}",
            "give the model section the shape in its config.json, and use its tokenizer",
        )
    return model if model.config == config.resolved() else grow(model, config, params.seed)
