"""`collect-train run`: the flow, here and now, with its summary."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.embedded import answering, prefect_server
from flows.stages import Range
from lmcore.recipe import load_recipe
from storage.store import Store
from storage.text import printable

if TYPE_CHECKING:
    from flows.built import Built
    from lmcore.report.probes import ProbeTable

_QUIET = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # failures are told in two lines of our own
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",  # a server that dies is told in one line of our own
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_CLI_COLORS": "false",
    "OMP_WAIT_POLICY": "passive",  # as in the trainer: evaluation must not crawl when the machine is busy
}


def run_recipe(
    store: Store, recipe: str, overrides: Sequence[str], *, edition: str, first: str, last: str, console: Console
) -> Built:
    """Run a recipe in this process, with an embedded Prefect server unless one is configured, and print a summary."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("EventsWorker").setLevel(logging.ERROR)  # Prefect's: how much it has left to send at the end
    started = time.monotonic()
    Range(first, last)  # a mistake here or in the recipe is told before anything starts
    loaded = load_recipe(recipe, overrides)
    console.print(Text.assemble((loaded.name, "bold"), f"  {loaded.description}"))
    console.print(Text(f"store {store.root}", style="dim"))
    with answering(), prefect_server(store):
        from flows.collect_train import collect_train
        from tasks.progress import terminal

        with terminal(console):
            built: Built = collect_train(
                recipe, edition=edition, set=list(overrides), store=str(store.root), first=first, last=last
            )
    _summary(built, time.monotonic() - started, console)
    return built


def _summary(built: Built, seconds: float, console: Console) -> None:
    from flows.plan import run_folder
    from flows.publish import next_commands
    from lmcore.report.probes import probe_tables

    evaluation = built.one("evaluate")
    if evaluation is not None:
        figures = json.loads(evaluation.file("evaluation.json").read_text(encoding="utf-8"))
        headline = figures["headline"]
        table = Table(title=f"held-out {headline['split']} pages: {headline['bytes']:,} bytes", title_justify="left")
        table.add_column("bits per byte", justify="right")
        table.add_column("who")
        low, high = headline["interval"]
        table.add_row(
            f"{headline['bits_per_byte']:.3f}", f"this model (95 % interval {low:.3f} to {high:.3f})", style="bold"
        )
        for baseline in figures["baselines"]:
            beaten = "beaten" if baseline["beaten"] else "NOT beaten"
            table.add_row(f"{baseline['bits_per_byte']:.3f}", Text(f"{baseline['name']}: {beaten}"))
        console.print(table)
        for found in probe_tables(figures):
            console.print(_probe(found))
            console.print(Text(printable(found.note), style="dim"))
    if built.claims:
        from flows.claims import claims_table

        console.print(claims_table(built.claims))
    minutes, rest = divmod(int(seconds), 60)
    console.print(
        Text(f"done in {minutes}:{rest:02d}; report: {run_folder(built.store, built.plan.run) / 'report.html'}")
    )
    console.print("next:")
    for command in next_commands(built):
        console.print(Text(f"  {command}", style="bold"))


def _probe(found: ProbeTable) -> Table:
    """A further measurement."""
    table = Table(title=found.title, title_justify="left")
    for heading in found.headings:
        table.add_column(heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left")
    for row in found.rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
