"""A trained model as a Hugging Face folder, written without transformers: JSON, safetensors and one template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch

from lmcore.export.architectures import hf_config
from lmcore.export.card import model_card
from lmcore.export.tensors import hf_tensors
from lmcore.models.decoder import Decoder
from lmcore.tokenizer import Tokenizer
from storage.atomic import write_bytes, write_json, write_text

# The ids are those of `lmcore.generate.chat.marked_ids`, but for content that holds a marker: transformers reads it.
CHAT_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception('unknown role ' + message['role'] + ': use system, user or assistant') -}}"
    "{%- endif -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def write_hf(
    folder: Path,
    model: Decoder,
    tokenizer: Tokenizer,
    tokenizer_json: bytes,
    *,
    name: str,
    headline: dict[str, Any] | None = None,
) -> None:
    """Write the folder that transformers 4 and 5 load with AutoModelForCausalLM and AutoTokenizer.

    `tokenizer_json` is the tokenizer's own file, `headline` that of an evaluation.json for the model card. Raises
    UserError when no stock architecture computes what the model does, StorageError when the disk refuses.
    """
    config = hf_config(model.config, model.vocab_size, bos_id=tokenizer.bos_id, pad_id=tokenizer.pad_id)
    tensors = hf_tensors(model)
    # transformers 4 refuses a file that does not say it came from PyTorch.
    weights = safetensors.torch.save(tensors, metadata={"format": "pt"})
    write_bytes(folder / "model.safetensors", weights)
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", _generation(tokenizer))
    write_bytes(folder / "tokenizer.json", tokenizer_json)
    write_json(folder / "tokenizer_config.json", _tokenizer_config(tokenizer, model.config.context))
    if "<|end|>" in tokenizer.specials:  # kinds of vocabulary without the markers cannot chat
        write_text(folder / "chat_template.jinja", CHAT_TEMPLATE)
    card = model_card(
        name,
        config["architectures"][0],
        model.config,
        vocab_size=model.vocab_size,
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        n_bytes=len(weights),
        headline=headline,
    )
    write_text(folder / "README.md", card)


def _generation(tokenizer: Tokenizer) -> dict[str, Any]:
    """A text ends with its document or with the assistant's turn, whichever comes first."""
    return {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": [tokenizer.bos_id, *(i for name, i in tokenizer.specials.items() if name == "<|end|>")],
        "pad_token_id": tokenizer.pad_id,
        "do_sample": False,
    }


def _tokenizer_config(tokenizer: Tokenizer, context: int) -> dict[str, Any]:
    names = {index: name for name, index in tokenizer.specials.items()}
    bos, pad = names[tokenizer.bos_id], names[tokenizer.pad_id]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",  # without it transformers 4 guesses from the model's type
        "bos_token": bos,
        "eos_token": bos,
        "pad_token": pad,
        "unk_token": None if tokenizer.unk_id is None else names[tokenizer.unk_id],
        "additional_special_tokens": [name for name in tokenizer.specials if name not in (bos, pad)],
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,  # true would change spaces before punctuation when decoding
        "model_input_names": ["input_ids", "attention_mask"],  # no token_type_ids, which generate() refuses
        "model_max_length": context,
        "chat_template": CHAT_TEMPLATE,  # transformers below 4.50 reads it only here
    }
