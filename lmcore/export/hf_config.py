"""What is read of a foreign config.json and of its neighbours: strictly, so that no bytes in them are a surprise.

`Shape.decoder` gives our config, or refuses by name what our decoder does not have (rope scaling, another activation).
Where transformers leaves a setting out, its default counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lmcore.models.config import DecoderConfig
from storage.errors import RunError, UserError

AGAIN = "save it again with transformers: model.save_pretrained(FOLDER), tokenizer.save_pretrained(FOLDER)"
ANOTHER = "start from another model"
SHAPES = ("gpt2", "openai-gpt", "llama", "qwen3", "arcee")
_GPT_MLP = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "relu": "relu"}
_FIRST_GPT_MLP = {"gelu": "gelu", "relu": "relu"}  # its "gelu" is the tanh form
_ACTIVATIONS = {"llama": "silu", "qwen3": "silu", "arcee": "relu2"}

Size = Annotated[int, Field(ge=1, le=2**24)]
Id = Annotated[int, Field(ge=-1, le=2**31)]  # -1: none


class Strict(BaseModel):
    """Part of a JSON file of somebody else: what is read of it has one type, the rest is not looked at."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


Read = TypeVar("Read", bound=Strict)


class Shape(Strict):
    """What every config.json has."""

    vocab_size: Size
    bos_token_id: Id | list[Id] | None = None
    eos_token_id: Id | list[Id] | None = None
    tie_word_embeddings: bool | None = None

    @property
    def kind(self) -> str:
        """The model_type."""
        raise NotImplementedError

    def unknown(self) -> list[str]:
        """What our decoder does not have."""
        raise NotImplementedError

    def values(self) -> dict[str, Any]:
        """The values of a `DecoderConfig`."""
        raise NotImplementedError

    def decoder(self, where: str) -> DecoderConfig:
        """Our config. Raises UserError naming the first thing that our decoder has not."""
        for problem in self.unknown():
            raise UserError(f"{where} has {problem}, which our decoder does not", ANOTHER)
        try:
            return DecoderConfig(**self.values())
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "its shape"
            raise UserError(f"{where}: {place}: {first['msg']}", ANOTHER) from error


class GPT2(Shape):
    """The config.json of a GPT-2."""

    model_type: Literal["gpt2"]
    n_layer: Size
    n_embd: Size
    n_head: Size
    n_positions: Size
    n_inner: Size | None = None
    layer_norm_epsilon: float = 1e-5
    activation_function: str = "gelu_new"
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    add_cross_attention: bool = False

    @property
    def kind(self) -> str:
        """The model_type."""
        return self.model_type

    def unknown(self) -> list[str]:
        """What our decoder does not have."""
        known = self.activation_function in _GPT_MLP
        found = [] if known else [f"activation_function {self.activation_function!r}"]
        flags = ("scale_attn_by_inverse_layer_idx", "add_cross_attention")
        found += [f"{flag}: true" for flag in flags if getattr(self, flag)]
        return found if self.scale_attn_weights else [*found, "scale_attn_weights: false"]

    def values(self) -> dict[str, Any]:
        """The values of a `DecoderConfig`."""
        return {
            "n_layers": self.n_layer,
            "d_model": self.n_embd,
            "n_heads": self.n_head,
            "d_ff": self.n_inner or 4 * self.n_embd,
            "context": self.n_positions,
            "norm": "layer",
            "norm_eps": self.layer_norm_epsilon,
            "position": "learned",
            "qk_norm": False,
            "mlp": _GPT_MLP[self.activation_function],
            "bias": True,
            "tie_embeddings": self.tie_word_embeddings is not False,
        }


class GPT(Shape):
    """The config.json of a first GPT."""

    model_type: Literal["openai-gpt"]
    n_layer: Size
    n_embd: Size
    n_head: Size
    n_positions: Size
    layer_norm_epsilon: float = 1e-5
    afn: str = "gelu"

    @property
    def kind(self) -> str:
        """The model_type."""
        return self.model_type

    def unknown(self) -> list[str]:
        """What our decoder does not have."""
        return [] if self.afn in _FIRST_GPT_MLP else [f"afn {self.afn!r}"]

    def values(self) -> dict[str, Any]:
        """The values of a `DecoderConfig`."""
        return {
            "n_layers": self.n_layer,
            "d_model": self.n_embd,
            "n_heads": self.n_head,
            "d_ff": 4 * self.n_embd,
            "context": self.n_positions,
            "norm": "layer",
            "norm_placement": "post",
            "norm_eps": self.layer_norm_epsilon,
            "position": "learned",
            "qk_norm": False,
            "mlp": _FIRST_GPT_MLP[self.afn],
            "bias": True,
            "tie_embeddings": self.tie_word_embeddings is not False,
        }


class Rope(Strict):
    """`rope_parameters` or, in older files, `rope_scaling`."""

    rope_type: str | None = None
    type: str | None = None
    rope_theta: float | None = None
    partial_rotary_factor: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_for_all(cls, values: Any) -> Any:
        if isinstance(values, dict) and any(isinstance(value, dict) for value in values.values()):
            raise ValueError("other parameters for some layers than for others, which our decoder has not")
        return values


class Llama(Shape):
    """The config.json of a Llama, Qwen3 or Arcee."""

    model_type: Literal["llama", "qwen3", "arcee"]
    num_hidden_layers: Size
    hidden_size: Size
    num_attention_heads: Size
    intermediate_size: Size
    max_position_embeddings: Size
    num_key_value_heads: Size | None = None
    head_dim: Size | None = None
    rms_norm_eps: float | None = None
    rope_theta: float | None = None
    rope_parameters: Rope | None = None
    rope_scaling: Rope | None = None
    partial_rotary_factor: float | None = None
    hidden_act: str | None = None
    attention_bias: bool | None = None
    mlp_bias: bool | None = None
    use_sliding_window: bool | None = None
    layer_types: list[str] | None = None

    @property
    def kind(self) -> str:
        """The model_type."""
        return self.model_type

    def unknown(self) -> list[str]:
        """What our decoder does not have."""
        wanted = _ACTIVATIONS[self.model_type]
        found = [] if self.hidden_act in (None, wanted) else [f"hidden_act {self.hidden_act!r}"]
        for rope in (self.rope_scaling, self.rope_parameters):
            scaling = (rope.rope_type or rope.type or "default") if rope else "default"
            found += [] if scaling == "default" else [f"rope scaling {scaling!r}"]
        factors = [self.partial_rotary_factor, *(r.partial_rotary_factor for r in (self.rope_parameters,) if r)]
        if any(factor not in (None, 1.0) for factor in factors):
            found.append("a partial_rotary_factor")
        if self.use_sliding_window:
            found.append("use_sliding_window: true")
        return found + [f"layers of type {kind!r}" for kind in self.layer_types or () if kind != "full_attention"][:1]

    def values(self) -> dict[str, Any]:
        """The values of a `DecoderConfig`."""
        kind, heads = self.model_type, self.num_attention_heads
        eps = 1e-5 if kind == "arcee" else 1e-6
        thetas = [self.rope_parameters.rope_theta if self.rope_parameters else None, self.rope_theta, 10000.0]
        return {
            "n_layers": self.num_hidden_layers,
            "d_model": self.hidden_size,
            "n_heads": heads,
            "n_kv_heads": self.num_key_value_heads or heads,
            "head_dim": self.head_dim or (128 if kind == "qwen3" else max(1, self.hidden_size // heads)),
            "d_ff": self.intermediate_size,
            "context": self.max_position_embeddings,
            "norm": "rms",
            "norm_eps": eps if self.rms_norm_eps is None else self.rms_norm_eps,
            "position": "rope",
            "rope_theta": next(theta for theta in thetas if theta is not None),
            "qk_norm": kind == "qwen3",
            "mlp": "relu2" if kind == "arcee" else "swiglu",
            "bias": bool(self.attention_bias) or bool(self.mlp_bias),
            "tie_embeddings": self.tie_word_embeddings is True,
        }


class Index(Strict):
    """model.safetensors.index.json: the file that each tensor is in."""

    weight_map: dict[str, str] = Field(min_length=1)


class AddedToken(Strict):
    """A token of tokenizer_config.json with its options."""

    content: str


class TokenizerConfig(Strict):
    """tokenizer_config.json: the tokens that stand before and after a text."""

    bos_token: str | AddedToken | None = None
    eos_token: str | AddedToken | None = None


class _Kind(Strict):
    model_type: str


def read_shape(content: bytes, where: str) -> GPT | GPT2 | Llama:
    """The config.json with these bytes. Raises UserError for an unknown shape, RunError for what is not one at all."""
    kind = read_json(_Kind, content, where).model_type
    if kind not in SHAPES:
        raise UserError(f"{where} is of model_type {kind!r}", f"shapes that can be read: {', '.join(SHAPES)}")
    if kind == "openai-gpt":
        return read_json(GPT, content, where)
    return read_json(GPT2, content, where) if kind == "gpt2" else read_json(Llama, content, where)


def read_json(model: type[Read], content: bytes, where: str | Path) -> Read:
    """JSON as `model` has it. Raises RunError naming the first thing that is not."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise RunError(f"{where} has no {place}", AGAIN) from error
        if first["type"] == "json_invalid":
            raise RunError(f"{where} cannot be read: {first['msg']}", "copy the folder again") from error
        raise RunError(f"{where}: {place or 'the whole'}: {first['msg']}", AGAIN) from error
