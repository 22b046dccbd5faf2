"""A run that has ended, asked for what its artifacts hold; every file is read once, when it is asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmcore.expect.metrics import NotMeasured
from lmcore.expect.times import Time
from storage.errors import RunError
from storage.parquet import batches, read_parquet

if TYPE_CHECKING:
    import pyarrow as pa

    from lmcore.report.view import RunView
    from lmcore.tokens import Loader

NEAR = 0.05  # share of a run's steps: a look further off than that says nothing of the time that is asked for


class Finished:
    """The artifacts of one run. Everything raises NotMeasured for what the run has not, RunError for a damaged file."""

    def __init__(self, view: RunView) -> None:
        self._view = view

    def folder(self, stage: str) -> Path:
        """Folder of the run's artifact of a stage."""
        found: Path | None = getattr(self._view, stage)
        if found is None:
            raise NotMeasured(f"the run has not come to {stage}")
        return found

    def file(self, stage: str, name: str) -> Path:
        """A file of the run's artifact of a stage."""
        path = self.folder(stage) / name
        if not path.is_file():
            raise NotMeasured(f"the artifact of {stage} has no {name}")
        return path

    @cached_property
    def training(self) -> dict[str, Any]:
        """What the training told at its end."""
        return self._json("train", "provenance/training.json")

    @cached_property
    def ledger(self) -> dict[str, Any]:
        """Where the parameters are."""
        return self._json("train", "ledger.json")

    @cached_property
    def tokens(self) -> dict[str, Any]:
        """What the token shards say of themselves."""
        return self._json("tokens", "meta.json")

    @cached_property
    def adapters(self) -> int:
        """Parameters of the adapters; 0 where all of the model was trained."""
        if not self._view.resolved.get("train", {}).get("lora"):
            return 0
        path = self.file("train", "adapter/adapter_model.safetensors")
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")

    @cached_property
    def checkpoint_bytes(self) -> int:
        """Bytes of the tensors in the checkpoint that the run left."""
        from lmcore.train.continued import KEPT

        files = list((self.folder("train") / KEPT).glob("*/*.safetensors"))
        if not files:
            raise NotMeasured("no checkpoint is kept: set runtime.train.keep_state")
        return sum(path.stat().st_size for path in files)

    @cached_property
    def loader(self) -> Loader:
        """The training text as the training read it."""
        from lmcore.tokens import Loader
        from lmcore.train.params import TrainParams, TrainSettings

        tokens, train = self.folder("tokens"), self._view.resolved.get("train", {})
        settings = {name: train[name] for name in TrainSettings.model_fields if name in train}
        params = TrainParams.model_validate(settings | {"model": self._view.resolved.get("model", {})})
        return Loader(
            tokens, "train", batch=params.batch, context=params.model.context, seed=params.seed,
            tokenizer_bytes=None, settings=params,
        )  # fmt: skip

    @cached_property
    def last_step(self) -> int:
        """The last step of the training."""
        if not self._steps.num_rows:
            raise NotMeasured("the training made no step")
        return int(self._steps["step"][-1].as_py())

    def span(self, at: Time) -> tuple[int, int]:
        """The first and the last step that a time stands for; those of the whole run for its end."""
        last = self.last_step
        if at.kind == "end":
            return 1, last
        if at.kind == "start":
            return 1, 1
        if at.kind == "step N":
            first, until = at.number, at.number
        elif at.kind == "epoch N":
            each = self.loader.steps_per_epoch
            first, until = (at.number - 1) * each + 1, at.number * each
        else:
            first, until = self._stage(at.number)
        if until > last:
            raise NotMeasured(f"the training ended after {last:,} steps, before {at} did")
        return first, until

    def numbers(self, column: str, first: int, last: int) -> list[float]:
        """What a column of the training's metrics has from step `first` to `last`, without steps that were skipped."""
        rows = zip(*(self._steps[name].to_pylist() for name in ("step", "skipped", column)), strict=True)
        found = [value for step, skipped, value in rows if first <= step <= last and not skipped and _is_number(value)]
        if not found:
            raise NotMeasured(f"no step from {first:,} to {last:,} has a {column}")
        return found

    def at_step(self, column: str, step: int) -> float:
        """What a column of the training's metrics has at a step."""
        return self.numbers(column, step, step)[0]

    def look(self, column: str, at: Time) -> float:
        """A column of the look at the validation split that is nearest to a time."""
        looks = read_parquet(self.file("train", "provenance/validation.parquet"))
        wanted = 0 if at.kind == "start" else self.span(at)[1]
        found = [row for row in looks.to_pylist() if _is_number(row.get(column))]
        nearest = min(found, key=lambda row: abs(row["step"] - wanted), default=None)
        if nearest is None or abs(nearest["step"] - wanted) > NEAR * self.last_step:
            raise NotMeasured(f"no look at the validation split is near {at}: see runtime.train.validate_every")
        return float(nearest[column])

    def evaluated(self, figure: str) -> float:
        """A figure of the evaluation's headline."""
        return float(self._json("evaluate", "evaluation.json")["headline"][figure])

    def probed(self, name: str, *way: str, place: int | None = None, before: bool = False) -> float:
        """A figure of a further measurement of the evaluation, or of the same one of the model it started from.

        `place`: which number of what is found, where that is an interval.
        """
        found: Any = self._json("evaluate", "evaluation.json")
        if before:
            found = found.get("before")
            if found is None:
                raise NotMeasured("the model it started from was not measured: set evaluate.before")
        if name:
            found = _asked_for(found, name)
        for key in way:
            found = found.get(key)
            if found is None:
                raise NotMeasured(f"evaluate.{name} left no figure for it")
        return float(found if place is None else found[place])

    @cached_property
    def translations(self) -> list[dict[str, Any]]:
        """What the evaluation found of translations, a row for each direction."""
        found = _asked_for(self._json("evaluate", "evaluation.json"), "translation")
        if not found["directions"]:
            raise NotMeasured("the held-out text has no pairs")
        return list(found["directions"].values())

    def texts(self, at: Time, name: str) -> int:
        """Numbers of texts: `records` or `bytes`, and `unique` ones of what was collected."""
        if at.kind == "after stage curate":
            return int(self._json("curate", "stats.json")["kept"][name])
        if not self._view.collect:
            raise NotMeasured("the run has not come to collect")
        files = [folder / "stats.json" for folder in self._view.collect]
        if not all(path.is_file() for path in files):
            raise NotMeasured("an artifact of collect has no stats.json")
        return sum(int(_read(path)[name]) for path in files)

    @cached_property
    def unique_line_share(self) -> float:
        """Different lines of the training split as a share of those that are not blank."""
        from lmcore.curate.line_stats import LineStats, text_lines

        stats = LineStats()
        for path in sorted((self.folder("curate") / "train").glob("*.parquet")):
            for batch in batches(path, ["text"], rows=256):
                for text in batch["text"].to_pylist():
                    stats.add(text_lines(text), "text")
        if not stats.non_empty:
            raise NotMeasured("the training split has no line")
        return stats.share

    @cached_property
    def bytes_per_token(self) -> float:
        """Of the validation split, by the tokenizer's report."""
        found = self._json("tokenizer", "tokenizer_report.json")["bytes_per_token"]
        if "val" not in found:
            raise NotMeasured("the vocabulary was not measured on a validation split")
        return float(found["val"])

    @cached_property
    def _steps(self) -> pa.Table:
        return read_parquet(self.file("train", "metrics.parquet"))

    def _stage(self, number: int) -> tuple[int, int]:
        """First and last step of a stage of `train.stages`."""
        begins = {e["stage"]: e["step"] for e in self.training.get("events", []) if e.get("event") == "stage"}
        stages = len(self._view.resolved.get("train", {}).get("stages") or ())
        if number > stages or (number > 1 and number not in begins):
            raise NotMeasured(f"the training did not come to stage {number}")
        return begins.get(number, 0) + 1, begins.get(number + 1, self.last_step)

    def _json(self, stage: str, name: str) -> dict[str, Any]:
        return _read(self.file(stage, name))


def _asked_for(evaluation: Mapping[str, Any], name: str) -> Any:
    found = evaluation.get("probes", {}).get(name)
    if found is None:
        raise NotMeasured(f"it was not asked for: set evaluate.{name}")
    return found


def _is_number(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}", "run `collect-train verify`, then the recipe again") from error
    return dict(found) if isinstance(found, Mapping) else {}
