"""What a finished run leaves: the model and its facts, in a folder that appears at once."""

from __future__ import annotations

import shutil
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lmcore.models.io import save_model
from lmcore.models.lora import merged, save_adapter
from lmcore.tokenizer import VOCABULARY_FILES, load_tokenizer
from lmcore.train import board, checkpoint, curriculum, machine, milestones
from lmcore.train.continued import KEPT
from lmcore.train.diagnose import Finding, diagnose
from lmcore.train.evidence import data_facts, of_run
from lmcore.train.predict import measured, predicted
from lmcore.train.run import Run
from storage.atomic import disk_errors, publish_folder, write_json
from storage.parquet import write_parquet

TAIL = 0.05  # share of the steps, at the end, that the final training loss is the mean of


def write(run: Run) -> dict[str, Any]:
    """Make `work/out` anew and give the run's metrics, which are also in `work/metrics.json` and `training.json`.

    `loss` (nats per token) and `bits_per_byte` are means over the last 5 % of the training steps;
    `val_bits_per_byte` is the last quick look, null when there was none.
    StorageError when the disk refuses; the checkpoint stays, so the next start only writes again.
    """
    work, history = run.job.work, run.history
    part, out = work / ".out.part", work / "out"
    metrics = _metrics(run)
    log = curriculum.of_run(run) if run.job.params.stage_names else {}
    if log:
        metrics["levels"] = {level["name"]: level["texts"] for level in log["levels"]}
        metrics["stages"] = {
            stage["name"]: {"all": stage["validation"]}
            | {level["name"]: level["bits_per_byte"] for level in stage["validation_by_level"]}
            for stage in log["stages"]
        }
    run.journal.doing("output")
    with disk_errors(work):
        for old in (part, out):
            shutil.rmtree(old, ignore_errors=True)
        provenance = part / "provenance"
        provenance.mkdir(parents=True)
        with run.optimizer.averaged():
            if run.job.params.lora:
                save_adapter(part / "adapter", run.model)
            save_model(part, merged(run.model) if run.job.params.lora else run.model)
        for file in VOCABULARY_FILES:
            if (run.job.tokenizer / file).is_file():
                shutil.copyfile(run.job.tokenizer / file, part / file)
        milestones.leave(run, part)
        write_parquet(part / "metrics.parquet", history.table("metrics"))
        write_json(part / "ledger.json", run.model.ledger().to_json())
        for name in ("timings", "validation", "sources", "samples"):
            write_parquet(provenance / f"{name}.parquet", history.table(name))
        if run.job.params.stage_names:
            write_json(part / curriculum.FILE, log)
            write_parquet(provenance / "stage_looks.parquet", history.table("stage_looks"))
        if (fits := history.table("fits")).num_rows:
            write_parquet(provenance / "fits.parquet", fits)
        shutil.copyfile(work / "plan.json", provenance / "plan.json")
        if run.job.runtime.tensorboard:
            shutil.copytree(work / board.FOLDER, provenance / board.FOLDER)
        if run.job.runtime.keep_state:
            name = checkpoint.name_of(run.at.step)
            shutil.copytree(work / "checkpoints" / name, part / KEPT / name)
        best = run.best()
        if best is not None and best in checkpoint.steps_in(work / "checkpoints"):  # asked for late, it is not there
            name = checkpoint.name_of(best)
            shutil.copytree(work / "checkpoints" / name, part / checkpoint.BEST / name)
        data, findings = _diagnosed(run)
        told: dict[str, Any] = {"data": data, "findings": [finding.to_json() for finding in findings]}
        costs = {"predicted": predicted(run), "measured": measured(run, part / "model.safetensors")}
        told |= {name: found.to_json() for name, found in costs.items()}
        told["steps_per_epoch"] = run.steps_per_epoch
        limits = {"limits": machine.limits(), "events": run.journal.events}
        write_json(provenance / "training.json", metrics | told | limits)
        write_json(work / "metrics.json", metrics)
        publish_folder(part, out, "train.out")
    for finding in findings:
        run.journal.event("finding", "\n".join(finding.lines()), **finding.to_json())
    run.journal.event("finished", _summary(metrics), metrics=metrics)
    return metrics


def _diagnosed(run: Run) -> tuple[dict[str, Any], list[Finding]]:
    """What the diagnosis took into account, and what it found; a training that is done never fails for its sake."""
    job = run.job
    data: dict[str, Any] = {"settings": job.params.model_dump(mode="json"), "started": job.start_from is not None}
    try:
        data |= data_facts(run.job.tokens, load_tokenizer(run.job.tokenizer))
        return data, diagnose(of_run(run, data))
    except Exception as error:  # noqa: BLE001 - whatever it is, the trained model is worth more
        told = f"the training could not be diagnosed: {type(error).__name__}: {error}"
        run.journal.event("no-diagnosis", told, step=run.at.step)
        return data, []


def _metrics(run: Run) -> dict[str, Any]:
    table, at, ledger = run.history.table("metrics"), run.at, run.model.ledger()
    steps = table.filter(pc.invert(table["skipped"]))
    tail = steps.slice(int(steps.num_rows * (1 - TAIL)))
    looks = run.history.table("validation")
    speed = at.tokens / at.seconds
    resumes = sum(event["event"] == "resumed" for event in run.journal.events)
    return {
        "steps": at.step,
        "tokens": at.tokens,
        "parameters": ledger.total,
        "loss": _mean(tail["loss"]),
        "bits_per_byte": _mean(tail["bits_per_byte"]),
        "val_bits_per_byte": looks["bits_per_byte"][-1].as_py() if looks.num_rows else None,
        "val_accuracy": _mean(looks["accuracy"].slice(looks.num_rows - 1)) if looks.num_rows else None,
        "continued_from_step": at.begun or None,
        "skipped_steps": run.guard.skipped,
        "seconds": round(at.seconds, 3),
        "tokens_per_second": round(speed, 1),
        "utilisation": round(utilisation(run, speed), 4),
        "peak_memory_mib": round(machine.peak_memory(run.plan.device) / 2**20, 1),
        "resumes": resumes,
        "processes": run.plan.processes,
        "device": run.plan.device,
        "precision": run.plan.precision,
    }


def utilisation(run: Run, tokens_per_second: float) -> float:
    """The model's arithmetic at this speed, as a share of the plan's fastest product.

    Frozen weights get no gradient, which is a third of a product's arithmetic.
    """
    ledger = run.model.ledger()
    flops = ledger.flops_per_token() - (2 * ledger.product_parameters if run.job.params.lora else 0)
    return flops * tokens_per_second / run.plan.peak


def _mean(column: pa.ChunkedArray) -> float | None:
    """None, not NaN, when there is nothing finite to average: metrics are JSON."""
    finite = pc.filter(column, pc.is_finite(column))
    return round(pc.mean(finite).as_py(), 6) if len(finite) else None


def _summary(metrics: dict[str, Any]) -> str:
    bits = metrics["val_bits_per_byte"]
    look = "" if bits is None else f", validation {bits:.4f} bits/byte"
    return (
        f"finished: {metrics['steps']:,} steps, {metrics['tokens']:,} tokens in {metrics['seconds']:.0f} s of training "
        f"({metrics['tokens_per_second']:,.0f} tokens/s, {metrics['utilisation']:.0%} of this machine's peak, "
        f"{metrics['peak_memory_mib']:,.0f} MiB){look}"
    )
