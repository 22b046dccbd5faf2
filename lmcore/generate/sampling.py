"""What a request for text may ask: the settings of the one sampler. Knows no torch."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import Field, ValidationError, field_validator

from lmcore.config import Params, added_later
from storage.errors import UserError


class Sampling(Params):
    """How tokens are chosen and when to stop. Equal settings and prompt give equal text on one machine."""

    max_tokens: int = Field(100, ge=1, le=1 << 20, description="The most tokens to generate.")
    temperature: float = Field(
        0.8,
        ge=0,
        le=100,
        description="Divides the logits: below 1 is safer, above 1 wilder, 0 always the likeliest token.",
    )
    top_k: int = Field(0, ge=0, description="Draw from the k likeliest tokens only; 0: off.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Draw from the fewest tokens that together have this probability; 1: off."
    )
    min_p: float = Field(
        0.0, ge=0, le=1, description="Draw from tokens at least this share as likely as the likeliest; 0: off."
    )
    repetition_penalty: float = Field(
        1.0, gt=0, le=100, description="Above 1: tokens already in prompt or text become less likely; 1: off."
    )
    no_repeat_ngram: int = Field(0, ge=0, description="No sequence of this many tokens appears twice; 0: off.")
    repetition_window: int = added_later(
        0, ge=0, description="The penalty is of the last so many tokens of prompt and text only; 0: of all."
    )
    no_repeat_factor: float = added_later(
        0.0,
        ge=0,
        lt=1,
        description="What would end a sequence that no_repeat_ngram forbids becomes less likely and is not forbidden: "
        "its logit times this where above 0, divided by it below; 0: forbidden.",
    )
    stop: tuple[str, ...] = Field((), description="End before the first of these strings; one may be given bare.")
    seed: int = Field(0, ge=0, lt=1 << 63, description="Start of the request's own random numbers.")

    @field_validator("stop", mode="before")
    @classmethod
    def _one_is_enough(cls, stop: Any) -> Any:
        if isinstance(stop, str):
            return (stop,)
        return tuple(stop) if isinstance(stop, list) else stop  # a list is as good where recipes are read strictly

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError("a stop string is empty: it would end every text before it starts")
        return stop


def make_sampling(**options: Any) -> Sampling:
    """`Sampling` from what a person wrote. UserError for an unknown setting (naming the nearest) or a wrong value."""
    try:
        return Sampling(**options)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, Sampling.model_fields, 1)
            mend = f"did you mean {near[0]}?" if near else f"there are {', '.join(Sampling.model_fields)}"
            raise UserError(f"there is no sampling setting {name!r}", mend) from error
        description = Sampling.model_fields[name].description
        raise UserError(f"{name} cannot be {options[name]!r}: {first['msg']}", f"{name}: {description}") from error
