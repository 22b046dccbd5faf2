"""The families of models: which settings a recipe's `model:` section may hold. Knows no torch.

`family` says which, and `decoder` needs no saying. What every family must offer the other rooms is in `network.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Tag, TypeAdapter

from lmcore.models.config import DecoderConfig
from lmcore.models.mu_config import MuConfig
from storage.errors import UserError

ModelConfig = DecoderConfig | MuConfig
FAMILIES: dict[str, type[DecoderConfig] | type[MuConfig]] = {"decoder": DecoderConfig, "mu": MuConfig}


def _family(value: Any) -> str | None:
    """The family of settings or of plain values; None, which is no tag, for one that is no text."""
    named = value.get("family", "decoder") if isinstance(value, Mapping) else getattr(value, "family", "decoder")
    return named if isinstance(named, str) else None


ModelSection = Annotated[
    Annotated[DecoderConfig, Tag("decoder")] | Annotated[MuConfig, Tag("mu")], Discriminator(_family)
]
_SECTION: TypeAdapter[ModelConfig] = TypeAdapter(ModelSection)


def parse_config(values: Any) -> ModelConfig:
    """The settings in plain values, of the family that they name. Raises pydantic's ValidationError."""
    return _SECTION.validate_python(values)


def check_trainable(config: ModelConfig) -> None:
    """Raise UserError for a shape that is there to be counted and looked at, not to learn."""
    if isinstance(config, MuConfig) and config.compat == "original":
        raise UserError(
            "model.compat: original lets every token see the next one, which it is to predict: its loss says nothing",
            "leave model.compat out; `tests/models/test_models_mu.py` shows the leak",
        )


def adaptable(config: ModelConfig) -> DecoderConfig:
    """The shape of a model that adapters of low rank are made for. Raises UserError for another family."""
    if not isinstance(config, DecoderConfig):
        raise UserError(
            f"train.lora adapts models of family decoder, and this one is of family {config.family}",
            "leave train.lora out",
        )
    return config
