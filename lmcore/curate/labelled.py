"""Texts that somebody called good or bad: from a JSONL or Parquet file, or from sources named good and bad."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from lmcore.config import Params
from storage.errors import UserError
from storage.parquet import batches

_GOOD = {"good", "1", "1.0", "true"}
_BAD = {"bad", "0", "0.0", "false"}
_MEND = "give every row a text and one of the labels good, bad, 1, 0, true, false"


class ClassifierParams(Params):
    """What the learned quality is learned from, and how. Without `labelled` and without `good` and `bad`: off."""

    labelled: str = Field("", description="JSONL or Parquet file of texts and labels")
    digest: str = Field("", description="of that file's bytes; a run fills it in")
    text_field: str = Field("text", min_length=1)
    label_field: str = Field("label", min_length=1, description="good or bad, 1 or 0, true or false")
    good: tuple[str, ...] = Field((), description="names of sources whose texts count as good")
    bad: tuple[str, ...] = Field((), description="names of sources whose texts count as bad")
    bits: int = Field(19, ge=10, le=24, description="2^bits weights; words and pairs of words share them by hash")
    epochs: int = Field(30, ge=1, le=200)
    rate: float = Field(32.0, gt=0, le=1000, description="first learning rate; falls to 0 in a straight line")
    max_chars: int = Field(20_000_000, ge=10_000, le=500_000_000, description="characters learned from, of each label")
    min_examples: int = Field(100, ge=10, description="different texts that each label needs")
    min_auc: float = Field(0.6, ge=0.5, le=1, description="held-out AUC below which the classifier is refused")

    @model_validator(mode="after")
    def _one_way(self) -> ClassifierParams:
        if bool(self.good) != bool(self.bad):
            raise ValueError("name good sources and bad ones, or neither")
        if self.labelled and self.good:
            raise ValueError("labels come either from a file or from good and bad sources")
        if both := sorted(set(self.good) & set(self.bad)):
            raise ValueError(f"source {both[0]} is named good and bad")
        return self

    @property
    def wanted(self) -> bool:
        """Whether there is anything to learn from."""
        return bool(self.labelled or self.good)


def read_labelled(path: Path, *, text_field: str = "text", label_field: str = "label") -> Iterator[tuple[str, bool]]:
    """(text, is it good) of every row of a JSONL (.jsonl) or Parquet (.parquet) file, as a stream.

    Raises UserError naming file and row for a file of another kind, a missing field, a label that is none of
    good/bad, 1/0, true/false; RunError for a Parquet file that cannot be read.
    """
    if path.suffix == ".parquet":
        rows = _parquet_rows(path, [text_field, label_field])
    elif path.suffix == ".jsonl":
        rows = _json_rows(path)
    else:
        raise UserError(f"labelled texts in {path.name}: neither .jsonl nor .parquet", "convert the file")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not isinstance(row.get(text_field), str):
            raise UserError(f"row {number} of {path.name} has no text in the field {text_field!r}", _MEND)
        label = str(row.get(label_field)).strip().lower()
        if label not in _GOOD | _BAD:
            raise UserError(f"row {number} of {path.name} has the label {label[:40]!r} in {label_field!r}", _MEND)
        yield row[text_field], label in _GOOD


def _parquet_rows(path: Path, fields: list[str]) -> Iterator[Any]:
    for batch in batches(path):
        if missing := [name for name in fields if name not in batch.schema.names]:
            raise UserError(f"{path.name} has no column {missing[0]!r}", _MEND)
        yield from batch.select(fields).to_pylist()


def _json_rows(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        yield json.loads(line)
                    except (ValueError, RecursionError) as error:
                        raise UserError(f"line {number} of {path.name} is no JSON: {error}"[:200], _MEND) from error
    except OSError as error:
        raise UserError(f"cannot read the labelled texts {path.name}: {error.strerror}", "name a file") from error
