"""A Hugging Face folder that somebody else made, as our decoder and tokenizer: GPT-2, Llama, Qwen3 and Arcee shapes.

Only safetensors are read, and only what computes exactly the same here: whatever of a config our decoder does not have
(rope scaling, another activation) is refused by name. Where transformers leaves a setting out, its default counts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from tokenizers import Tokenizer as Engine
from torch import Tensor

from lmcore.export.hf_reader import gpt2_state, llama_state
from lmcore.models.config import DecoderConfig
from lmcore.models.decoder import Decoder
from lmcore.tokenizer.imported import ImportedBPE, adopt
from storage.errors import RunError, UserError

CONFIG, TOKENIZER, WEIGHTS, INDEX = "config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json"
SHAPES = ("gpt2", "llama", "qwen3", "arcee")
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
MOST_PADDING = 1024  # rows of the embedding beyond the tokenizer's: vocabularies are padded to round numbers
_ACTIVATIONS = {"gpt2": ("gelu_new", "gelu_pytorch_tanh"), "llama": ("silu",), "qwen3": ("silu",), "arcee": ("relu2",)}
_AGAIN = "save it again with transformers: model.save_pretrained(FOLDER), tokenizer.save_pretrained(FOLDER)"
_NOT_WEIGHTS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")  # buffers that old versions saved


@dataclass(frozen=True)
class Imported:
    """A model in evaluation mode on the CPU (float32), its vocabulary, and what was left out, in words."""

    model: Decoder
    tokenizer: ImportedBPE
    notes: tuple[str, ...]


def import_files(folder: Path) -> list[Path]:
    """The files that `import_hf` reads. Raises UserError when the folder has no safetensors or no tokenizer.json."""
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} is no Hugging Face folder: it has no {CONFIG}", "name the folder that save_pretrained wrote"
        )
    if (folder / WEIGHTS).is_file():
        weights = [folder / WEIGHTS]
    elif (folder / INDEX).is_file():
        names = sorted(set(_json(folder / INDEX).get("weight_map", {}).values()))
        if odd := [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]:
            raise UserError(f"{folder / INDEX} names {odd[0]!r}, which is no safetensors file beside it", _AGAIN)
        weights = [folder / INDEX, *(folder / name for name in names)]
    else:
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        told = f" ({pickled[0]} is pickled: reading it could run whatever it says)" if pickled else ""
        raise UserError(f"{folder} has no {WEIGHTS}{told}", _AGAIN)
    if not (folder / TOKENIZER).is_file():
        raise UserError(f"{folder} has no {TOKENIZER}: ids without their vocabulary mean nothing", _AGAIN)
    beside = [folder / name for name in ("tokenizer_config.json",) if (folder / name).is_file()]
    return [folder / CONFIG, folder / TOKENIZER, *beside, *weights]


def import_hf(folder: Path) -> Imported:
    """The model and the vocabulary of a Hugging Face folder.

    Raises UserError for what is not safetensors, not of a shape that our decoder has, or where tokenizer and model do
    not belong together; RunError for a damaged file.
    """
    files = import_files(folder)
    stored = _json(folder / CONFIG)
    config = decoder_config(stored, str(folder / CONFIG))
    model = Decoder(config, _vocabulary(stored, folder))
    tensors = _weights([path for path in files if path.suffix == ".safetensors"])
    _load(model, tensors, stored["model_type"], folder)
    tokenizer = _tokenizer(folder, stored, model.vocab_size)
    notes = []
    if model.vocab_size > tokenizer.vocab_size:
        notes.append(f"{model.vocab_size - tokenizer.vocab_size} rows of padding beyond the vocabulary are left out")
        model = _cut(model, tokenizer.vocab_size)
    return Imported(model.eval(), tokenizer, tuple(notes))


def decoder_config(stored: dict[str, Any], where: str) -> DecoderConfig:
    """Our config of a transformers config.json. Raises UserError naming the first thing that our decoder has not."""
    kind = stored.get("model_type")
    if kind not in SHAPES:
        raise UserError(f"{where} is of model_type {kind!r}", f"shapes that can be read: {', '.join(SHAPES)}")
    for problem in _unknown(kind, stored):
        raise UserError(f"{where} has {problem}, which our decoder does not", "start from another model")
    try:
        return _gpt2(stored) if kind == "gpt2" else _llama(kind, stored)
    except KeyError as error:
        raise RunError(f"{where} has no {error.args[0]}", _AGAIN) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}", "start from another") from error


def _unknown(kind: str, stored: dict[str, Any]) -> list[str]:
    gpt2 = kind == "gpt2"
    name = "activation_function" if gpt2 else "hidden_act"
    activation = stored.get(name, _ACTIVATIONS[kind][0])
    found = [f"{name} {activation!r}"] if activation not in _ACTIVATIONS[kind] else []
    if gpt2:
        found += [
            f"{flag}: true" for flag in ("scale_attn_by_inverse_layer_idx", "add_cross_attention") if stored.get(flag)
        ]
        return [*found, *(["scale_attn_weights: false"] if stored.get("scale_attn_weights") is False else [])]
    for rope in (stored.get("rope_scaling"), stored.get("rope_parameters")):
        scaling = (rope or {}).get("rope_type", (rope or {}).get("type", "default"))
        if scaling != "default":
            found.append(f"rope scaling {scaling!r}")
        if (rope or {}).get("partial_rotary_factor", 1.0) != 1.0:
            found.append("a partial_rotary_factor")
    if stored.get("use_sliding_window"):
        found.append("use_sliding_window: true")
    return found


def _gpt2(stored: dict[str, Any]) -> DecoderConfig:
    return DecoderConfig(
        n_layers=stored["n_layer"],
        d_model=stored["n_embd"],
        n_heads=stored["n_head"],
        d_ff=stored.get("n_inner") or 4 * stored["n_embd"],
        context=stored["n_positions"],
        norm="layer",
        norm_eps=stored.get("layer_norm_epsilon", 1e-5),
        position="learned",
        qk_norm=False,
        mlp="gelu",
        bias=True,
        tie_embeddings=stored.get("tie_word_embeddings", True),
    )


def _llama(kind: str, stored: dict[str, Any]) -> DecoderConfig:
    heads = stored["num_attention_heads"]
    rope = stored.get("rope_parameters") or {}
    return DecoderConfig(
        n_layers=stored["num_hidden_layers"],
        d_model=stored["hidden_size"],
        n_heads=heads,
        n_kv_heads=stored.get("num_key_value_heads") or heads,
        head_dim=stored.get("head_dim") or (128 if kind == "qwen3" else stored["hidden_size"] // heads),
        d_ff=stored["intermediate_size"],
        context=stored["max_position_embeddings"],
        norm="rms",
        norm_eps=stored.get("rms_norm_eps", 1e-5 if kind == "arcee" else 1e-6),
        position="rope",
        rope_theta=rope.get("rope_theta", stored.get("rope_theta", 10000.0)),
        qk_norm=kind == "qwen3",
        mlp="relu2" if kind == "arcee" else "swiglu",
        bias=bool(stored.get("attention_bias")) or bool(stored.get("mlp_bias")),
        tie_embeddings=stored.get("tie_word_embeddings", False),
    )


def _vocabulary(stored: dict[str, Any], folder: Path) -> int:
    size = stored.get("vocab_size")
    if not isinstance(size, int) or not 1 <= size <= 2**24:
        raise RunError(f"{folder / CONFIG}: vocab_size is {size!r}", _AGAIN)
    return size


def _weights(files: list[Path]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path in files:
        try:
            tensors |= safetensors.torch.load_file(path)
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"{path} is missing, truncated or damaged: {_line(error)}", "copy the folder again"
            ) from error
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS and not name.endswith(_NOT_WEIGHTS):
            raise UserError(
                f"{name} is {tensor.dtype}: quantised weights cannot be trained on", "start from the model in bfloat16"
            )
    return {name: tensor.float() for name, tensor in tensors.items() if not name.endswith(_NOT_WEIGHTS)}


def _load(model: Decoder, tensors: dict[str, Tensor], kind: str, folder: Path) -> None:
    config = model.config
    if kind == "gpt2" and "wte.weight" in tensors:  # saved from the bare GPT2Model, as OpenAI's on the hub
        tensors = {f"transformer.{name}": tensor for name, tensor in tensors.items()}
    tied = tensors.pop("lm_head.weight", None)
    if kind != "gpt2" and config.bias:
        _fill_biases(tensors, config)
    try:
        state = gpt2_state(tensors, config) if kind == "gpt2" else llama_state(tensors, config)
        if not config.tie_embeddings:
            if tied is None:
                raise KeyError("lm_head.weight")
            state["head.weight"] = tied
        model.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise RunError(f"the weights in {folder} do not fit its {CONFIG}: {_line(error)}", _AGAIN) from error
    if tied is not None and config.tie_embeddings and not torch.equal(tied, model.embed.weight):
        raise RunError(f"{folder} has an lm_head.weight, and its {CONFIG} says tie_word_embeddings", _AGAIN)
    if tensors:
        raise UserError(
            f"{folder} holds {min(tensors)}, which our decoder has no place for", "start from another model"
        )


def _fill_biases(tensors: dict[str, Tensor], config: DecoderConfig) -> None:
    """Zeros where only attention or only the MLP has biases: they change nothing."""
    parts = ["mlp.up_proj", "mlp.down_proj", *(f"self_attn.{letter}_proj" for letter in "qkvo")]
    for layer in range(config.n_layers):
        for part in [*parts, *(["mlp.gate_proj"] if config.mlp == "swiglu" else [])]:
            name = f"model.layers.{layer}.{part}"
            if f"{name}.weight" in tensors:
                tensors.setdefault(f"{name}.bias", torch.zeros(len(tensors[f"{name}.weight"])))


def _tokenizer(folder: Path, stored: dict[str, Any], rows: int) -> ImportedBPE:
    path = folder / TOKENIZER
    try:
        engine = Engine.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises bare Exception for whatever is wrong with the text
        raise RunError(f"the tokenizer {path} is damaged: {_line(error)}", _AGAIN) from error
    try:
        tokenizer = adopt(engine, _beginning(folder, stored, engine))
    except ValueError as error:
        raise UserError(
            f"the tokenizer {path} cannot be used: {error}", "start from a model with byte-level BPE (GPT-2, Llama 3)"
        ) from error
    size = tokenizer.vocab_size
    if size > rows or rows - size > MOST_PADDING:
        raise UserError(
            f"{path} has {size:,} tokens and the model beside it {rows:,}: they do not belong together",
            "put the tokenizer that the model was trained with beside it",
        )
    names = {index: name for name, index in tokenizer.specials.items()}
    for role in ("bos_token_id", "eos_token_id"):
        told = stored.get(role)
        for index in told if isinstance(told, list) else [told]:
            if isinstance(index, int) and index < rows and index not in names:
                raise UserError(
                    f"{folder / CONFIG} says {role} {index}, which is no special token of {path.name} beside it",
                    "put the tokenizer that the model was trained with beside it",
                )
    return tokenizer


def _beginning(folder: Path, stored: dict[str, Any], engine: Engine) -> str:
    """The special that documents begin with: the one that the folder's files say, or the only one there is."""
    beside = folder / "tokenizer_config.json"
    told = _json(beside) if beside.is_file() else {}
    for role in ("bos_token", "eos_token"):
        name = told.get(role)
        name = name.get("content") if isinstance(name, dict) else name
        if isinstance(name, str) and engine.token_to_id(name) is not None:
            return name
        index = stored.get(f"{role}_id")
        if isinstance(index, int) and index < engine.get_vocab_size() and (found := engine.id_to_token(index)):
            return str(found)
    specials = [str(token.content) for token in engine.get_added_tokens_decoder().values() if token.special]
    if len(specials) == 1:
        return specials[0]
    raise ValueError("nothing says which token documents begin with (bos_token in tokenizer_config.json)")


def _cut(model: Decoder, vocab_size: int) -> Decoder:
    """The same model without the rows of ids that no text has."""
    cut = Decoder(model.config, vocab_size)
    state = {
        name: tensor[:vocab_size] if name in ("embed.weight", "head.weight") else tensor
        for name, tensor in model.state_dict().items()
    }
    cut.load_state_dict(state)
    return cut


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {_line(error)}", "copy the folder again") from error
    if not isinstance(values, dict):
        raise RunError(f"{path} does not hold a JSON object", "copy the folder again")
    return values


def _line(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:300]}"
