"""Every small recipe of the five systems in full, one after the other, and its figures in docs/systems/.

    python benchmarks/systems.py [--store FOLDER] [--only soma lai] [--docs docs/systems]

Each `NAME-small` runs to its release through the flow that `collect-train run` uses, in a process of its own, those
that begin from another's model after it. What is built already is reused, so a second call only writes the pages
again; `made` then tells how long the stages took when they were built. The part of docs/systems/NAME.md below
`## Measured` is replaced.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lmcore.recipe import load_recipe, packaged_recipes  # noqa: E402
from lmcore.report.probes import probe_tables  # noqa: E402

if TYPE_CHECKING:
    from flows.built import Built

SYSTEMS = ("soma", "lai", "cllm", "mu", "amharic")
SMALL = "-small"
MEASURED = "## Measured\n"
SHOWN = 300  # letters of a sample
ROWS = 12  # of a table of one measurement


def main() -> int:
    """Run what is asked for, write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "systems")
    parser.add_argument("--one", nargs=2, metavar=("RECIPE", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        recipe, file = arguments.one
        Path(file).write_text(json.dumps(run_one(recipe, arguments.store)), encoding="utf-8")
        return 0
    failed = []
    for system in arguments.only:
        measured = []
        for recipe in recipes_of(system):
            began = time.monotonic()
            found = in_a_process(recipe, arguments.store)
            print(f"{recipe}: {'failed' if found is None else 'done'} in {time.monotonic() - began:.0f} s", flush=True)
            if found is None:
                failed.append(recipe)
            else:
                measured.append(found)
        if len(measured) == len(recipes_of(system)):  # else the page keeps the figures it has
            write_page(arguments.docs / f"{system}.md", measured)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def recipes_of(system: str) -> list[str]:
    """Names of a system's small recipes, each after the one whose model it begins from."""
    names = [n for n in packaged_recipes() if n.endswith(SMALL) and n.removesuffix(SMALL).split("-")[0] == system]
    begun = {name: str(load_recipe(name).model_dump(mode="json")["train"].get("init_from") or "") for name in names}

    def depth(name: str) -> int:
        parent = begun.get(name, "").partition("@")[0]
        return 1 + depth(parent) if parent in begun else 0

    return sorted(names, key=lambda name: (depth(name), name))


def in_a_process(recipe: str, store: Path) -> dict[str, Any] | None:
    """What a run of a recipe gave; None when it failed, which it has told."""
    file = store.resolve() / "systems" / f"{recipe}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--store", str(store), "--one", recipe, str(file)]
    done = subprocess.run(command, check=False)
    return json.loads(file.read_bytes()) if done.returncode == 0 else None


def run_one(recipe: str, store: Path) -> dict[str, Any]:
    """Run a recipe, and give what it measured."""
    from rich.console import Console

    from flows.run import run_recipe
    from storage.store import Store

    built = run_recipe(Store(store), recipe, [], edition="", first="collect", last="release", console=Console())
    return {"recipe": recipe} | figures(built)


def figures(built: Built) -> dict[str, Any]:
    """A run's figures, its claims with their verdicts, and one sample, as plain JSON."""

    def read(stage: str, name: str) -> Any:
        artifact = built.one(stage)
        assert artifact is not None
        return json.loads(artifact.file(name).read_text(encoding="utf-8"))

    every = [artifact for artifacts in built.artifacts.values() for artifact in artifacts]
    return {
        "made": sum(artifact.manifest.provenance.seconds for artifact in every),
        "corpus": read("curate", "stats.json"),
        "training": read("train", "provenance/training.json"),
        "evaluation": read("evaluate", "evaluation.json"),
        "samples": read("evaluate", "samples.json"),
        "claims": [
            {"metric": c.metric, "when": str(c.row.at), "claim": c.claim, "source": c.row.source}
            | {"measured": c.shown, "told": c.told}
            for c in built.claims
        ],
    }


def write_page(page: Path, measured: list[dict[str, Any]]) -> None:
    """Replace what a page has below its heading `Measured`."""
    text = page.read_text(encoding="utf-8")
    if MEASURED not in text:
        raise SystemExit(f"{page} has no heading {MEASURED.strip()!r} to write below")
    page.write_text(replace_section(text, MEASURED, "\n".join(["", *lines_of(measured)])), encoding="utf-8")


def replace_section(text: str, heading: str, body: str, above: str = "") -> str:
    """A page with another body below a heading; a heading that it lacks is put above another one.

    What follows from the next heading of the same rank on stays.
    """
    if heading not in text:
        before, found, after = text.partition(above)
        assert found, f"there is no heading {above.strip()!r} either"
        return f"{before}{heading}{body}\n{found}{after}"
    before, _, after = text.partition(heading)
    following = after.find("\n## ")
    return before + heading + body + (after[following:] if following >= 0 else "")


def lines_of(measured: list[dict[str, Any]]) -> list[str]:
    """The section as Markdown."""
    lines = ["From `make systems`; what was built already is reused, and its times are those of its making.", ""]
    heads = ("recipe", "parameters", "texts", "steps", "training", "made in", "bits per byte", "95 %", "baselines")
    lines += [row(heads), "|---|" + "---:|" * 7 + "---|"]
    for found in measured:
        training, headline = found["training"], found["evaluation"]["headline"]
        low, high = headline["interval"]
        lines.append(
            row(
                (
                    f"`{found['recipe']}`",
                    f"{training['parameters']:,}",
                    f"{found['corpus']['kept']['records']:,}",
                    f"{training['steps']:,}",
                    minutes(training["seconds"]),
                    minutes(found["made"]),
                    f"{headline['bits_per_byte']:.3f}",
                    f"{low:.3f} to {high:.3f}",
                    ", ".join(
                        f"{b['name']} {b['bits_per_byte']:.3f}{'' if b['beaten'] else ' (not beaten)'}"
                        for b in found["evaluation"]["baselines"]
                    ),
                )
            )
        )
    for found in measured:
        if found["claims"]:
            lines += ["", f"Claims, at the size of `{found['recipe']}`:", ""]
            lines += [row(("metric", "when", "the document", "measured", "verdict")), "|---|---|---:|---:|---|"]
            lines += [
                row((c["metric"], c["when"], f"{c['claim']} ({c['source']})", c["measured"], c["told"]))
                for c in found["claims"]
            ]
    for found in measured:
        for table in probe_tables(found["evaluation"]):
            lines += ["", f"{table.title}, `{found['recipe']}`:", ""]
            lines += [row(tuple(heading.removeprefix(">") for heading in table.headings))]
            lines += ["|" + "".join("---:|" if heading.startswith(">") else "---|" for heading in table.headings)]
            lines += [row(tuple(plain(cell) for cell in cells)) for cells in table.rows[:ROWS]]
            lines += ["", table.note] if table.note else []
    lines += ["", "What the models say (the likeliest continuation of the recipe's first prompt):", ""]
    for found in measured:
        first = next((s for s in found["samples"] if s["greedy"]), None)
        if first is not None:
            said = " ".join(first["text"].split())[:SHOWN]
            lines.append(f"- `{found['recipe']}`: **{plain(first['prompt'])}** {plain(said)}")
    return [*lines, ""]


def row(cells: tuple[str, ...]) -> str:
    """A line of a table."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in text)


def minutes(seconds: float) -> str:
    """Seconds as minutes and seconds."""
    whole, rest = divmod(round(seconds), 60)
    return f"{whole}:{rest:02d}"


if __name__ == "__main__":
    sys.exit(main())
