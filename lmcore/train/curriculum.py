"""A curriculum whose stages have names: how each is judged, when it ends early, and what it leaves.

A stage is judged on the validation texts that are like its own. It ends when its share of the budget is used or, where
`train.promote` asks for it, when the best of its last looks is hardly better than the best before; then what is left of
its share goes to the stages after it. The looks that decide and the shares that the stages begin with are in every
checkpoint, so a run that is killed anywhere goes the same way. The optimizer and the schedule know nothing of it.

Letters: D documents of the validation split, S sets of them, C cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from lmcore.tokens import Loader
from lmcore.tokens.levels import facts, levels, stage_picks
from lmcore.tokens.meta import read_meta
from lmcore.tokens.params import SLIP
from lmcore.tokens.stages import moved_on
from lmcore.tokens.stream import documents_of
from lmcore.train import milestones
from lmcore.train.history import due, every
from lmcore.train.horizon import Horizon
from lmcore.train.looks import figures, sums_by
from lmcore.train.params import Job
from lmcore.train.run import Run

FILE = "stages.json"
WHOLE, LEVEL, STAGE = "all", "level", "stage"  # kinds of sets of texts


class Curriculum:
    """The named stages of a run as one process goes through them; every rank makes the same calls."""

    def __init__(
        self, run: Run, loader: Loader, horizon: Horizon, token_bytes: npt.NDArray[np.integer], *, validates: bool
    ) -> None:
        """`validates` is False where the validation split has nothing to look at."""
        self._run, self._loader, self._horizon, self._token_bytes = run, loader, horizon, token_bytes
        self._sets = _Sets.of(run) if validates else None

    def attend(self, passed: float) -> None:
        """Look at the stage, and end it, when it is time to; `passed` is the share up to which that was done.

        Called after every step and before the first one, before a checkpoint is saved.
        """
        run, at, promote = self._run, self._run.at, self._run.job.params.promote
        number = len(at.stage_starts)
        ends = at.stages_done < number and (at.ended or at.progress >= 1.0 or self._next_begins())
        looks = due(self._looks_at(number), passed, at.progress)
        if self._sets and (ends or looks):
            self._look(number, self._sets)
        gained = gain(self._bits(number), promote.patience)
        reason = "early stop" if at.ended else "budget"
        may = looks and not ends and promote.patience and number < len(run.job.params.stages)
        if may and run.team.most(run.team.leads and gained < promote.min_gain):  # NaN is not less
            at.begins = moved_on(self._begins(), [stage.share for stage in run.job.params.stages], number, at.progress)
            ends, reason = True, "no gain"
        if ends:
            self._end(number, reason, gained)

    def _next_begins(self) -> bool:
        at = self._run.at
        begun = self._loader.begun(at.stage_starts, at.progress, 0, self._horizon.steps, at.begins)
        return len(begun) > len(at.stage_starts)

    def _begins(self) -> list[float]:
        return self._run.at.begins or self._run.job.params.begins()

    def _looks_at(self, number: int) -> tuple[float, ...]:
        """The shares of the budget at which stage `number` is looked at.

        Its end is one without saying, and so is the begin of all but the first: there the stage before has its end.
        """
        promote, steps = self._run.job.params.promote, self._horizon.steps
        begin, end = [*self._begins(), 1.0][number - 1 : number + 1]
        within = every(promote.every) if promote.patience else (0.0,)
        slip = SLIP / steps if steps else 0.0
        return tuple(begin + share * (end - begin) - slip for share in within if share or number == 1)

    def _bits(self, number: int) -> list[float]:
        """Bits per byte of the looks at stage `number`; rank 0 knows them."""
        name = self._run.job.params.stage_names[number - 1]
        return [look["bits_per_byte"] for look in _looks_at_stage(self._run.history.tables(), number, name)]

    def _look(self, number: int, sets: _Sets) -> None:
        run, at = self._run, self._run.at
        sums = sums_by(run, self._token_bytes, sets.cell_of, sets.holds.shape[1], run.job.params.promote.tokens)
        by_set = (sums @ sets.holds.T.double()).T.tolist()  # (S, 5)
        if not run.team.leads:
            return
        for (kind, name), column in zip(sets.names, by_set, strict=True):
            if kind == STAGE and not column[2]:  # no text like its own was looked at
                column = by_set[0]
            found = figures(column)
            values = {"bits_per_byte": found.bits_per_byte, "loss": found.loss, "accuracy": found.accuracy}
            told = {"stage": number, "kind": kind, "name": name, "tokens": found.tokens}
            run.history.add("stage_looks", step=at.step, progress=at.progress, **told, **values)

    def _end(self, number: int, reason: str, gained: float) -> None:
        """Record that the stages up to `number` have ended, those without a step included, and leave its model."""
        run, at, names = self._run, self._run.at, self._run.job.params.stage_names
        for ended in range(at.stages_done + 1, number + 1):
            last = ended == number
            if run.team.leads:
                rows = run.history.table("stages")
                began = rows["ended_at"][-1].as_py() if rows.num_rows else 0
                told = {"began_at": began, "ended_at": at.step, "progress": at.progress}
                told |= {"reason": reason if last else "budget", "gain": gained if last else math.nan}
                run.history.add("stages", stage=ended, name=names[ended - 1], **told)
                milestones.take(run, names[ended - 1])
        at.stages_done = number
        line = of_run(run)["stages"][-1] if run.team.leads else {}
        run.journal.event("stage-end", _told(line, len(names)), step=at.step, log=line)


@dataclass(frozen=True)
class _Sets:
    """Sets of documents of the validation split: all, the five levels, and what each stage is judged on."""

    names: list[tuple[str, str]]  # S of kind and name
    cell_of: Tensor  # (D,) int64: documents of one cell are in the same sets
    holds: Tensor  # (S, C) bool: whether a set holds a cell

    @classmethod
    def of(cls, run: Run) -> _Sets:
        """Those of a run."""
        job, count = run.job, read_meta(run.job.tokens).splits["val"].documents
        picks = {(LEVEL, name): [pick] for name, pick in levels(job.params).items()}
        for number, name in enumerate(job.params.stage_names):
            picks[STAGE, name] = stage_picks(job.params, number)
        within = np.ones((1 + len(picks), count), dtype=bool)  # (S, D)
        for row, some in zip(within[1:], picks.values(), strict=True):
            row[:] = False
            for pick in some:
                row[documents_of(job.tokens, "val", pick)] = True
        cells, cell_of = np.unique(within, axis=1, return_inverse=True)
        return cls([(WHOLE, ""), *picks], torch.from_numpy(cell_of.reshape(-1)), torch.from_numpy(cells))


def gain(bits: Sequence[float], patience: int) -> float:
    """The share by which the best of the last `patience` looks needs fewer bits per byte than the best before.

    NaN where there are none before, one is not finite, or patience is 0.
    """
    before, last = bits[:-patience], bits[-patience:]
    if not patience or not before or not all(map(math.isfinite, bits)):
        return math.nan
    return 1 - min(last) / min(before)


def level_facts(job: Job) -> list[dict[str, Any]]:
    """`name`, `texts` and range of `complexity` of each level of the training texts."""
    return [{"name": name, **facts(job.tokens, "train", [pick])} for name, pick in levels(job.params).items()]


def of_run(run: Run) -> dict[str, Any]:
    """The log of the stages that have ended, as `stages.json` has it."""
    params, tables = run.job.params, run.history.tables()
    looks = tables["stage_looks"].to_pylist()
    ended = []
    for row in tables["stages"].to_pylist():
        number, name = row["stage"], row["name"]
        own = _looks_at_stage(tables, number, name)
        last = [look for look in looks if look["stage"] == number and look["step"] == row["ended_at"]]
        before, after = (_number(own[at]["bits_per_byte"]) if own else None for at in (0, -1))
        ended.append({
            "stage": number, "name": name, "share": params.stages[number - 1].share,
            **facts(run.job.tokens, "train", stage_picks(params, number - 1)),
            "began_at": row["began_at"], "ended_at": row["ended_at"], "progress": row["progress"],
            "reason": row["reason"], "gain": _number(row["gain"]),
            "bits_per_byte_before": before,
            "bits_per_byte_after": after,
            "validation": next((_number(look["bits_per_byte"]) for look in last if look["kind"] == WHOLE), None),
            "validation_by_level": [
                {"name": look["name"], "bits_per_byte": _number(look["bits_per_byte"])}
                for look in last if look["kind"] == LEVEL
            ],
            "looks": [{"step": look["step"], "bits_per_byte": _number(look["bits_per_byte"])} for look in own],
        })  # fmt: skip
    texts = read_meta(run.job.tokens).splits["train"].documents
    return {"texts": texts, "levels": level_facts(run.job), "stages": ended}


def describe_levels(job: Job) -> str:
    """How many training texts each level has, in words."""
    found = level_facts(job)
    told = ", ".join(f"{level['name']} {level['texts']:,}" for level in found)
    return f"training texts by level: {told}; together {sum(level['texts'] for level in found):,}"


def _looks_at_stage(tables: dict[str, pa.Table], number: int, name: str) -> list[dict[str, Any]]:
    """The looks at what stage `number`, called `name`, is judged on: from its begin to its end, or until now."""
    ends = tables["stages"]["ended_at"].to_pylist()
    began = ends[number - 2] if 1 < number < len(ends) + 2 else 0
    ended = ends[number - 1] if number <= len(ends) else math.inf
    looks = tables["stage_looks"].to_pylist()
    return [look for look in looks if look["kind"] == STAGE and look["name"] == name and began <= look["step"] <= ended]


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _told(line: dict[str, Any], count: int) -> str:
    if not line:
        return ""
    told = f"stage {line['stage']} of {count}, {line['name']}, ends after step {line['ended_at']:,}: {line['reason']}"
    if line["reason"] == "no gain":
        told += f" ({line['gain']:.2%})"
    if line["bits_per_byte_after"] is not None:
        told += f"; on texts like its own {line['bits_per_byte_before']:.4f}, now {line['bits_per_byte_after']:.4f} "
        told += f"bits/byte, on all {line['validation']:.4f}"
    return told
