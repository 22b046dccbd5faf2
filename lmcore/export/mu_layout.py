"""MU-SOTA's own files of a train artifact: `mu_sota_best.pt` and `mu_sota_tokenizer.json`.

mu_sota_best.pt         torch.save of {epoch, model_state_dict, config, perplexity}, and optimizer_state_dict where
                        the training has left it; plain tensors and plain values, for torch.load(weights_only=True)
mu_sota_tokenizer.json  for the library `tokenizers`; <PAD>, <UNK>, <BOS> and <EOS> are 0 to 3
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from lmcore.export.mu_reader import MODEL_END, NAME, TOKENIZER_END, read_checkpoint
from lmcore.generate.load import load
from lmcore.models.io import describe
from lmcore.models.mu import Mu
from lmcore.tokenizer.word_bpe import WordBPE
from lmcore.train import checkpoint
from lmcore.train.continued import KEPT
from lmcore.train.history import last_step
from storage.atomic import write_bytes, write_chunks
from storage.errors import RunError, UserError
from storage.parquet import read_parquet

_TOLD = "provenance/training.json"


@dataclass(frozen=True)
class _State:
    """One state of a training: its weights, and of its last optimizer step what is known."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor] | None
    step: int | None
    perplexity: float | None


def write_layout(model_dir: Path, output: Path, *, name: str = "") -> list[Path]:
    """Write `NAME_best.pt` and `NAME_tokenizer.json` into `output`, read them back, and give their paths.

    `model_dir` is a train artifact; NAME is `mu_sota` unless given. The model is the one with the fewest validation
    bits per byte where the training has kept it (`runtime.train.keep_best`), else the last. `perplexity` is that of
    the look at it, None where there was none. Raises UserError for a model or vocabulary of another family, RunError
    for damaged files or when what was written does not come back equal, StorageError when the disk refuses.
    """
    if model_dir.is_file():
        raise UserError(f"{model_dir} is one model", "name the train artifact, or a release, that it was written from")
    trained = load(model_dir)
    model, tokenizer = trained.model, trained.tokenizer
    if not isinstance(model, Mu):
        raise UserError(
            f"MU's file has no place for a model of the family {model.config.family}", "train model.family: mu"
        )
    if not isinstance(tokenizer, WordBPE):
        raise UserError(
            "MU's files have no place for this kind of vocabulary", "set tokenizer.kind: word_bpe and train again"
        )
    state = _best(model_dir) or _last(model_dir, model)
    told = _training(model_dir)
    contents: dict[str, Any] = {
        "epoch": _epoch(state.step, told.get("steps_per_epoch")),
        "step": state.step,
        "model_state_dict": state.weights,
        "config": describe(model, chat=trained.chat_tuned) | {"train": _settings(told)},
        "perplexity": state.perplexity,
    }
    if state.optimizer is not None:
        contents["optimizer_state_dict"] = state.optimizer
    path, vocabulary = (output / f"{name or NAME}{end}" for end in (MODEL_END, TOKENIZER_END))
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    buffer.seek(0)
    write_chunks(path, iter(lambda: buffer.read(2**20), b""))
    write_bytes(vocabulary, tokenizer.files()["tokenizer.json"])
    back = read_checkpoint(path)
    for part, tensors, wanted in (
        ("model_state_dict", back.model.state_dict(), state.weights),
        ("optimizer_state_dict", back.optimizer or {}, state.optimizer or {}),
    ):
        if tensors.keys() != wanted.keys() or not all(torch.equal(tensors[key], wanted[key]) for key in wanted):
            raise RunError(f"{path}: {part} did not come back as it was written", "check the disk and write it again")
    return [path, vocabulary]


def _best(model_dir: Path) -> _State | None:
    """The best checkpoint of the run; None where none was kept, or it holds adapters alone."""
    steps = checkpoint.steps_in(model_dir / checkpoint.BEST)
    if not steps:
        return None
    kept = checkpoint.load_step(model_dir / checkpoint.BEST, steps[-1], "run `collect-train verify`")
    if kept.state["params"].get("lora"):
        return None
    return _State(kept.model, kept.optimizer, kept.step, _perplexity(kept.tables["validation"], kept.step))


def _last(model_dir: Path, model: Mu) -> _State:
    """The model that the run has left, with the state of the optimizer where that was kept."""
    weights = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    looks, step = model_dir / "provenance" / "validation.parquet", last_step(model_dir)
    perplexity = _perplexity(read_parquet(looks), step) if looks.exists() else None
    steps = checkpoint.steps_in(model_dir / KEPT)
    if not steps:
        return _State(weights, None, step, perplexity)
    kept = checkpoint.load_step(model_dir / KEPT, steps[-1], "run `collect-train verify`")
    return _State(weights, None if kept.state["params"].get("lora") else kept.optimizer, step, perplexity)


def _perplexity(looks: pa.Table, step: int | None) -> float | None:
    """exp of the loss of the look at `step`; None where there was none, or it is no finite number."""
    found = dict(zip(looks["step"].to_pylist(), looks["loss"].to_pylist(), strict=True))
    loss = found.get(step, math.nan)
    return math.exp(loss) if loss < 700 else None


def _epoch(step: int | None, steps_per_epoch: int | None) -> float | None:
    """Passes over the training text after `step`: an int where they are whole."""
    if step is None or not steps_per_epoch:
        return None
    whole, rest = divmod(step, steps_per_epoch)
    return step / steps_per_epoch if rest else whole


def _training(model_dir: Path) -> dict[str, Any]:
    """What the run says of itself; nothing where it is gone."""
    try:
        told = json.loads((model_dir / _TOLD).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RunError(f"{model_dir / _TOLD} cannot be read: {error}", "run `collect-train verify`") from error
    return told if isinstance(told, dict) else {}


def _settings(told: dict[str, Any]) -> dict[str, Any]:
    settings = (told.get("data") or {}).get("settings") or {}
    return {name: value for name, value in settings.items() if name != "model"}
