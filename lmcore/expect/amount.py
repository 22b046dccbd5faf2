"""How much text a document's own training reads in an epoch, so that the time of it can be told before there is any.

No part of any stage's key: what a run trains on is what it has collected.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from lmcore.config import Settings


class DocumentEpoch(Settings):
    """The text of one epoch, as the document counts it: in tokens, or in sequences of which a step has a batch."""

    tokens: int | None = Field(None, ge=1, description="Tokens of an epoch.")
    sequences: int | None = Field(
        None, ge=1, description="Sequences of an epoch, in the place of tokens: a step has `train.batch` of them."
    )
    source: str = Field(min_length=1, description="Where the document says it, or what the estimate is made of.")
    estimated: bool = Field(False, description="On: the document has no such count, and this one is made of others.")

    @model_validator(mode="after")
    def _one_count(self) -> Self:
        if (self.tokens is None) == (self.sequences is None):
            raise ValueError("the text of an epoch is given in tokens or in sequences: write one of the two")
        return self

    def steps(self, batch: int, context: int) -> int:
        """Optimizer steps of an epoch, of so many sequences with so many tokens each."""
        if self.sequences is not None:
            return -(-self.sequences // batch)
        assert self.tokens is not None
        return -(-self.tokens // (batch * context))

    def describe(self) -> str:
        """The amount in words, with where it comes from."""
        told = f"{self.tokens:,} tokens" if self.tokens is not None else f"{self.sequences:,} sequences"
        return f"about {told} (an estimate; {self.source})" if self.estimated else f"{told} ({self.source})"
