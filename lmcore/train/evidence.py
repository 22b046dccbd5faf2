"""What a training leaves for a diagnosis: of a run in memory, of a finished artifact, of an unfinished work folder."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lmcore.train.journal import FILE, is_step, read_lines, way_kept
from storage.errors import RunError
from storage.parquet import read_parquet

if TYPE_CHECKING:
    from lmcore.tokenizer import Tokenizer
    from lmcore.train.run import Run

SEQUENCE = 16  # tokens; the length of what is looked for twice
LOOKED_AT = 2_000_000  # tokens of the training text at most


@dataclass(frozen=True)
class Evidence:
    """One training. Lists go along the steps, or the lines of its progress file; what nobody knows is None or empty."""

    steps: list[int]
    losses: list[float]  # nats per token; NaN where a step was not finite
    seconds: list[float]  # of each step, or the mean of the steps of each line
    looks: list[tuple[int, float]]  # step and validation bits per byte
    samples: list[tuple[int, str, str]]  # step, prompt, continuation
    skipped: list[int]  # steps without finite numbers
    tokens: int  # seen in training
    parameters: int | None = None
    bytes_per_token: float | None = None  # of the training text
    unique: float | None = None  # share of its sequences of 16 tokens that are not repetitions
    longest_token: int | None = None  # bytes of the vocabulary's longest token
    plan: dict[str, Any] = field(default_factory=dict)
    silent_seconds: float | None = None  # since an unfinished training said anything
    slowest: float | None = None  # seconds of the slowest step, where `seconds` has means
    started: bool = False  # from the weights of another training
    settings: dict[str, Any] = field(default_factory=dict)  # of the recipe's `train`, and `model`, as plain JSON


def of_run(run: Run, facts: dict[str, Any]) -> Evidence:
    """The evidence of a run that ends; `facts` as `data_facts` gave them."""
    tables = {name: table.to_pylist() for name, table in run.history.tables().items()}
    plan = run.plan.model_dump(mode="json")
    return _of_tables(tables, plan, run.model.ledger().total, facts)


def of_artifact(folder: Path) -> Evidence:
    """The evidence in a train artifact. RunError when a file is damaged."""
    provenance = folder / "provenance"
    tables = {"metrics": read_parquet(folder / "metrics.parquet").to_pylist()}
    for name in ("timings", "validation", "samples"):
        tables[name] = read_parquet(provenance / f"{name}.parquet").to_pylist()
    training, plan = _json(provenance / "training.json"), _json(provenance / "plan.json")
    return _of_tables(tables, plan, training.get("parameters"), training.get("data", {}))


def of_work(work: Path) -> Evidence:
    """The evidence in the work folder of a training that goes on or was left. RunError when it said nothing yet."""
    path = work / FILE
    lines = read_lines(path)
    if not lines:
        raise RunError(f"{work} has no training that has said anything", "let it run for a while")
    lines = way_kept(lines)
    done = [line for line in lines if is_step(line)]
    events = [line for line in lines if "event" in line]
    plan = _json(work / "plan.json") if (work / "plan.json").exists() else {}
    params = _json(work / "job.json").get("params", {}) if (work / "job.json").exists() else {}
    # By the line's own speed: its `seconds` also have those of steps that a rewind or a kill took back.
    each = [line["tokens"] / line["step"] / line["tokens_per_second"] for line in done]
    return Evidence(
        steps=[line["step"] for line in done],
        losses=[math.nan if line["loss"] is None else line["loss"] for line in done],
        seconds=each,
        slowest=max((line["slowest_seconds"] for line in done if "slowest_seconds" in line), default=None),
        looks=[(e["step"], e["bits_per_byte"]) for e in events if e["event"] == "validation"],
        samples=[(e["step"], e["prompt"], e["continuation"]) for e in events if e["event"] == "sample"],
        skipped=[e["step"] for e in events if e["event"] == "skipped" and not _finite(e) and not _scaled(plan)],
        tokens=done[-1]["tokens"] if done else 0,
        plan=plan,
        silent_seconds=time.time() - path.stat().st_mtime,
        settings=params,
    )


def data_facts(tokens: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """Bytes per token, uniqueness and the longest token of the text that is trained on; plain JSON."""
    from lmcore.tokens import sequential
    from lmcore.tokens.meta import read_meta

    split = read_meta(tokens).splits["train"]
    lengths = tokenizer.byte_length(np.arange(tokenizer.vocab_size, dtype=np.uint32))
    batches = sequential(tokens, "train", 64, 256, tokenizer_bytes=lengths)
    return {
        "bytes_per_token": round(split.bytes / max(1, split.tokens), 4),
        "unique": uniqueness(batch.ids.numpy().ravel() for batch in batches),
        "longest_token": int(lengths.max()),
    }


def uniqueness(parts: Iterable[np.ndarray[Any, Any]]) -> float | None:
    """Share of the sequences of 16 tokens, among the first two million, that are not repetitions; None without any."""
    taken, total = [], 0
    for part in parts:
        taken.append(part)
        total += len(part)
        if total >= LOOKED_AT:
            break
    ids = np.concatenate(taken)[:LOOKED_AT].astype(np.uint64) if taken else np.zeros(0, dtype=np.uint64)
    if len(ids) < SEQUENCE:
        return None
    windows = np.zeros(len(ids) - SEQUENCE + 1, dtype=np.uint64)
    for place in range(SEQUENCE):  # a polynomial hash, modulo 2^64
        windows = windows * np.uint64(0x9E3779B97F4A7C15) + ids[place : len(windows) + place] + np.uint64(1)
    return round(len(np.unique(windows)) / len(windows), 6)


def _of_tables(tables: dict[str, list[dict[str, Any]]], plan: dict[str, Any], parameters: Any, facts: Any) -> Evidence:
    metrics = tables["metrics"]
    return Evidence(
        steps=[row["step"] for row in metrics],
        losses=[math.nan if row["skipped"] else row["loss"] for row in metrics],
        seconds=[row["seconds"] for row in tables["timings"]],
        looks=[(row["step"], row["bits_per_byte"]) for row in tables["validation"]],
        samples=[(row["step"], row["prompt"], row["text"]) for row in tables["samples"]],
        skipped=[row["step"] for row in metrics if row["skipped"] and not _finite(row) and not _scaled(plan)],
        tokens=metrics[-1]["tokens"] if metrics else 0,
        parameters=parameters,
        plan=plan,
        **{name: facts.get(name) for name in ("bytes_per_token", "unique", "longest_token")},
        started=bool(facts.get("started")),
        settings=facts.get("settings", {}),
    )


def _finite(row: dict[str, Any]) -> bool:
    """False where a step's numbers were not finite; a spike that was left out has finite ones."""
    return all(value is not None and math.isfinite(value) for value in (row["loss"], row["grad_norm"]))


def _scaled(plan: dict[str, Any]) -> bool:
    """True in fp16, whose loss scale is found by overflows: no harm, and the guard ends a run that has real ones."""
    return plan.get("precision") == "fp16"


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"cannot read {path}: {error}", "run `collect-train verify`; it sets damaged artifacts aside"
        ) from error
    return found
