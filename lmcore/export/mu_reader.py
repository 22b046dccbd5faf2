"""Reading MU's `mu_sota_best.pt`: a zip of `torch.save`, read with `weights_only=True` after every byte was checked."""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmcore.export.whole import NotWholeError, blank_model, must_be
from lmcore.generate.model_files import ModelFile
from lmcore.models.io import described_config
from lmcore.models.mu import Mu
from lmcore.models.mu_config import MuConfig
from lmcore.tokenizer import Tokenizer, load_tokenizer
from storage.errors import RunError, UserError

MODEL_END, TOKENIZER_END = "_best.pt", "_tokenizer.json"
NAME = "mu_sota"
MEND = "copy the file again, or write it again from the train artifact"
_ALONE = "put the tokenizer that was written with it beside it"
_PLAIN = (str, int, float, bool, type(None))
_DEEPEST = 32  # of dicts and lists within each other


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds; `optimizer` is what `lmcore.train.optim.Optimizer.load` takes, None where it has none."""

    model: Mu
    epoch: float | None
    perplexity: float | None
    config: dict[str, Any]
    chat: bool
    optimizer: dict[str, Tensor] | None


def read_mu(path: Path) -> ModelFile:
    """The model in `path` with the tokenizer beside it. UserError as `read_checkpoint`, or without a tokenizer."""
    read = read_checkpoint(path)
    tokenizer = _tokenizer(tokenizer_path(path))
    if tokenizer.vocab_size > read.model.vocab_size:
        told = f"{tokenizer_path(path)} has {tokenizer.vocab_size:,} tokens, the model in {path.name} has "
        raise UserError(f"{told}{read.model.vocab_size:,}", _ALONE)
    facts: dict[str, Any] = {"format": ".pt", "epoch": read.epoch, "perplexity": read.perplexity}
    facts |= {"bytes": path.stat().st_size, "optimizer_inside": read.optimizer is not None}
    return ModelFile(read.model, tokenizer, facts, read.chat)


def tokenizer_path(path: Path) -> Path:
    """Where the tokenizer of a model file is: `X_tokenizer.json` beside `X_best.pt`, else MU's own name."""
    stem = path.name.removesuffix(MODEL_END) if path.name.endswith(MODEL_END) else NAME
    return path.with_name(stem + TOKENIZER_END)


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in `path`, its model in evaluation mode on the CPU. Nothing but tensors and plain values is read.

    Raises UserError for a file that is not there, is cut short, or holds something else.
    """
    with must_be(path, "no whole checkpoint of MU", MEND):
        _check_zip(path)
        return _checkpoint(path, _load(path))


def _check_zip(path: Path) -> None:
    """Every byte of the parts against its checksum; nothing is packed, so no part is larger than the file."""
    try:
        with zipfile.ZipFile(path) as parts:
            for part in parts.infolist():
                if part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size:
                    raise NotWholeError(f"its part {part.filename[:80]!r} is packed, which torch.save never does")
            damaged = parts.testzip()
    except (OSError, NotWholeError):
        raise
    except Exception as error:  # the library raises a dozen kinds for what can be wrong with a zip
        raise NotWholeError(f"it is no whole zip file: {_line(error)}") from error
    if damaged is not None:
        raise NotWholeError(f"its part {damaged[:80]!r} has other bytes than were written")


def _load(path: Path) -> dict[str, Any]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a pickle can be wrong in as many ways as Python has errors
        raise NotWholeError(f"torch.load(weights_only=True) does not read it: {_line(error)}") from error
    names = ("epoch", "model_state_dict", "config", "perplexity")
    if type(found) is not dict or any(name not in found for name in names):
        raise NotWholeError(f"it has no {', '.join(names)}")
    return found


def _checkpoint(path: Path, found: dict[str, Any]) -> Checkpoint:
    for name in ("epoch", "perplexity"):
        if type(found[name]) not in (int, float, type(None)):
            raise NotWholeError(f"its {name} is no number")
    if type(found["config"]) is not dict or not _is_plain(found["config"]):
        raise NotWholeError("its config is not of plain values, by name")
    stored = described_config(path, found["config"])
    if not isinstance(stored.config, MuConfig):
        raise NotWholeError(f"it is a model of the family {stored.config.family}, not mu")
    model = blank_model(stored.config, stored.vocab_size)
    assert isinstance(model, Mu)
    weights = _tensors("model_state_dict", found["model_state_dict"])
    _must_match({name: tensor.shape for name, tensor in model.state_dict().items()}, weights)
    model.load_state_dict(weights, assign=True)
    state = found.get("optimizer_state_dict")
    optimizer = None if state is None else _tensors("optimizer_state_dict", state)
    return Checkpoint(model.eval(), found["epoch"], found["perplexity"], found["config"], stored.chat, optimizer)


def _tensors(part: str, found: object) -> dict[str, Tensor]:
    """Tensors by name with memory of their own. NotWholeError for anything else in their place."""
    if not isinstance(found, dict):
        raise NotWholeError(f"its {part} is no dict")
    tensors = {}
    for name, tensor in found.items():
        if type(name) is not str or type(tensor) is not Tensor:
            raise NotWholeError(f"its {part} holds something else than tensors by name")
        if tensor.device.type != "cpu" or tensor.layout != torch.strided or not tensor.is_contiguous():
            raise NotWholeError(f"{name[:80]} is no tensor with numbers of its own")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise NotWholeError(f"{name[:80]} holds NaN or infinity")
        tensors[name] = tensor.detach().clone()
    return tensors


def _must_match(wanted: dict[str, torch.Size], found: dict[str, Tensor]) -> None:
    for name in (*wanted, *found):
        if name not in found:
            raise NotWholeError(f"{name} is missing")
        if name not in wanted:
            raise NotWholeError(f"{name[:80]} is not of its model")
        if found[name].shape != wanted[name] or found[name].dtype != torch.float32:
            has = f"{found[name].dtype} {tuple(found[name].shape)}"
            raise NotWholeError(f"{name} is {has}, not torch.float32 {tuple(wanted[name])}")


def _is_plain(value: object, depth: int = 0) -> bool:
    if type(value) is dict:
        values = [*value.values()] if all(type(name) is str for name in value) else [object()]
    elif type(value) is list:
        values = value
    else:
        return type(value) in _PLAIN
    return depth < _DEEPEST and all(_is_plain(each, depth + 1) for each in values)


def _tokenizer(path: Path) -> Tokenizer:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}, the tokenizer of the model: {error.strerror}", _ALONE) from error
    with tempfile.TemporaryDirectory(prefix="mu-") as folder:  # tokenizers are read from folders
        copy = Path(folder, "tokenizer.json")
        copy.write_bytes(content)
        try:
            return load_tokenizer(Path(folder))
        except RunError as error:
            raise UserError(error.what.replace(str(copy), str(path)), MEND) from error


def _line(error: Exception) -> str:
    """The first sentence of what a library says: torch's own advice to load without care is no help."""
    first = (str(error).splitlines() or [""])[0].split(". ")[0]
    return f"{type(error).__name__}: {first}"[:200] if first else type(error).__name__
