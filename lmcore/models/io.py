"""A model on disk: `config.json` (its shape) and `model.safetensors` (its weights, float32). No pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError

from lmcore.models import build
from lmcore.models.families import FAMILIES, ModelConfig
from lmcore.models.network import Network
from storage.atomic import write_bytes, write_json
from storage.errors import RunError

FORMAT = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_AGAIN = "copy the folder again, or build it again; `collect-train verify` finds damaged artifacts"


class Stored(NamedTuple):
    """What `config.json` says."""

    config: ModelConfig
    vocab_size: int
    chat: bool  # trained on turns between chat markers


def save_model(folder: Path, model: Network, *, chat: bool = False) -> None:
    """Write `config.json` and `model.safetensors` (F32) into `folder`; equal models give equal bytes.

    A tied head is not written a second time. `chat` marks a model that was trained on turns between chat markers.
    StorageError when the disk refuses.
    """
    tensors = {
        name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in model.state_dict().items()
    }
    write_bytes(folder / WEIGHTS_FILE, safetensors.torch.save(tensors, metadata={"format": "pt"}))
    write_json(folder / CONFIG_FILE, describe(model, chat=chat))


def describe(model: Network, *, chat: bool = False) -> dict[str, Any]:
    """What `config.json` says of a model, as plain JSON; `described_config` reads it."""
    described = {
        "format": FORMAT,
        "family": model.config.family,
        "model": model.config.key_values(),
        "vocab_size": model.vocab_size,
    }
    return described | ({"chat": True} if chat else {})


def load_model(folder: Path, device: str | torch.device = "cpu") -> Network:
    """The model in `folder`, in evaluation mode. RunError names the file that is missing, damaged or does not fit."""
    config, vocab_size, _ = load_config(folder)
    path = folder / WEIGHTS_FILE
    return model_of(path, config, vocab_size, _read_weights(path)).to(device)


def model_of(
    path: Path,
    config: ModelConfig,
    vocab_size: int,
    tensors: dict[str, torch.Tensor],
    of: str = f"{CONFIG_FILE} beside it",
) -> Network:
    """The model that has these tensors, in evaluation mode; it keeps them.

    RunError when they are not those of the shape, naming `path`, where they are from, and `of`, where the shape is.
    """
    model = empty_model(config, vocab_size)
    _must_match(path, {name: p.shape for name, p in model.state_dict().items()}, tensors, of)
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def empty_model(config: ModelConfig, vocab_size: int) -> Network:
    """A model whose tensors have names and shapes and no numbers yet: for `load_state_dict(..., assign=True)`."""
    with torch.device("meta"):
        return build(config, vocab_size, 0)


def load_config(folder: Path) -> Stored:
    """What `config.json` says. RunError for a missing or unreadable file, an unknown format or family."""
    path = folder / CONFIG_FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(
            f"there is no {path}", "name the folder of a trained model, such as the train artifact"
        ) from error
    except (ValueError, OSError) as error:
        raise RunError(f"{path} cannot be read: {_line(error)}", _AGAIN) from error
    return described_config(path, stored)


def described_config(path: Path, stored: object) -> Stored:
    """What `describe` gave, read from the file at `path`. RunError for an unknown format or family, or no shape."""
    if not isinstance(stored, dict) or "format" not in stored or "family" not in stored:
        raise RunError(
            f"{path} is not a model of collect-train: it has no `format` and `family`",
            "name a folder that a train stage left; of a Hugging Face folder it is `model_type` that tells its shape",
        )
    if stored["format"] != FORMAT or stored["family"] not in FAMILIES:
        raise RunError(
            f"{path} is a model of format {stored['format']!r}, family {stored['family']!r}; this version reads "
            f"format {FORMAT}, family {' or '.join(map(repr, FAMILIES))}",
            "use the version of collect-train that wrote it",
        )
    return _config_of(path, stored)


def _config_of(path: Path, stored: dict[str, Any]) -> Stored:
    try:
        config = FAMILIES[stored["family"]].model_validate(stored.get("model"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("model", *first["loc"]))
        raise RunError(f"{path} describes no {stored['family']}: {where}: {first['msg']}", _AGAIN) from error
    vocab_size = stored.get("vocab_size")
    if not isinstance(vocab_size, int) or isinstance(vocab_size, bool) or vocab_size < 1:
        raise RunError(f"{path}: vocab_size is {vocab_size!r}, not a positive number", _AGAIN)
    return Stored(config, vocab_size, stored.get("chat") is True)


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        # Cloned: load_file maps the file, and a model must not change or die when its file does.
        return {name: tensor.clone() for name, tensor in safetensors.torch.load_file(path).items()}
    except FileNotFoundError as error:
        raise RunError(f"there is no {path}", _AGAIN) from error
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is truncated or damaged: {_line(error)}", _AGAIN) from error


def _must_match(path: Path, wanted: dict[str, torch.Size], found: dict[str, torch.Tensor], of: str) -> None:
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is not of this model" for name in found if name not in wanted]
    for name, shape in wanted.items():
        tensor = found.get(name)
        if tensor is not None and (tensor.shape != shape or tensor.dtype != torch.float32):
            problems.append(f"{name} is {tensor.dtype} {tuple(tensor.shape)}, not torch.float32 {tuple(shape)}")
    if problems:
        more = f" and {len(problems) - 1} more differences" if len(problems) > 1 else ""
        raise RunError(f"{path} does not fit {of}: {problems[0]}{more}", _AGAIN)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
