"""Tells the journal that the training text has been read once more, and how that went."""

from __future__ import annotations

import time

import pyarrow.compute as pc

from lmcore.train.journal import LINE_SECONDS
from lmcore.train.run import Run


class Epochs:
    """The epochs of one process. Those that end within a second of the one before are told together with the next."""

    def __init__(self, steps_per_epoch: int, step: int) -> None:
        """`step` is where the process begins: an epoch that has ended before it was told by an earlier one."""
        self._length = steps_per_epoch
        self._told = step - step % steps_per_epoch  # the step up to which epochs are told
        self._next = 0.0

    def tell(self, run: Run) -> None:
        """Record the end of an epoch, when this step was its last, with means over the steps since the one before."""
        at, now = run.at, time.monotonic()
        if at.step % self._length or (now < self._next and at.progress < 1.0):
            return
        self._next = now + LINE_SECONDS
        steps = run.history.table("metrics").slice(self._told)  # row 0 is step 1
        seconds = pc.sum(run.history.table("timings").slice(self._told)["seconds"]).as_py()
        self._told = at.step
        tokens = at.tokens / at.step * steps.num_rows  # every step has as many; of packing texts, on average
        admitted = steps.filter(pc.invert(steps["skipped"]))
        bits = pc.mean(admitted["bits_per_byte"]).as_py()
        epoch = at.step // self._length
        run.journal.event(
            "epoch",
            f"epoch {epoch:,} ended" + ("" if bits is None else f": {bits:.4f} bits/byte"),
            epoch=epoch,
            step=at.step,
            progress=at.progress,
            mean_loss=pc.mean(admitted["loss"]).as_py(),
            mean_bits_per_byte=bits,
            tokens_per_second=tokens / seconds,
        )
