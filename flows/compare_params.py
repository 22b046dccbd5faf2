"""`collect-train params A B ...`: what several recipes would build and cost, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from flows.claims import in_range
from flows.estimate import needs
from flows.look import human_bytes
from lmcore.recipe import Recipe, load_recipe
from lmcore.tokens.meta import read_meta
from lmcore.train.horizon import make_horizon
from storage.errors import RunError
from storage.store import Store


def show_comparison(store: Store, recipes: Sequence[str], overrides: Sequence[str], console: Console) -> None:
    """Print a table with a column for each recipe. The speed is measured here, some seconds for each."""
    loaded = [load_recipe(name, overrides) for name in recipes]
    columns = [facts(store, recipe) for recipe in loaded]
    table = Table("", *[recipe.name for recipe in loaded])
    for name in _all_names(columns):
        table.add_row(name, *[column.get(name, "") for column in columns])
    console.print(table)


def _all_names(columns: Sequence[dict[str, str]]) -> list[str]:
    """Every name of some columns, each where it is first met: families have parts of their own."""
    names: list[str] = []
    for column in columns:
        at = 0
        for name in column:
            if name not in names:
                names.insert(at, name)
            at = names.index(name) + 1
    return names


def facts(store: Store, recipe: Recipe) -> dict[str, str]:
    """What one recipe would build and cost, by name, in words."""
    from lmcore.train.predict import predict
    from lmcore.train.speed import measure

    training, model, vocabulary = recipe.training, recipe.model, recipe.tokenizer.vocab_size
    speed = measure(training, vocabulary, recipe.runtime.train)
    needed = needs(recipe, speed.plan.precision)
    per_step = training.batch * model.context
    text = training_tokens(store, recipe)
    epoch = None if text is None else max(1, -(-text // per_step))
    horizon = None
    if training.epochs is None or epoch is not None:
        horizon = make_horizon(training, per_step, epoch or 1)
    costs = predict(needed.ledger, training, speed.plan, speed.step_seconds, horizon)
    seen = None if costs.seconds is None else costs.seconds * costs.tokens_per_second
    return {
        "shape": needed.ledger.shape,
        "parameters": f"{needed.ledger.total:,}",
        **{f"  {group}": f"{n:,}" for group, n in needed.ledger.groups.items() if n},
        **({"claims of its document": told} if (told := in_range(recipe)) else {}),
        "model file (fp32)": human_bytes(costs.file_bytes),
        "training memory": human_bytes(costs.memory_bytes),
        "disk": human_bytes(needed.disk["total"]),
        "tokens a step": f"{per_step:,}",
        "steps an epoch": "known when it is collected" if epoch is None else f"{epoch:,}",
        "speed here": f"{costs.tokens_per_second:,.0f} tokens/s in {speed.plan.precision}",
        "steps": "" if costs.steps is None else f"{costs.steps:,}",
        "tokens seen": "" if seen is None else f"{seen:,.0f} ({seen / needed.ledger.total:.1f} a parameter)",
        "training time here": "known when it is collected"
        if costs.seconds is None
        else f"{costs.seconds / 60:,.1f} minutes",
    }


def training_tokens(store: Store, recipe: Recipe) -> int | None:
    """Tokens of the training split that a run of this recipe made last, None when there is none in the store."""
    newest = sorted(store.readable("tokens"), key=lambda artifact: artifact.manifest.provenance.finished, reverse=True)
    for artifact in newest:
        plan = store.root / "runs" / artifact.manifest.provenance.run / "plan.json"
        try:
            name = json.loads(plan.read_bytes())["recipe"]["name"]
            split = read_meta(artifact.path).splits.get("train")
        except (OSError, ValueError, KeyError, TypeError, RunError):
            continue  # that run's plan is gone: another artifact may tell
        if name == recipe.name and split is not None:
            return split.tokens
    return None
