"""`collect-train doctor`: will a run work here, and if not, how to mend it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.checks.disk import check_disk
from flows.checks.finding import Finding, failure, ok
from flows.checks.machine import check_machine, measure_precision
from flows.checks.program import check_program
from flows.checks.server import check_server
from flows.checks.sources import check_mixture, check_pool, check_sources
from flows.estimate import Needs, needs
from lmcore.recipe import Recipe, load_recipe
from storage.errors import CollectTrainError
from storage.store import Store
from storage.text import printable

STYLES = {"ok": "green", "warning": "yellow", "failure": "bold red"}


def examine(store: Store, recipe: str, overrides: Sequence[str]) -> list[Finding]:
    """Look at everything that a run of `recipe` (or of any, when it is "") depends on."""
    findings = list(check_program())
    if any(finding.name == "torch" and finding.state == "failure" for finding in findings):
        return findings  # nothing below loads without it
    speeds, chosen = measure_precision()
    loaded, needed = None, None
    if recipe:
        loaded, found = _recipe(recipe, overrides)
        findings.append(found)
    if loaded:
        precision = chosen if loaded.training.precision == "auto" else loaded.training.precision
        needed = needs(loaded, precision)
    return [*findings, *_world(store, loaded, needed, speeds, chosen)]


def show_findings(findings: Sequence[Finding], console: Console, *, as_json: bool) -> bool:
    """Print what was found; True when a run would fail."""
    counts = {state: sum(finding.state == state for finding in findings) for state in STYLES}
    if as_json:
        values = {"checks": [finding.to_json() for finding in findings], **counts}
        print(json.dumps(values, indent=1, ensure_ascii=False))
        return counts["failure"] > 0
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(
            Text(finding.state, style=STYLES[finding.state]),
            Text(printable(finding.name), style="bold"),
            Text(printable(finding.told)),
        )
        if finding.mend:
            table.add_row("", "", Text(printable(f"to mend: {finding.mend}"), style=STYLES[finding.state]))
    console.print(table)
    told = [f"{count} {state}{'s' if count != 1 and state != 'ok' else ''}" for state, count in counts.items()]
    console.print(Text(", ".join(told), style="bold"))
    return counts["failure"] > 0


def _recipe(recipe: str, overrides: Sequence[str]) -> tuple[Recipe | None, Finding]:
    try:
        loaded = load_recipe(recipe, overrides)
    except CollectTrainError as error:
        return None, failure("recipe", error.what, error.mend)
    return loaded, ok("recipe", f"{loaded.name}: {loaded.description or 'loads'}")


def _world(
    store: Store, recipe: Recipe | None, needed: Needs | None, speeds: dict[str, float], chosen: str
) -> list[Finding]:
    wanted = recipe.runtime.train.device if recipe else "auto"
    findings = [*check_machine(speeds, chosen, wanted, needed), *check_disk(store, needed)]
    served, pools = check_server(store)
    findings += served
    if recipe is not None:
        findings += [*check_sources(recipe), *check_mixture(recipe), *check_pool(recipe, pools)]
    return findings
