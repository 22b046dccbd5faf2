"""Checkpoints that a kill cannot ruin: a folder appears at once, whole, or not at all.

    work/checkpoints/step-00000123/
        model.safetensors       fp32 weights
        optimizer.safetensors   moments and momenta
        metrics.parquet ...     what the run remembers: the tables of history.py
        state.json              where the run is, and size and sha256 of the other files; written last

Read back, every file is compared with state.json; a checkpoint that differs is set aside and the one before is used.
No file here is pickled.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from lmcore.models.io import WEIGHTS_FILE
from storage.atomic import disk_errors, publish_folder, write_json
from storage.digest import digest_file
from storage.errors import RunError
from storage.parquet import read_parquet, write_parquet

FORMAT = 1
STATE = "state.json"
BEST = "provenance/best"  # in what a run leaves, where runtime.train.keep_best asks for it
DAMAGED = "damaged-"


@dataclass(frozen=True)
class Snapshot:
    """Everything a run needs to go on. `state` is plain JSON and belongs to the loop."""

    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    tables: dict[str, pa.Table]
    state: dict[str, Any]

    def copied(self) -> Snapshot:
        """The same with tensors of its own in main memory, which training does not change."""
        model, optimizer = (
            {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
            for tensors in (self.model, self.optimizer)
        )
        return replace(self, model=model, optimizer=optimizer)


class Weights(NamedTuple):
    """The model's part of a checkpoint, in memory of its own."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Writing(threading.Thread):
    """One checkpoint being written while training goes on."""

    def __init__(self, write: Callable[[], object]) -> None:
        super().__init__(name="checkpoint")
        self._write = write
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Write; an error is kept for who waits."""
        try:
            self._write()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that trains
            self._error = error

    def wait(self) -> None:
        """Return when it is on the disk. Raises what the write raised."""
        self.join()
        if self._error is not None:
            raise self._error


def save(folder: Path, snapshot: Snapshot, keep: int, protects: Callable[[int], bool] = lambda _: False) -> Path:
    """Write `snapshot` under `folder` and drop all but the newest `keep` and those whose step `protects`.

    Raises StorageError naming the path when the disk refuses; the checkpoints before stay as they were.
    """
    final = _folder(folder, snapshot.step)
    part = folder / f".{final.name}.part"
    with disk_errors(part):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            _write(part, snapshot)
            publish_folder(part, final, "train.checkpoint")
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        for old in _finished(folder)[:-keep]:
            if not protects(_step(old)):
                shutil.rmtree(old)
    return final


def name_of(step: int) -> str:
    """The name of the folder of the checkpoint of that step."""
    return f"step-{step:08d}"


def steps_in(folder: Path) -> list[int]:
    """The steps whose checkpoints are in `folder`, in order."""
    return [_step(path) for path in _finished(folder)]


def load_step(folder: Path, step: int, mend: str = "") -> Snapshot:
    """The checkpoint of that step. RunError, which says `mend`, when it is not there or damaged."""
    path = _folder(folder, step)
    try:
        return _read(path)
    except _DamagedError as damage:
        raise RunError(
            f"checkpoint {path} is damaged ({damage})", mend or f"remove {folder.parent} to start afresh"
        ) from None


def load_weights(folder: Path) -> Weights:
    """The model's part of one checkpoint, wherever it lies. RunError when it is damaged, or gone meanwhile."""
    try:
        files, step, inner = _told(folder)
        if not isinstance(files.get(WEIGHTS_FILE), dict):
            raise _DamagedError(f"{STATE} does not name {WEIGHTS_FILE}")
        _check(folder / WEIGHTS_FILE, files[WEIGHTS_FILE])
        tensors = safetensors.torch.load_file(folder / WEIGHTS_FILE)
        return Weights(step, {name: tensor.clone() for name, tensor in tensors.items()}, inner)
    except (_DamagedError, SafetensorError, OSError, KeyError) as error:
        raise RunError(
            f"checkpoint {folder} is damaged ({' '.join(str(error).split())})",
            "name another one beside it; a training that goes on drops its old ones, and sets damaged ones aside",
        ) from error


def drop_after(folder: Path, step: int) -> None:
    """Remove every checkpoint of a later step: the run takes another way from there."""
    with disk_errors(folder):
        for path in reversed(_finished(folder)):  # the newest first: a kill in between leaves no gap
            if _step(path) > step:
                shutil.rmtree(path)


def load_newest(folder: Path, say: Callable[[str], None]) -> Snapshot | None:
    """The newest checkpoint that is whole, or None; damaged ones are set aside, each with one line to `say`."""
    with disk_errors(folder):
        for part in folder.glob(".step-*.part"):
            shutil.rmtree(part)
        for found in reversed(_finished(folder)):
            try:
                return _read(found)
            except _DamagedError as damage:
                aside = _aside(found)
                found.rename(aside)
                say(f"checkpoint {found.name} is damaged ({damage}); set aside as {aside.name}, using the one before")
    return None


class _DamagedError(Exception):
    """A checkpoint is not what its state.json says."""


def _write(part: Path, snapshot: Snapshot) -> None:
    for name, tensors in (("model", snapshot.model), ("optimizer", snapshot.optimizer)):
        # Through Python's own write, so that a full disk is an OSError with a number and not a message.
        data = safetensors.torch.save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
        (part / f"{name}.safetensors").write_bytes(data)
    for name, table in snapshot.tables.items():
        write_parquet(part / f"{name}.parquet", table)
    files = {path.name: {"size": path.stat().st_size, "sha256": digest_file(path)} for path in sorted(part.iterdir())}
    write_json(part / STATE, {"format": FORMAT, "step": snapshot.step, "files": files, "state": snapshot.state})


def _read(folder: Path) -> Snapshot:
    files, step, inner = _told(folder)
    for name, expected in files.items():
        _check(folder / name, expected)
    return Snapshot(
        step=step,
        model=safetensors.torch.load_file(folder / WEIGHTS_FILE),
        optimizer=safetensors.torch.load_file(folder / "optimizer.safetensors"),
        tables={path.stem: read_parquet(path) for path in folder.glob("*.parquet")},
        state=inner,
    )


def _told(folder: Path) -> tuple[dict[str, Any], int, dict[str, Any]]:
    """What `state.json` says: the other files, the step, where the run is."""
    try:
        state = json.loads((folder / STATE).read_bytes())
        files, step, inner = dict(state["files"]), int(state["step"]), dict(state["state"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _DamagedError(f"{STATE} cannot be read") from error
    if state.get("format") != FORMAT:
        raise RunError(
            f"{folder} has checkpoint format {state.get('format')}, this program reads {FORMAT}",
            f"remove {folder.parent.parent} to start afresh, or resume with the version that wrote it",
        )
    return files, step, inner


def _check(path: Path, expected: dict[str, Any]) -> None:
    if not path.is_file():
        raise _DamagedError(f"{path.name} is missing")
    if path.stat().st_size != expected["size"]:
        raise _DamagedError(f"{path.name} has {path.stat().st_size} bytes, not {expected['size']}")
    if digest_file(path) != expected["sha256"]:
        raise _DamagedError(f"{path.name} has other bytes than were written")


def _finished(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _folder(folder: Path, step: int) -> Path:
    return folder / name_of(step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _aside(found: Path) -> Path:
    number = 1
    while (aside := found.with_name(f"{DAMAGED}{found.name}-{number}")).exists():
        number += 1
    return aside
