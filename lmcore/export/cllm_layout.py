"""The folder that CLLM's document promises, from a train artifact: checkpoint_step_N.cllm, vocab.txt, dataset.bin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lmcore.export.cllm import contents, write_cllm
from lmcore.models.io import load_config, load_model
from lmcore.tokenizer import Tokenizer, load_tokenizer
from lmcore.tokens.dataset_bin import write_dataset_bin
from lmcore.train import checkpoint, milestones
from lmcore.train.continued import KEPT
from lmcore.train.history import last_step
from storage.atomic import write_bytes
from storage.errors import UserError
from storage.manifest import read_manifest
from storage.store import Artifact

NAME = "crystalline"  # of the document's model
HAS_STATE = True  # `optimizer` may be asked for


def write_layout(
    model_dir: Path, output: Path, *, name: str = "", tokens: Path | None = None, optimizer: bool = False
) -> list[Path]:
    """Write the files of CLLM's checkpoint folder into `output` and give their paths, the checkpoints first, by step.

    `model_dir` is a train artifact: every milestone in it (`train.milestone_every`) is a checkpoint, and so is its last
    model. With `optimizer` the last one has the state of the optimizer inside. `vocab.txt` is written for a vocabulary
    of words; `dataset.bin` is the training split of `tokens`, a tokens artifact, or else of the one that the model's
    manifest names. Where that is not in the store any more there is no `dataset.bin`.

    `name` is the one in the files' headers. Raises UserError when `model_dir` is a file, or `optimizer` is asked for
    and the run has left no state (`runtime.train.keep_state`), RunError for damaged files, StorageError when the disk
    refuses.
    """
    if model_dir.is_file():
        raise UserError(f"{model_dir} is one model", "name the train artifact, or a release, that has its checkpoints")
    tokenizer = load_tokenizer(_input(model_dir, "tokenizer") or model_dir)  # there the words have their counts
    last = last_step(model_dir) or 0
    state = _state(model_dir) if optimizer else None
    folders = dict(milestones.found(model_dir / milestones.FOLDER)) | {last: model_dir}
    written = [
        _checkpoint(folder, output, step, name or NAME, tokenizer, state if step == last else None)
        for step, folder in sorted(folders.items())
    ]
    if vocabulary := tokenizer.files().get("vocab.txt"):
        write_bytes(output / "vocab.txt", vocabulary)
        written.append(output / "vocab.txt")
    if tokens := tokens or _input(model_dir, "tokens"):
        write_dataset_bin(tokens, "train", output / "dataset.bin")
        written.append(output / "dataset.bin")
    return written


def checkpoint_name(step: int) -> str:
    """The name of the file of the model after `step` optimizer steps."""
    return f"checkpoint_step_{step}.cllm"


def _checkpoint(
    folder: Path, output: Path, step: int, name: str, tokenizer: Tokenizer, state: Mapping[str, Tensor] | None
) -> Path:
    chat = load_config(folder).chat
    made = contents(load_model(folder), tokenizer, step=step, name=name, optimizer=state, chat=chat)
    path = output / checkpoint_name(step)
    write_cllm(path, made)
    return path


def _state(model_dir: Path) -> Mapping[str, Tensor]:
    kept = model_dir / KEPT
    steps = checkpoint.steps_in(kept)
    if not steps:
        raise UserError(
            f"{model_dir} has no state of the optimizer",
            "train with runtime.train.keep_state: true, or write the checkpoint without it",
        )
    kept_last = checkpoint.load_step(kept, steps[-1], "run `collect-train verify`, or go without the state")
    if kept_last.state["params"].get("lora"):
        raise UserError(
            f"{model_dir} was trained with train.lora: the optimizer's state is of adapters, which are merged by now",
            "write the checkpoint without it",
        )
    return kept_last.optimizer


def _input(model_dir: Path, stage: str) -> Path | None:
    """The folder of the artifact of `stage` that a model was made with, None where nobody knows or it is gone."""
    manifest = read_manifest(model_dir)
    found = () if manifest is None else manifest.provenance.inputs
    root = model_dir.absolute().parents[1]
    folders = (Artifact(entry.stage, entry.key, str(root)).path for entry in found if entry.stage == stage)
    return next((folder for folder in folders if read_manifest(folder)), None)
