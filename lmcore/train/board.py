"""TensorBoard's event files of a run, where `runtime.train.tensorboard` asks: `tensorboard --logdir FOLDER`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from storage.errors import UserError

FOLDER = "tensorboard"  # in the work folder, and in provenance/ of what is left


class Board:
    """Writes `work/tensorboard`, or nothing when it is off. A context manager."""

    def __init__(self, work: Path, *, on: bool) -> None:
        """UserError when it is on and the package is not there."""
        self._folder = work / FOLDER
        self._writer: Any = None
        self._on = on
        if on:
            try:
                importlib.import_module("tensorboard")  # asked before the first step, not after
            except ImportError as error:
                raise UserError(
                    "runtime.train.tensorboard is on, and the package tensorboard is not installed",
                    "pip install 'collect-train[tensorboard]', or set runtime.train.tensorboard=false",
                ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, step: int) -> None:
        """Go on after `step`: TensorBoard then forgets what an earlier process, or another way, wrote beyond it."""
        self.close()
        if self._on:
            from torch.utils.tensorboard import SummaryWriter  # it takes seconds

            self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)

    def scalars(self, part: str, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve `part/NAME`."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{part}/{name}", value, step)

    def text(self, name: str, step: int, text: str) -> None:
        """A text, such as a sample."""
        if self._writer is not None:
            self._writer.add_text(name, text, step)

    def close(self) -> None:
        """Return when all is in the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
