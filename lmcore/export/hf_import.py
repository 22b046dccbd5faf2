"""A Hugging Face folder that somebody else made, as our decoder and tokenizer: GPT, GPT-2, Llama, Qwen3, Arcee.

Only safetensors are read, and only what computes exactly the same here: whatever of a config our decoder does not have
is refused by name. The shapes of the tensors are compared before a model is built, so its size is that of the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer as Engine
from torch import Tensor

from lmcore.export.hf_config import AGAIN, ANOTHER, AddedToken
from lmcore.export.hf_folder import CONFIG, TOKENIZER, Folder, line, open_folder
from lmcore.export.hf_reader import gpt_state, llama_state
from lmcore.models.config import DecoderConfig
from lmcore.models.decoder import Decoder
from lmcore.tokenizer import Tokenizer
from lmcore.tokenizer.engines import read_engine
from lmcore.tokenizer.imported import Adopted, adopt
from storage.errors import RunError, UserError

MOST_PADDING = 1024  # rows of the embedding beyond the tokenizer's: vocabularies are padded to round numbers


@dataclass(frozen=True)
class Imported:
    """A model in evaluation mode on the CPU (float32), its vocabulary, and what was left out, in words."""

    model: Decoder
    tokenizer: Tokenizer
    notes: tuple[str, ...]


def import_hf(source: Path | Folder, own: Tokenizer | None = None) -> Imported:
    """The model and the vocabulary of a Hugging Face folder.

    `own` is its vocabulary where that is of a kind of this program, as in an export of ours; any other is adopted.
    Raises UserError for what is not safetensors, not of a shape that our decoder has, or where tokenizer and model do
    not belong together; RunError for a damaged file.
    """
    folder = open_folder(source) if isinstance(source, Path) else source
    config = folder.shape.decoder(str(folder.path / CONFIG))
    notes: tuple[str, ...]
    tokenizer: Tokenizer
    tokenizer, notes = (own, ()) if own is not None else _adopted(folder)
    _must_belong(folder, tokenizer)
    rows = folder.shape.vocab_size
    state = _state(folder, config, rows)
    if padding := rows - tokenizer.vocab_size:
        notes = (*notes, f"{padding} rows of padding beyond the vocabulary are left out")
        for name in {"embed.weight", "head.weight"} & state.keys():
            state[name] = state[name][: tokenizer.vocab_size].clone()
    with torch.device("meta"):
        model = Decoder(config, tokenizer.vocab_size)
    model.load_state_dict(state, assign=True)
    return Imported(model.eval(), tokenizer, notes)


def _state(folder: Folder, config: DecoderConfig, rows: int) -> dict[str, Tensor]:
    """The parameters of our decoder. Raises RunError when the tensors are not those that the config asks for."""
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in Decoder(config, rows).state_dict().items()}
    tensors = folder.weights()
    kind, misfit = folder.shape.kind, f"the weights in {folder.path} do not fit its {CONFIG}"
    if kind == "gpt2" and "wte.weight" in tensors:  # saved from the bare GPT2Model, as OpenAI's on the hub
        tensors = {f"transformer.{name}": tensor for name, tensor in tensors.items()}
    head = tensors.pop("lm_head.weight", None)
    try:
        gpt = config.norm == "layer"
        if not gpt and config.bias:
            _fill_biases(tensors, config)
        state = gpt_state(tensors, config) if gpt else llama_state(tensors, config)
        if not config.tie_embeddings:
            if head is None:
                raise KeyError("lm_head.weight")
            state["head.weight"] = head
    except (KeyError, RuntimeError, IndexError, TypeError) as error:  # a tensor of another rank cannot be turned
        raise RunError(f"{misfit}: {line(error)}", AGAIN) from error
    for name, shape in wanted.items():
        if name not in state or state[name].shape != shape:
            found = tuple(state[name].shape) if name in state else "missing"
            raise RunError(f"{misfit}: {name} is {found}, not {tuple(shape)}", AGAIN)
    if head is not None and config.tie_embeddings and not torch.equal(head, state["embed.weight"]):
        raise RunError(f"{folder.path} has an lm_head.weight, and its {CONFIG} says tie_word_embeddings", AGAIN)
    if tensors:
        raise UserError(f"{folder.path} holds {min(tensors)}, which our decoder has no place for", ANOTHER)
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _fill_biases(tensors: dict[str, Tensor], config: DecoderConfig) -> None:
    """Zeros where only attention or only the MLP has biases: they change nothing."""
    parts = ["mlp.up_proj", "mlp.down_proj", *(f"self_attn.{letter}_proj" for letter in "qkvo")]
    for layer in range(config.n_layers):
        for part in [*parts, *(["mlp.gate_proj"] if config.mlp == "swiglu" else [])]:
            name = f"model.layers.{layer}.{part}"
            if f"{name}.weight" in tensors:
                tensors.setdefault(f"{name}.bias", torch.zeros(len(tensors[f"{name}.weight"])))


def _adopted(folder: Folder) -> Adopted:
    path = folder.path / TOKENIZER
    try:
        engine = read_engine(folder.tokenizer)
    except ValueError as error:
        raise RunError(f"the tokenizer {path} is damaged: {line(error)}", AGAIN) from error
    try:
        return adopt(engine, _beginning(folder, engine))
    except ValueError as error:
        raise UserError(
            f"the tokenizer {path} cannot be used: {error}", "start from a model with byte-level BPE (GPT-2, Llama 3)"
        ) from error


def _must_belong(folder: Folder, tokenizer: Tokenizer) -> None:
    """UserError when the vocabulary is not the one that the model was trained with."""
    path, rows = folder.path / TOKENIZER, folder.shape.vocab_size
    size = tokenizer.vocab_size
    if size > rows or rows - size > MOST_PADDING:
        raise UserError(
            f"{path} has {size:,} tokens and the model beside it {rows:,}: they do not belong together",
            "put the tokenizer that the model was trained with beside it",
        )
    specials = set(tokenizer.specials.values())
    for role in ("bos_token_id", "eos_token_id"):
        told = getattr(folder.shape, role)
        for index in told if isinstance(told, list) else [told]:
            if index is not None and 0 <= index < rows and index not in specials:
                raise UserError(
                    f"{folder.path / CONFIG} says {role} {index}, which is no special token of {path.name} beside it",
                    "put the tokenizer that the model was trained with beside it",
                )


def _beginning(folder: Folder, engine: Engine) -> str:
    """The special that documents begin with: the one that the folder's files say, or the only one there is."""
    for role in ("bos_token", "eos_token"):
        told = getattr(folder.beside, role)
        name = told.content if isinstance(told, AddedToken) else told
        if name is not None and engine.token_to_id(name) is not None:
            return str(name)
        index = getattr(folder.shape, f"{role}_id")
        if isinstance(index, int) and index >= 0 and (found := engine.id_to_token(index)):
            return str(found)
    specials = [str(token.content) for token in engine.get_added_tokens_decoder().values() if token.special]
    if len(specials) == 1:
        return specials[0]
    raise ValueError("nothing says which token documents begin with (bos_token in tokenizer_config.json)")
