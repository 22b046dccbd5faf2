"""`collect-train params --step`: one real optimizer step of a recipe's full shape, here, and what a run would take."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.compare_params import training_tokens
from flows.look import human_bytes
from lmcore.models.lora import adapter_parameters
from lmcore.recipe import Recipe, load_recipe
from lmcore.report.words import duration
from lmcore.train import TORCH_BYTES
from lmcore.train.horizon import make_horizon
from lmcore.train.trial import RESULT, Trial, Tried
from storage.atomic import write_text
from storage.errors import RunError
from storage.store import Store
from tasks.process import run_process


def show_step(store: Store, name: str, overrides: Sequence[str], console: Console) -> Tried:
    """Make the step in a process of its own and print its time, its peak memory and the time of the whole run.

    Raises RunError before anything is allocated when the least it can need is more than the memory that is free, and
    after it when it did not fit all the same.
    """
    from lmcore.train.machine import free_memory

    recipe = load_recipe(name, overrides)
    device = _device(recipe)
    needed, free = least_memory(recipe), free_memory(device)
    if needed > free:
        raise RunError(
            f"{recipe.name}: a step needs at least about {human_bytes(needed)} of memory, and {human_bytes(free)} are "
            "free here",
            "free some, try it on a larger machine, or make model.n_layers or the model's width smaller",
        )
    console.print(Text(f"{recipe.name}: one optimizer step of {_of(recipe)} ...", style="bold"))
    tried = make_step(recipe, free if device == "cpu" else None)
    table = Table(show_header=False)
    for label, fact in {
        "parameters": f"{tried.parameters:,}",
        "one step": f"{duration(tried.seconds)}, {per_step(recipe) / tried.seconds:,.0f} tokens a second",
        "peak memory": f"{human_bytes(tried.peak_memory)} (about {human_bytes(tried.predicted_memory)} by the ledger)",
        "loss before it": f"{tried.loss:.3f} nats a token; ln V is {tried.uniform_loss:.3f}"
        + ("" if tried.admitted else "; the numbers were not finite, and no weight has changed"),
        "the whole run": projection(store, recipe, tried.seconds),
        **({"at its document's text": told} if (told := document_projection(recipe, tried.seconds)) else {}),
    }.items():
        table.add_row(label, Text(fact))
    console.print(table)
    for line in tried.plan:
        console.print(Text(line), soft_wrap=True)
    return tried


def make_step(recipe: Recipe, memory: int | None) -> Tried:
    """One step of a recipe's training in a process of its own, which may take so many bytes of memory, if given."""
    with tempfile.TemporaryDirectory(prefix="collect-train-step-") as folder:
        work = Path(folder)
        trial = Trial(
            work=work,
            vocab_size=recipe.tokenizer.vocab_size,
            memory=memory,
            params=recipe.training,
            runtime=recipe.runtime.train,
        )
        write_text(work / "in.json", trial.model_dump_json())
        run_process(
            [sys.executable, "-m", "lmcore.train.trial", str(work / "in.json")],
            log=work / "trial.log",
            error_file=work / "error.json",
            tick=lambda: None,
        )
        return Tried.model_validate_json((work / RESULT).read_bytes())


def least_memory(recipe: Recipe) -> int:
    """The fewest bytes that a step can need, torch itself included: of one sequence, or as many as are set, at a time.

    Half precision and recomputed activations are counted on where the settings leave them open.
    """
    import torch

    from lmcore.models.ledger import estimate

    training = recipe.training
    sequences = 1 if training.on_oom == "halve" else training.micro_batch or 1
    memory = estimate(recipe.model, recipe.tokenizer.vocab_size).training_memory(
        sequences,
        optimizer=training.optimizer,
        stream_dtype=torch.float32 if training.precision == "fp32" else torch.bfloat16,
        recompute=recipe.runtime.train.activation_checkpointing != "off",
        adapters=adapter_parameters(recipe.model, training.lora) if training.lora else None,
    )
    return memory["total"] + TORCH_BYTES


def projection(store: Store, recipe: Recipe, step_seconds: float) -> str:
    """How long the recipe's budget takes at so many seconds a step, in words; unknown where the text decides."""
    training, each = recipe.training, per_step(recipe)
    million = f"a million tokens take {duration(1e6 / each * step_seconds)}"
    if training.minutes is not None:
        return (
            f"{training.minutes:g} minutes as set: about {60 * training.minutes / step_seconds:,.0f} steps; {million}"
        )
    epoch = None
    if training.epochs is not None:
        text = training_tokens(store, recipe)
        if text is None:
            return f"{training.epochs:g} epochs: unknown until the text is collected and made tokens; {million}"
        epoch = max(1, -(-text // each))
    horizon = make_horizon(training, each, epoch or 1)
    return f"{horizon.describe()}: about {long_time(horizon.length(step_seconds))}; {million}"


def document_projection(recipe: Recipe, step_seconds: float) -> str:
    """How long the recipe's epochs take with as much text as its document trains on, in words; "" where none is told.

    Whatever text there is here: it is the training that the document speaks of.
    """
    text, epochs = recipe.document_epoch, recipe.training.epochs
    if text is None or epochs is None:
        return ""
    horizon = make_horizon(recipe.training, per_step(recipe), text.steps(recipe.training.batch, recipe.model.context))
    took = f"{horizon.describe()}, about {long_time(horizon.length(step_seconds))}"
    return f"{took}: {epochs:g} epochs of {text.describe()}"


def per_step(recipe: Recipe) -> int:
    """Tokens of an optimizer step."""
    return recipe.training.batch * recipe.model.context


def long_time(seconds: float) -> str:
    """A length of time, in days where it is days."""
    return duration(seconds) if seconds < 172_800 else f"{seconds / 86_400:,.1f} days"


def _device(recipe: Recipe) -> str:
    """The device that the recipe would be trained on here; the first where it is not here, which the step tells."""
    from lmcore.train.machine import devices

    wanted = recipe.runtime.train.device
    return wanted if wanted in devices() else devices()[0]


def _of(recipe: Recipe) -> str:
    return f"{recipe.training.batch} sequences of {recipe.model.context:,} tokens, {per_step(recipe):,} tokens"
