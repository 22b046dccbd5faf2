"""Milestones: the models of step 0, of every so many steps and of the end of each named stage of a curriculum, which a
run leaves beside its last one.

    work/milestones/step_1000/      config.json and model.safetensors, as the run would leave them if it ended here
    out/checkpoints/step_1000/      the same files and those of the vocabulary: a folder that `lmcore.load` opens
    work/milestones/step_70@NAME/   of a stage that ended after step 70
    out/checkpoints/NAME/

Where a run is decides alone what there is: a milestone is on the disk before the checkpoint of its step and before the
next step, and those of later steps go when the run takes another way (a resume, a rewind). So a run that was killed
leaves the milestones, to the byte, of one that was not.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lmcore.models.io import save_model
from lmcore.models.lora import merged
from lmcore.tokenizer import VOCABULARY_FILES
from storage.atomic import disk_errors, publish_folder

if TYPE_CHECKING:
    from lmcore.train.run import Run

IN_WORK = "milestones"
FOLDER = "checkpoints"  # in what a run leaves
_PREFIX = "step_"
_OF_STAGE = "@"


def take_if_due(run: Run) -> None:
    """Write the milestone of the step that `run` is at, where `train.milestone_every` asks for one; see `take`."""
    every, step = run.job.params.milestone_every, run.at.step
    if every is not None and not step % every:
        take(run)


def take(run: Run, name: str = "") -> None:
    """Write the milestone of the step that `run` is at: that of the stage `name`, where it is given.

    One that is there, left by a process that was killed, is replaced. StorageError when the disk refuses.
    """
    run.journal.doing("milestone")
    final = run.job.work / IN_WORK / (f"{_PREFIX}{run.at.step}" + (f"{_OF_STAGE}{name}" if name else ""))
    part = final.with_name(f".{final.name}.part")
    with disk_errors(part):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        with run.optimizer.averaged():
            save_model(part, merged(run.model) if run.job.params.lora else run.model)
        shutil.rmtree(final, ignore_errors=True)
        publish_folder(part, final, "train.milestone")


def drop_after(work: Path, step: int) -> None:
    """Remove the milestones of later steps, and what a kill left of one: the run goes on from `step`."""
    folder = work / IN_WORK
    with disk_errors(folder):
        for part in folder.glob(f".{_PREFIX}*.part"):
            shutil.rmtree(part)
        for path in folder.glob(f"{_PREFIX}*"):
            if int(path.name.removeprefix(_PREFIX).partition(_OF_STAGE)[0]) > step:
                shutil.rmtree(path)


def leave(run: Run, out: Path) -> None:
    """Put the milestones of a run that has ended into the folder `out`, each with the vocabulary beside it."""
    for path in sorted((run.job.work / IN_WORK).glob(f"{_PREFIX}*")):
        left = out / FOLDER / (path.name.partition(_OF_STAGE)[2] or path.name)
        left.mkdir(parents=True)
        vocabulary = (run.job.tokenizer / name for name in VOCABULARY_FILES)
        for file in (*sorted(path.iterdir()), *(file for file in vocabulary if file.is_file())):
            _same_file(file, left / file.name)


def found(folder: Path) -> list[tuple[int, Path]]:
    """Step and folder of every milestone in `folder`, by step, but for those of stages."""
    names = (path for path in folder.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdigit())
    return sorted((int(path.name.removeprefix(_PREFIX)), path) for path in names)


def _same_file(old: Path, new: Path) -> None:
    """A link, which takes no room, or a copy where the file system has none. Neither is ever written to again."""
    try:
        os.link(old, new)
    except OSError:
        shutil.copyfile(old, new)
