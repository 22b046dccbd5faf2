"""The files of a foreign Hugging Face folder, each known by its digest: what is read later is what was hashed.

The small files are read once and kept. The weights are hashed first, since most often the store has the model already,
and read when it has not; a file that is another by then is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from lmcore.export.hf_config import AGAIN, GPT, GPT2, Index, Llama, TokenizerConfig, read_json, read_shape
from storage.digest import digest_file
from storage.errors import RunError, UserError

CONFIG, TOKENIZER, WEIGHTS, INDEX = "config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
COPY = "copy the folder again"
_NOT_WEIGHTS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")  # buffers that old versions saved


@dataclass(frozen=True)
class Folder:
    """A folder whose files were read or hashed once."""

    path: Path
    shape: GPT | GPT2 | Llama
    tokenizer: bytes
    beside: TokenizerConfig
    shards: tuple[str, ...]
    digests: dict[str, str]  # sha256 of every file that is read, by name

    def weights(self) -> dict[str, Tensor]:
        """All tensors by name, in float32 and in memory of their own.

        Raises RunError for a file that is damaged, has changed, or holds what another one has; UserError for numbers
        that are quantised.
        """
        tensors: dict[str, Tensor] = {}
        for name, tensor in self._tensors():
            if name in tensors:
                raise RunError(f"{self.path}: two of its files hold {name}", AGAIN)
            if tensor.dtype not in FLOATS:
                raise UserError(
                    f"{self.path}: {name} is {tensor.dtype}: quantised weights cannot be trained on",
                    "start from the model in bfloat16",
                )
            tensors[name] = tensor.to(torch.float32, copy=True)
        return tensors

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for shard in self.shards:
            path = self.path / shard
            content = _read(path)
            if hashlib.sha256(content).hexdigest() != self.digests[shard]:
                raise RunError(f"{path} changed while it was read", "run again when nobody writes to the folder")
            try:
                found = safetensors.torch.load(content)
            except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:  # KeyError: a new dtype
                raise RunError(f"{path} is truncated or damaged: {line(error)}", COPY) from error
            del content
            yield from ((name, found[name]) for name in sorted(found) if not name.endswith(_NOT_WEIGHTS))


def open_folder(path: Path) -> Folder:
    """The folder and the digests of its files.

    Raises UserError when it has no safetensors or no tokenizer.json, or is of a shape that our decoder has not;
    RunError for a file that is damaged.
    """
    if not (path / CONFIG).is_file():
        raise UserError(
            f"{path} is no Hugging Face folder: it has no {CONFIG}", "name the folder that save_pretrained wrote"
        )
    if not (path / TOKENIZER).is_file():
        raise UserError(f"{path} has no {TOKENIZER}: ids without their vocabulary mean nothing", AGAIN)
    small = {name: _read(path / name) for name in (CONFIG, TOKENIZER)}
    small |= {name: _read(path / name) for name in (TOKENIZER_CONFIG,) if (path / name).is_file()}
    shards, index = _shards(path)
    if index is not None:
        small[INDEX] = index
    shape = read_shape(small[CONFIG], str(path / CONFIG))
    beside = read_json(TokenizerConfig, small.get(TOKENIZER_CONFIG, b"{}"), path / TOKENIZER_CONFIG)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in small.items()}
    for name in shards:
        try:
            digests[name] = digest_file(path / name)
        except OSError as error:
            raise RunError(f"{path / name} is missing or cannot be read: {line(error)}", COPY) from error
    return Folder(path, shape, small[TOKENIZER], beside, shards, digests)


def line(error: Exception) -> str:
    """An error of a library, on one line."""
    return f"{type(error).__name__} {' '.join(str(error).split())[:300]}"


def _shards(path: Path) -> tuple[tuple[str, ...], bytes | None]:
    """The files of the weights, and the bytes of the index that names them."""
    if (path / WEIGHTS).is_file():
        return (WEIGHTS,), None
    if not (path / INDEX).is_file():
        pickled = sorted(each.name for pattern in ("*.bin", "*.pt", "*.pth") for each in path.glob(pattern))
        told = f" ({pickled[0]} is pickled: reading it could run whatever it says)" if pickled else ""
        raise UserError(f"{path} has no {WEIGHTS}{told}", AGAIN)
    content = _read(path / INDEX)
    names = sorted(set(read_json(Index, content, path / INDEX).weight_map.values()))
    if odd := [
        name for name in names if Path(name).name != name or "\0" in name or Path(name).suffix != ".safetensors"
    ]:
        raise UserError(f"{path / INDEX} names {odd[0]!r}, which is no safetensors file beside it", AGAIN)
    return tuple(names), content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {line(error)}", COPY) from error
