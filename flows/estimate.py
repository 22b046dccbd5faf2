"""What building a recipe needs of a machine, before anything runs: memory and disk. Shared by `params` and `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmcore.collect.feed_params import FeedSource
from lmcore.collect.files import find_files
from lmcore.collect.params import PathsSource
from lmcore.collect.synthetic.params import SyntheticSource
from lmcore.models.lora import adapter_parameters
from lmcore.recipe import Recipe
from lmcore.train.horizon import known_horizon
from lmcore.train.params import TrainParams

if TYPE_CHECKING:
    from lmcore.models.ledger import Ledger

# A page while it is crawled; 250 pages of pydoc, 39 kB of HTML and 7 kB of text each, took 32 kB, and 8 kB afterwards.
PAGE_BYTES = 40_000
FILE_FACTOR = 1.5  # of a text's bytes: collected, curated, measured and as tokens; 1.4 for these pages
SENTENCE_BYTES, STORY_BYTES = 60, 600  # of generated texts; 25,000 of them were 5.4 MB
REST_BYTES = 30_000_000  # Prefect's database, logs, reports, the vocabulary


@dataclass(frozen=True)
class Needs:
    """Rough needs of one run, in bytes by use; `total` among them. Memory is that of training, without torch itself."""

    ledger: Ledger
    memory: dict[str, int]  # when a whole batch is passed at once
    least_memory: dict[str, int]  # when it is passed in the smallest parts that the recipe allows
    disk: dict[str, int]


def needs(recipe: Recipe, precision: str) -> Needs:
    """What building this recipe from nothing needs; `precision` is "fp32", "bf16" or "fp16"."""
    import torch

    from lmcore.models.ledger import estimate

    training = recipe.training
    ledger = estimate(recipe.model, recipe.tokenizer.vocab_size)
    adapters = adapter_parameters(recipe.model, training.lora) if training.lora else None
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    memory, least = (
        ledger.training_memory(sequences, optimizer=training.optimizer, stream_dtype=dtype, adapters=adapters)
        for sequences in (training.batch, training.micro_batch or 1)
    )
    # The best one is beside the newest, and beside the model at the end; those of keep_every_steps are left out here.
    kept = recipe.runtime.train
    checkpoints = kept.keep_checkpoints + 2 * kept.keep_best + 1  # the newest is whole before the oldest goes
    disk = {
        "texts": sum(_text_bytes(source) for source in recipe.sources),
        "checkpoints": checkpoints * (4 * (ledger.total if adapters is None else adapters) + memory["optimizer"]),
        "model": ledger.bytes() * (2 if recipe.export.hf else 1),
        "milestones": _milestones(training) * ledger.bytes(),
        "rest": REST_BYTES,
    }
    return Needs(ledger, memory, least, disk | {"total": sum(disk.values())})


def _milestones(training: TrainParams) -> int:
    return training.milestones(known_steps(training) or 0) + len(training.stage_names)


def known_steps(training: TrainParams) -> int | None:
    """Optimizer steps of a training, None where its text or its speed decides them."""
    horizon = known_horizon(training)
    return horizon.steps if horizon else None


def _text_bytes(source: object) -> int:
    if isinstance(source, PathsSource) and source.paths:
        sizes = (found.path.stat().st_size for found in find_files(source) if found.refusal is None)
        return int(FILE_FACTOR * sum(sizes))
    if isinstance(source, SyntheticSource):  # what is made of articles is about as long as they are
        return int(FILE_FACTOR * (SENTENCE_BYTES * (source.sentences + 4 * source.translations)
                                  + STORY_BYTES * (source.stories + source.instructions)))  # fmt: skip
    if isinstance(source, FeedSource):
        return PAGE_BYTES * source.max_entries * len(source.urls)
    # of a data set of the Hub nothing is known before it is asked
    return PAGE_BYTES * int(getattr(source, "max_pages", 0))
