"""What a person can set about the token shards, and about the batches: packing, mixtures, stages.

The latter are a part of a recipe's `train:` section. Reading a recipe stays quick: this loads no more than pydantic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from lmcore.config import Params, Runtime, added_later
from lmcore.tokens.stages import Mixture, Promote, Reads, Stage, check_curriculum, own_reads, reads
from storage.errors import UserError

Packing = Literal["windows", "best_fit", "texts", "stride"]
MixtureBy = Literal["source", "lang", "kind"]
SLIP = 1e-6  # of a step: 0.1 + 0.2 of ten steps are three
BLOCK = 1_000  # rows of a mixture among which every part has exactly its share


class TokensParams(Params):
    """How the shards are cut."""

    shard_tokens: int = Field(
        32 * 2**20,
        ge=1024,
        le=64 * 2**20,
        description="Tokens a shard file holds at most; a longer document gets a shard to itself.",
    )
    learn_roles: tuple[str, ...] = added_later(
        ("assistant",),
        description="Where a text has turns of one of these roles, only those turns are learnt; other texts are whole.",
    )
    only_roles_of: tuple[str, ...] = added_later(
        (),
        description="Sources of which nothing but turns of learn_roles is learnt; texts without one are only read.",
    )

    @property
    def asks_for_roles(self) -> bool:
        """Whether it was said whose turns are learnt, so that there must be some: most corpora have no assistant."""
        default = type(self).model_fields["learn_roles"].default
        return bool(self.only_roles_of) or self.learn_roles not in ((), default)

    @model_validator(mode="after")
    def _someone_is_learnt(self) -> Self:
        if self.only_roles_of and not self.learn_roles:
            raise ValueError("only_roles_of without learn_roles: nothing of these sources would be learnt")
        return self


class TokensRuntime(Runtime):
    """How the work is done."""

    workers: int = Field(0, ge=0, le=1024, description="Threads that encode; 0 takes every core.")


class BatchSettings(Params):
    """How the training text becomes batches."""

    packing: Packing = added_later(
        "windows",
        description="windows: the text end to end, cut every model.context tokens; best_fit: whole documents, each row "
        "from a begin mark on; texts: a document a row, which is filled up; stride: windows every `stride` tokens.",
    )
    stride: int | None = added_later(
        None, ge=1, description="Tokens between the beginnings of two rows of packing stride; null: half the context."
    )
    document_mask: bool = added_later(
        False, description="Attention does not reach back beyond the beginning of a document."
    )
    mixture: Mixture | None = added_later(
        None,
        description="Weight of each source (or language, or kind): its share of the rows, whatever text it has. Who is "
        "not named is left out; null takes all texts as they are.",
    )
    mixture_by: MixtureBy = added_later("source", description="What the names of a mixture are.")
    stages: tuple[Stage, ...] = added_later((), description="A curriculum: stages one after the other.")
    promote: Promote = added_later(
        Promote(), description="End a stage early when it no longer gains on the validation split; how it is judged."
    )

    @model_validator(mode="after")
    def _stride_is_used(self) -> Self:
        if self.stride is not None and self.packing != "stride":
            raise ValueError(f"stride {self.stride} has no meaning with packing {self.packing}: leave it out")
        return self

    @model_validator(mode="after")
    def _mixtures_fit(self) -> Self:
        mixtures = [self.mixture, *(stage.mixture for stage in self.stages)]
        if any(mixture is not None and not mixture for mixture in mixtures):
            raise ValueError("a mixture without a name: name what is to be trained on, or set it to null")
        if self.mixture_by != "source" and not any(mixtures):
            raise ValueError(f"mixture_by {self.mixture_by} has no meaning without a mixture: leave it out")
        return self

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        whole = math.fsum(stage.share for stage in self.stages)
        if self.stages and abs(whole - 1) > 1e-6:
            raise ValueError(f"the shares of the stages add up to {whole:g}: make it 1")
        check_curriculum(self.stages, self.promote.patience)
        return self

    @property
    def stage_names(self) -> list[str]:
        """The names of the stages, in order; none where they have none."""
        return [stage.name for stage in self.stages if stage.name is not None]

    def reads(self, number: int) -> Reads:
        """What stage `number`, from 0, reads, with the weight of each."""
        return reads(self.whole_run(), number, self.mixture)

    def own_reads(self, number: int) -> Reads:
        """The same apart from what it reads again of earlier stages."""
        return own_reads(self.whole_run()[number], self.mixture)

    def whole_run(self) -> tuple[Stage, ...]:
        """The stages; without any, one that is the whole run."""
        return self.stages or (Stage(share=1.0),)

    def begins(self) -> list[float]:
        """The share of the budget that is used when each stage begins."""
        return [0.0, *accumulate(stage.share for stage in self.whole_run()[:-1])]


def check_steps(settings: BatchSettings, steps: int) -> None:
    """Raise UserError when a stage is so short that it has none of so many steps."""
    first = [math.ceil(begin * steps - SLIP) for begin in settings.begins()]
    for number, (start, stop) in enumerate(pairwise([*first, steps]), 1):
        if start >= stop:
            raise UserError(
                f"train.stages {number} has {settings.stages[number - 1].share:g} of {steps:,} steps, which is none",
                "give it a larger share, or train longer",
            )
        if settings.promote.patience and settings.stages[number - 1].share * steps < 1 - SLIP:
            raise UserError(  # where an earlier stage ends early, this one begins anywhere
                f"train.stages {number} has {settings.stages[number - 1].share:g} of {steps:,} steps, less than one",
                "give it a larger share, or train longer",
            )


def check_stages(settings: BatchSettings, context: int) -> None:
    """Raise UserError for rows that cannot be made, whatever the text is.

    The rows of a stage must divide `context`, the tokens of a sequence of the model; a stride is not longer than a
    row, and no weight of a mixture too small to be given a row.
    """
    for number, stage in enumerate(settings.stages, 1):
        if stage.context is not None and context % stage.context:
            raise UserError(
                f"train.stages {number} has a context of {stage.context:,}, which does not divide the model's "
                f"{context:,}",
                "take a half, a quarter or another whole part, so that every step has equally many tokens",
            )
    shortest = min(stage.context or context for stage in settings.whole_run())
    if settings.stride is not None:
        check_stride(settings.stride, shortest)
    if settings.mixture:
        rows_of([settings.mixture[name] for name in sorted(settings.mixture)])
    for number in range(len(settings.stages)):
        rows_of(list(settings.reads(number).values()))


def check_stride(stride: int, context: int) -> None:
    """Raise UserError when rows of `context` tokens that begin every `stride` leave text out."""
    if stride > context:
        raise UserError(
            f"train.stride {stride:,} is longer than the context of {context:,}: text between rows would be left out",
            "set it to the context or less",
        )


def rows_of(weights: Sequence[float]) -> list[int]:
    """How many of BLOCK rows each of `weights` gets: largest remainders, so they add up to BLOCK.

    Raises UserError when one would get none.
    """
    whole = sum(weights)
    exact = [weight / whole * BLOCK for weight in weights]
    counts = [math.floor(share) for share in exact]
    by_rest = sorted(range(len(weights)), key=lambda number: counts[number] - exact[number])
    for number in by_rest[: BLOCK - sum(counts)]:
        counts[number] += 1
    if not all(counts):
        raise UserError(
            f"weight {weights[counts.index(0)]:g} of a mixture is less than a thousandth of all {whole:g}",
            "raise it, or leave its name out",
        )
    return counts
