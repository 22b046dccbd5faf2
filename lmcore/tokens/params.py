"""What a person can set about the batches: packing, mixtures, stages. A part of a recipe's `train:` section."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from lmcore.config import Params, added_later
from lmcore.tokens.packing import Packing

Mixture = dict[str, Annotated[float, Field(gt=0)]]


class BatchSettings(Params):
    """How the training text becomes batches."""

    packing: Packing = added_later(
        "windows",
        description="windows: the text end to end, cut every model.context tokens; best_fit: whole documents, each row "
        "from a begin mark on; stride: windows every `stride` tokens.",
    )
    stride: int | None = added_later(
        None, ge=1, description="Tokens between the beginnings of two rows of packing stride; null: half the context."
    )
    document_mask: bool = added_later(
        False, description="Attention does not reach back beyond the beginning of a document."
    )

    @model_validator(mode="after")
    def _stride_is_used(self) -> Self:
        if self.stride is not None and self.packing != "stride":
            raise ValueError(f"stride {self.stride} has no meaning with packing {self.packing}: leave it out")
        return self
