"""The model in a checkpoint of a training, as one to talk to: its shape and vocabulary are those of what it lies in.

    STORE/.work/train-KEY/checkpoints/step-N        job.json two folders up
    ARTIFACT/provenance/checkpoint/step-N, best/    config.json and the vocabulary three folders up

Nothing is written and no lock is taken: a training that goes on is not disturbed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from lmcore.generate.model_files import ModelFile
from lmcore.models.io import CONFIG_FILE, WEIGHTS_FILE, load_config, model_of
from lmcore.models.lora import merged
from lmcore.models.network import Network
from lmcore.tokenizer import load_tokenizer
from lmcore.train.checkpoint import Weights, load_weights
from lmcore.train.optim import trainable
from lmcore.train.params import Job
from lmcore.train.start import first_weights
from storage.errors import RunError, UserError

JOB_FILE = "job.json"
_SAFETENSORS = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


def read_checkpoint(folder: Path) -> ModelFile:
    """The model as the run would leave it if it ended here, in evaluation mode, its vocabulary and where the run is.

    Raises UserError for a checkpoint without the job or artifact that it belongs to, RunError for a damaged one.
    """
    read = load_weights(folder)
    tensors = {name: tensor.float() for name, tensor in read.tensors.items()}
    of_adapters = bool(_part(read, "params").get("lora"))
    artifact, chat = _up(folder, 3), False
    if job := job_beside(folder):
        tokenizer = load_tokenizer(job.tokenizer)
        model = _of_job(folder, job, read, tensors, tokenizer.vocab_size)
    elif (artifact / CONFIG_FILE).is_file():
        if of_adapters:
            raise UserError(f"{folder} holds adapters alone", f"name {artifact}: there they are merged into the model")
        config, rows, chat = load_config(artifact)
        tokenizer = load_tokenizer(artifact)
        model = model_of(folder / WEIGHTS_FILE, config, rows, tensors, f"{CONFIG_FILE} of {artifact}")
    else:
        raise UserError(
            f"nothing says which model {folder} is of: it has no {CONFIG_FILE}, and there is no {JOB_FILE} two folders "
            "up",
            "name it where the training has it (STORE/.work/train-KEY/checkpoints/step-N), or name a trained model",
        )
    return ModelFile(model, tokenizer, _facts(folder, read, of_adapters=of_adapters), chat)


def job_beside(folder: Path) -> Job | None:
    """The job that a checkpoint or milestone in a work folder is of, its paths as they are now; None elsewhere.

    RunError for a job that cannot be read.
    """
    work = _up(folder, 2)
    path = work / JOB_FILE
    if not path.is_file():
        return None
    try:
        job = Job.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:  # pydantic's is a ValueError
        told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise RunError(
            f"{path} cannot be read: {' '.join(str(told).split())}", "use the version of collect-train that wrote it"
        ) from error
    start = job.start_from and _now_at(job.start_from, work)
    return job.model_copy(update={"tokenizer": _now_at(job.tokenizer, work), "start_from": start})


def _up(folder: Path, levels: int) -> Path:
    """The folder so many levels up, the topmost where there are fewer."""
    folder = folder.resolve()
    for _ in range(levels):
        folder = folder.parent
    return folder


def _part(read: Weights, name: str) -> dict[str, Any]:
    """A part of the state, empty where it is not what a checkpoint has: it has no checksum of its own."""
    found = read.state.get(name)
    return found if isinstance(found, dict) else {}


def _now_at(path: Path, work: Path) -> Path:
    """Where an artifact is now: a store may have been moved with the work folder in it."""
    moved = _up(work, 2).joinpath(*path.parts[-2:])  # STORE/STAGE/KEY
    return moved if moved.is_dir() and not path.is_dir() else path


def _of_job(folder: Path, job: Job, read: Weights, tensors: dict[str, Tensor], vocab_size: int) -> Network:
    params = job.params
    if _part(read, "params").get("model") != params.key_values()["model"]:
        raise RunError(
            f"{folder} belongs to a run with other settings than the {JOB_FILE} two folders up",
            "name a checkpoint of that job",
        )
    if not params.lora:
        return model_of(folder / WEIGHTS_FILE, params.model, vocab_size, tensors, f"the {JOB_FILE} two folders up")
    model = first_weights(job, vocab_size)  # frozen, with adapters beside
    adapters = trainable(model)
    if {name: p.shape for name, p in adapters.items()} != {name: t.shape for name, t in tensors.items()}:
        raise RunError(
            f"{folder / WEIGHTS_FILE} holds other adapters than its job has", "name a checkpoint of that job"
        )
    with torch.no_grad():
        for name, parameter in adapters.items():
            parameter.copy_(tensors[name])
    return merged(model).eval()


def _facts(folder: Path, read: Weights, *, of_adapters: bool) -> dict[str, Any]:
    at = _part(read, "position")
    return {
        "format": "checkpoint",
        "step": read.step,
        "tokens": at.get("tokens"),
        "progress": f"{at['progress']:.1%}" if isinstance(at.get("progress"), float) else None,
        "dtype": ", ".join(sorted({_SAFETENSORS.get(t.dtype, str(t.dtype)) for t in read.tensors.values()})),
        "bytes": (folder / WEIGHTS_FILE).stat().st_size,
        "adapters": "merged into what they were trained on" if of_adapters else None,
        "optimizer_inside": (folder / "optimizer.safetensors").is_file(),
    }
