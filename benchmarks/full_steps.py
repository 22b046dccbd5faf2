"""One real optimizer step of every full shape of the five systems, and its figures in docs/systems/.

    python benchmarks/full_steps.py [--store FOLDER] [--only soma lai] [--docs docs/systems]
                                    [--again | --pages] [--shared]

What `collect-train params NAME --step` does for every recipe that has a shape, a batch or an optimizer of its own, each
in a process of its own, one at a time. A recipe that begins from another's release is measured on a new model of its
shape, which takes as long. What a step took is kept in STORE/steps, so that a second call only writes the pages again;
`--again` measures anew, `--pages` measures nothing and names what is missing, `--shared` says that other work ran
beside it and times are upper bounds. What docs/systems/NAME.md has below `## One step of the full shape` is replaced.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from systems import ROOT, SMALL, SYSTEMS, replace_section, row

from lmcore.recipe import load_recipe, packaged_recipes

if TYPE_CHECKING:
    from lmcore.recipe import Recipe
    from lmcore.train.trial import Tried

HEADING, ABOVE = "## One step of the full shape\n", "## Measured\n"


def main() -> int:
    """Measure what is asked for, write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "systems")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--again", action="store_true", help="measure what has been measured once more")
    which.add_argument("--pages", action="store_true", help="measure nothing: write what has been measured")
    parser.add_argument("--shared", action="store_true", help="other work ran beside it")
    arguments = parser.parse_args()
    failed = []
    for system in arguments.only:
        shapes = shapes_of(system)
        steps = {}
        for name in shapes:
            file = arguments.store / "steps" / f"{name}.json"
            if arguments.pages and not file.is_file():
                continue
            found = step_of(name, file, arguments.again)
            if found is None:
                failed.append(name)
            else:
                steps[name] = found
        if len(steps) == len(shapes) or (arguments.pages and steps):  # else the page keeps the figures it has
            page = arguments.docs / f"{system}.md"
            body = "\n".join(["", *lines_of(steps, shapes, arguments.shared), ""])
            text = replace_section(page.read_text(encoding="utf-8"), HEADING, body, above=ABOVE)
            page.write_text(text, encoding="utf-8")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def shapes_of(system: str) -> dict[str, list[str]]:
    """A system's full recipes, with those whose step is the same computation; that of the system itself first."""
    names = [n for n in packaged_recipes() if not n.endswith(SMALL) and n.split("-")[0] == system]
    same: dict[str, list[str]] = {}
    alike: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (name != system, name)):
        first = alike.setdefault(computation(load_recipe(name)), name)
        same.setdefault(first, []).extend([name] if name != first else [])
    return same


def computation(recipe: Recipe) -> str:
    """What a step of a recipe computes: recipes of which this is equal have equal steps."""
    training = recipe.training
    parts = (recipe.model, recipe.tokenizer.vocab_size, training.batch, training.optimizer, training.lora)
    return repr((*parts, recipe.runtime.train.activation_checkpointing))


def step_of(name: str, file: Path, again: bool) -> Tried | None:
    """What a step of a recipe took, now or when it was measured; None when it failed, which is told."""
    from rich.console import Console

    from flows.trial import show_step
    from lmcore.train.trial import Tried
    from storage.errors import CollectTrainError
    from storage.store import Store

    if file.is_file() and not again:
        return Tried.model_validate_json(file.read_bytes())
    console = Console()
    with tempfile.TemporaryDirectory() as empty:  # no text of an earlier run decides how long an epoch is
        try:
            tried = show_step(Store(Path(empty)), name, (), console)
        except CollectTrainError as error:
            console.print(f"{name}: {error.what}; {error.mend}", style="red", markup=False)
            return None
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(tried.model_dump_json(indent=1), encoding="utf-8")
    return tried


def lines_of(steps: dict[str, Tried], shapes: dict[str, list[str]], shared: bool) -> list[str]:
    """The section as Markdown."""
    from flows.look import human_bytes
    from flows.trial import document_projection, long_time, per_step
    from lmcore.report.words import duration

    first = settled(next(iter(steps.values())))
    machine = f"{first['device']}, {first['threads']} threads"
    lines = [
        "From `benchmarks/full_steps.py`: `collect-train params RECIPE --step` for every full shape, random tokens",
        f"through the trainer's own step, each in a process of its own ({machine}).",
        *(["Other work shared the machine, so the times are upper bounds."] if shared else []),
        "",
    ]
    heads = ("recipe", "parameters", "tokens a step", "one step", "peak memory", "loss", "ln V", "a million tokens")
    lines += [row((*heads, "the document's training")), "|---|" + "---:|" * len(heads)]
    notes = []
    for name, tried in steps.items():
        recipe = load_recipe(name)
        each = per_step(recipe)
        projected = document_projection(recipe, tried.seconds) or "it names no amount of text"
        lines.append(
            row(
                (
                    f"`{name}`",
                    f"{tried.parameters:,}",
                    f"{each:,}",
                    f"{duration(tried.seconds)}, {settled(tried)['precision']}",
                    human_bytes(tried.peak_memory),
                    f"{tried.loss:.3f}",
                    f"{tried.uniform_loss:.3f}",
                    long_time(1e6 / each * tried.seconds),
                    projected,
                )
            )
        )
        if shapes[name]:
            notes.append(f"- {', '.join(f'`{other}`' for other in shapes[name])}: the same step as `{name}`'s.")
        if recipe.train.init_from not in ("scratch", "champion"):
            notes.append(
                f"- `{name}` begins from the released `{recipe.train.init_from}`; here from a new model of its shape."
            )
    if missing := [f"`{name}`" for name in shapes if name not in steps]:
        notes.append(f"- not measured yet: {', '.join(missing)}.")
    return [*lines, *(["", *notes] if notes else [])]


def settled(tried: Tried) -> dict[str, str]:
    """What the plan settled, by name: its lines are name, value and reason, two spaces or more apart."""
    return {parts[0]: parts[1] for line in tried.plan if len(parts := re.split(r"\s{2,}", line.strip())) > 1}


if __name__ == "__main__":
    sys.exit(main())
