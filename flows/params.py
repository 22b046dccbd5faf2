"""`collect-train params`: what a recipe would build and cost, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.claims import show_claims
from flows.estimate import known_steps, needs
from flows.look import human_bytes
from lmcore.recipe import load_recipe
from lmcore.train import TORCH_BYTES
from lmcore.train.params import HORIZONS, TrainParams


def show_params(recipe: str, overrides: Sequence[str], console: Console) -> None:
    """Print the parameter ledger, file size, memory, tokens a step and an honest range of time.

    The time comes from this machine's own speed, measured for half a second.
    """
    loaded = load_recipe(recipe, overrides)
    import torch

    from lmcore.train.machine import product_gflops

    training, vocabulary = loaded.training, loaded.tokenizer.vocab_size
    speeds = product_gflops("cpu", [torch.float32, torch.bfloat16])
    rates = dict(zip(("fp32", "bf16"), (speed * 1e9 for speed in speeds), strict=True))
    fastest = max(rates, key=lambda name: rates[name])
    precision = fastest if training.precision == "auto" else training.precision
    rates["fp16"] = rates["bf16"]  # not for this CPU, and as fast where it is for
    needed = needs(loaded, precision)
    ledger, memory, disk = needed.ledger, needed.memory, needed.disk
    table = Table("part", "shape", "parameters", title=f"{loaded.name}: {loaded.description}", title_justify="left")
    for row in ledger.rows:
        table.add_row(row.part, " x ".join(f"{size:,}" for size in row.shape), f"{row.parameters:,}")
    table.add_section()
    table.add_row("total", "", f"{ledger.total:,}", style="bold")
    console.print(table)

    per_step = training.batch * loaded.model.context
    flops = ledger.flops_per_token()
    slow, quick = (share * rates[precision] / flops for share in ledger.UTILISATION)
    horizon = next(name for name in HORIZONS if getattr(training, name) is not None)
    facts = {
        "vocabulary": f"{vocabulary:,} tokens asked for; the text decides how many it can fill",
        "model file": f"{human_bytes(ledger.bytes())} (fp32)",
        "training memory": f"about {human_bytes(memory['total'])} (weights {human_bytes(memory['weights'])}, gradients "
        f"{human_bytes(memory['gradients'])}, optimizer {human_bytes(memory['optimizer'])}, activations "
        f"{human_bytes(memory['activations'])}) beside about {human_bytes(TORCH_BYTES)} of torch itself",
        "disk": f"about {human_bytes(disk['total'])} (texts {human_bytes(disk['texts'])}, checkpoints "
        f"{human_bytes(disk['checkpoints'])}, model {human_bytes(disk['model'] + disk['milestones'])})",
        **({"milestones": _milestones(training, ledger.bytes())} if training.milestone_every else {}),
        "tokens a step": f"{per_step:,} = {training.batch} sequences of {loaded.model.context}",
        "arithmetic": f"{flops:,} operations a token",
        "this machine": f"{rates['fp32'] / 1e9:,.0f} GFLOP/s in fp32, {rates['bf16'] / 1e9:,.0f} in bf16, "
        f"{torch.get_num_threads()} threads",
        "speed": f"about {slow:,.0f} to {quick:,.0f} tokens/s in {precision}",
        "budget": _budget(horizon, float(getattr(training, horizon)), per_step, slow, quick),
    }
    summary = Table(show_header=False)
    for name, fact in facts.items():
        summary.add_row(name, Text(fact))
    console.print(summary)
    show_claims(loaded, console)


def _milestones(training: TrainParams, each: int) -> str:
    told = f"the models of step 0 and of every {training.milestone_every:,} steps after it, {human_bytes(each)} each"
    if (steps := known_steps(training)) is None:
        return f"{told}; the number of steps is not known yet, and the disk above has the first alone"
    count = training.milestones(steps)
    return f"{told}: {count:,}, together {human_bytes(count * each)}"


def _budget(horizon: str, amount: float, per_step: int, slow: float, quick: float) -> str:
    if horizon == "minutes":
        low, high = slow * amount * 60, quick * amount * 60
        steps = f"{low / per_step:,.0f} to {high / per_step:,.0f} steps"
        return f"{amount:g} minutes: about {low:,.0f} to {high:,.0f} tokens, {steps}"
    if horizon == "epochs":
        return f"{amount:g} passes over the training text; the time depends on how much is collected"
    tokens = amount if horizon == "tokens" else amount * per_step
    time = f"{tokens / quick / 60:,.1f} to {tokens / slow / 60:,.1f} minutes"
    return f"{tokens:,.0f} tokens ({tokens / per_step:,.0f} steps): about {time}"
