"""Commands that look at a store: status, show, why, sql, verify, releases."""

from __future__ import annotations

import csv as csv_module
import sys
from collections.abc import Sequence
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from flows.runs import show_runs
from lmcore.curate.privacy import blank
from lmcore.recipe import load_recipe
from storage.catalog import Catalog
from storage.errors import RunError, UserError
from storage.registry import Registry
from storage.store import Artifact, Store
from storage.text import number, printable
from tasks.words import summarise

WIDE = 110  # columns of a terminal from which there is room for what an artifact is
OVERLAPS = 8  # of a text that are told
NARROW = ("stage", "key", "finished", "seconds", "size")


def show_status(store: Store, console: Console) -> None:
    """Runs that go on or were left unfinished, champions, other work in progress and finished artifacts."""
    runs = show_runs(store, console)
    told = {f"{stage.stage}-{stage.key}" for run in runs for stage in run.stages.values()}
    registry = Registry(store.root)
    for name in registry.names():
        champion = registry.champion(name)
        if champion:
            figure = f", {champion.bits_per_byte:.3f} bits per byte" if champion.bits_per_byte is not None else ""
            console.print(Text(f"champion {name}@{champion.number}{figure}", style="bold green"))
    for folder in sorted((store.root / ".work").glob("*-*")):
        if folder.name in told:
            continue
        console.print(Text(f"unfinished {folder.name[:40]}: the next run continues it", style="yellow"))
    wide = console.width >= WIDE
    table = Table()
    for name in ("stage", "key", "digest", "finished", "seconds", "size") if wide else NARROW:
        table.add_column(name, no_wrap=True)
    if wide:
        table.add_column("what")
    damaged: list[Artifact] = []
    for artifact in store.artifacts():
        try:
            manifest = artifact.manifest
        except RunError:
            damaged.append(artifact)
            continue
        size = sum(entry.size for entry in manifest.content.files.values())
        cells = {
            "stage": artifact.stage,
            "key": artifact.key[:12],
            "digest": artifact.digest[:12],
            "finished": manifest.provenance.finished[:16].replace("T", " "),
            "seconds": f"{manifest.provenance.seconds:,.1f}",
            "size": human_bytes(size),
            "what": summarise(manifest.provenance.metrics),
        }
        table.add_row(*(Text(printable(cells[str(column.header)])) for column in table.columns))
    if table.row_count:
        console.print(table)
    for artifact in damaged:
        line = f"damaged {artifact.stage}/{artifact.key}: its manifest cannot be read; collect-train verify"
        console.print(Text(printable(f"{line} sets it aside, the next run builds it again"), style="red"))
    if not table.row_count and not damaged:
        console.print(Text(f"{store.root} holds no artifact yet; start with: collect-train run quickstart"))


def show_artifact(store: Store, name: str, console: Console) -> None:
    """One artifact: files, provenance and the chain it came from."""
    artifact = store.resolve(name)
    manifest = artifact.manifest
    console.print(Text(f"{artifact.stage}/{artifact.key}", style="bold"))
    console.print(Text(f"content digest {artifact.digest}\n{artifact.path}"))
    files = Table("file", "size", "sha256")
    for group in (manifest.content.files, manifest.provenance.files):
        for file, entry in group.items():
            files.add_row(file, human_bytes(entry.size), entry.sha256[:16])
    console.print(files)
    told = manifest.provenance.model_dump(mode="json", exclude={"files", "inputs"})
    console.print(Text(yaml.safe_dump(told, sort_keys=False, allow_unicode=True)))
    chain = Table("from", "key", "digest", title="lineage", title_justify="left")
    for depth, source in _ancestors(store, artifact):
        chain.add_row("  " * depth + source.stage, source.key[:12], source.digest[:12])
    console.print(chain)


def show_recipe(name: str, overrides: Sequence[str], console: Console) -> None:
    """A recipe with every default written out."""
    values = load_recipe(name, overrides).model_dump(mode="json")
    console.print(Text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True)), soft_wrap=True)


def show_why(store: Store, page: str, console: Console) -> None:
    """The decision on one collected text: rule, value, limit, the text it is like, what it overlaps with; masked.

    `page` may be its true address, its address as it is shown, or its record id.
    """
    for row in Catalog(store).why(page, blank):
        table = Table(show_header=False)
        for name, value in row.items():
            for line in _overlaps(value) if name == "overlaps" and value else [value]:
                if line is not None:
                    table.add_row("limit" if name == "threshold" else name, Text(printable(blank(_told(line)))))
        console.print(table)


def _overlaps(found: Sequence[dict[str, Any]]) -> list[str]:
    lines = [
        f"{one['set']}: {one['url'] or one['item']} ({one['n_grams']:,} n-grams, {one['chars']:,} characters)"
        for one in found[:OVERLAPS]
    ]
    return [*lines, f"and {len(found) - OVERLAPS:,} more"] if len(found) > OVERLAPS else lines


def _told(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)


def show_query(store: Store, query: str, console: Console, *, csv: bool) -> None:
    """The answer to one SELECT, as a table or as CSV."""
    catalog = Catalog(store)
    for line in catalog.left_out:
        Console(stderr=True).print(Text(line, style="yellow"), soft_wrap=True)
    answer = catalog.query(query)
    if csv:
        writer = csv_module.writer(sys.stdout)
        writer.writerow(answer.column_names)
        writer.writerows(row.values() for row in answer.to_pylist())
        return
    table = Table(*[escape(name) for name in answer.column_names])
    for row in answer.to_pylist():
        table.add_row(*[Text(_cell(value)) for value in row.values()])
    console.print(table)
    console.print(Text(f"{answer.num_rows:,} rows", style="dim"))


def verify_store(store: Store, console: Console) -> int:
    """Hash everything; give the number of damaged artifacts."""
    count = sum(1 for _ in store.artifacts())
    with Progress(console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task("verify", total=count)
        found = store.verify(lambda artifact: bar.update(row, advance=1, description=f"verify {artifact.stage}"))
    for damage in found:
        console.print(Text(f"{damage.stage}/{damage.key[:12]} is damaged: {damage.fault_found}", style="red"))
        if damage.aside:
            console.print(Text(f"  set aside in {damage.aside}; the next run rebuilds it"))
        else:
            console.print(Text("  only its provenance; its content is whole and stays in use"))
        for artifact in damage.stale:
            console.print(Text(f"  built from it: {artifact.stage}/{artifact.key[:12]}", style="yellow"))
    console.print(Text(f"{count:,} artifacts verified, {len(found)} damaged", style="bold"))
    return len(found)


def show_releases(store: Store, name: str, console: Console) -> None:
    """Every release of one recipe or of all."""
    registry = Registry(store.root)
    names = [name] if name else registry.names()
    if name and name not in registry.names():
        raise UserError(
            f"{name!r} has no release in {store.root}", f"there are: {', '.join(registry.names()) or 'none'}"
        )
    table = Table("release", "", "bits per byte", "decided", "model", "reason")
    for recipe in names:
        state = registry.read(recipe)
        for release in state.releases:
            standing = (
                "champion"
                if release.number == state.champion
                else "withdrawn"
                if release.number in state.withdrawn
                else ""
            )
            table.add_row(
                f"{recipe}@{release.number}",
                standing or ("promoted" if release.promoted else "refused"),
                "" if release.bits_per_byte is None else f"{release.bits_per_byte:.4f}",
                release.decided[:16].replace("T", " "),
                release.model_key[:12],
                Text(release.reason),
            )
    if table.row_count:
        console.print(table)
    else:
        console.print(Text(f"{store.root} has no release yet"))


def human_bytes(size: float) -> str:
    """A size for people: 1.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _ancestors(store: Store, artifact: Artifact) -> list[tuple[int, Artifact]]:
    """Depth and artifact of all that it came from, in the order of the tree; a part that comes again is told once."""
    found: list[tuple[int, Artifact]] = []
    pending, told = [(-1, artifact)], set()  # not by recursion: a chain of nights may be a thousand long
    while pending:
        depth, at = pending.pop()
        if depth >= 0:
            found.append((depth, at))
        if at.path not in told:
            told.add(at.path)
            sources = [Artifact(entry.stage, entry.key, str(store.root)) for entry in at.manifest.provenance.inputs]
            pending += [(depth + 1, source) for source in reversed(sources) if source.path.exists()]
    return found


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = printable(f"{value:,.4f}" if isinstance(value, float) else str(value))
    return text if len(text) <= 200 else text[:199] + "…"
