"""The export stage: the model in a form that other programs open, checked before anybody sees it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from lmcore.export.architectures import stock_architecture
from lmcore.export.check import TOLERANCE, check_hf, probe
from lmcore.export.hf import write_hf
from lmcore.export.params import ExportParams, ExportRuntime
from lmcore.generate.load import load
from lmcore.models.decoder import Decoder
from lmcore.progress import Report
from storage.atomic import fault, write_json
from storage.errors import RunError

__all__ = ["ExportParams", "ExportRuntime", "export"]


def export(
    work: Path,
    model: Path,
    *,
    params: ExportParams,
    runtime: ExportRuntime,
    report: Report,
    evaluation: Path | None = None,
) -> dict[str, Any]:
    """Leave `hf/` (unless params.hf is off) and `reference.json` in `work/out`; gives the largest difference found.

    `model` is a train artifact; with `evaluation`, an evaluate artifact, the model card has its figures. Raises
    UserError when no stock architecture is the model's, RunError when a file is damaged or the self-check fails.
    """
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    out = work / "out"
    if out.exists():
        shutil.rmtree(out)
    trained = load(model)
    network, tokenizer = trained.model, trained.tokenizer
    architecture = stock_architecture(network.config) if params.hf else None
    report(0, 3, "computing reference")
    probes = probe(network, tokenizer, params.prompts, params.greedy_tokens)
    reference: dict[str, Any] = {"architecture": architecture, "prompts": probes}
    if isinstance(network, Decoder) and params.hf:  # of another family there is no architecture
        report(1, 3, "writing hf/")
        tokenizer_json = (model / "tokenizer.json").read_bytes()
        headline = None if evaluation is None else _headline(evaluation / "evaluation.json")
        write_hf(out / "hf", network, tokenizer, tokenizer_json, name=params.name, headline=headline)
        fault("export.before-check")
        report(2, 3, "checking hf/")
        difference = check_hf(out / "hf", network, tokenizer, probes)
        reference |= {"largest_difference": difference, "tolerance": TOLERANCE}
    write_json(out / "reference.json", reference)
    report(3, 3, "checked" if params.hf else "no hf/: export.hf is false")
    return {
        "architecture": architecture or "none",
        "largest_difference": reference.get("largest_difference", "not checked"),
        "prompts": len(probes),
        "bytes": sum(file.stat().st_size for file in out.rglob("*") if file.is_file()),
    }


def _headline(path: Path) -> dict[str, Any]:
    try:
        headline: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["headline"]
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"cannot read {path}: {error}",
            "run `collect-train verify`; it sets damaged artifacts aside and the next run rebuilds them",
        ) from error
    return headline
