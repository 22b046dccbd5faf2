"""`collect-train stats`: what a training text is worth at a glance, by its lines."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.corpora import corpus_of
from flows.train_text import split_files
from lmcore.collect.editions import document_files
from lmcore.curate.line_files import count_files, vocabulary_size
from lmcore.curate.line_stats import LineStats, text_lines, verdict
from lmcore.curate.measure import measured_files
from storage.parquet import batches
from storage.store import STAGES, Artifact, Store
from storage.text import printable

TASKS = 12  # that are told


def show_stats(store: Store, what: str, console: Console, *, vocab: Path | None, split: str) -> bool:
    """Print the lines of a path or an artifact and the verdict, and whether it is good.

    Raises UserError for what is neither, or for a file that is no vocabulary; RunError for a damaged file.
    """
    size = vocabulary_size(vocab) if vocab else None
    stats = LineStats()
    path = Path(what)
    if path.exists() and what not in STAGES and not (path / "manifest.json").is_file():
        files = count_files(path, stats)
        of = f"{path}" if files == 1 else f"{path}, {files:,} files"
    else:
        artifact, files_ = _files(store, what, split)
        for file in files_:
            names = set(pq.read_schema(file).names)
            for batch in batches(file, [name for name in ("text", "kind") if name in names], rows=256):
                for text, kind in zip(batch["text"].to_pylist(), batch["kind"].to_pylist(), strict=True):
                    stats.add(text_lines(text), kind)
        of = f"{artifact.stage}/{artifact.key[:12]}" + (f", {split}" if artifact.stage == "curate" else "")
    _show(of, stats, stats.words if size is None else size, f"{vocab}" if vocab else "different words", console)
    return all(check.good for check in verdict(stats, stats.words if size is None else size))


def _files(store: Store, what: str, split: str) -> tuple[Artifact, list[Path]]:
    """The artifact that is meant and its files of texts; of one without texts, the corpus that it was made of."""
    found = store.resolve(what) if not what.endswith((".yaml", ".yml")) and what in STAGES else None
    if found is None and "/" in what:
        found = store.resolve(what)
    if found is not None and found.stage == "collect":
        return found, document_files(found.local())
    if found is not None and found.stage == "measure":
        return found, measured_files(found.local())
    corpus = corpus_of(store, what)
    return corpus, split_files(corpus, split)


def _show(of: str, stats: LineStats, vocabulary: int, source: str, console: Console) -> None:
    console.print(Text(printable(of), style="bold"), soft_wrap=True)
    table = Table(show_header=False)
    table.add_column("what")
    table.add_column("number", justify="right")
    table.add_row("lines", f"{stats.total:,}")
    table.add_row("not empty", f"{stats.non_empty:,}")
    table.add_row("unique", f"{stats.unique:,}")
    table.add_row("unique / not empty", f"{stats.share:.1%}")
    table.add_row(f"vocabulary ({printable(source)})", f"{vocabulary:,}")
    console.print(table)
    every = sum(stats.tasks.values())
    mix = Table("task", "number", "share", title="task mix", title_justify="left")
    for name, n in stats.tasks.most_common(TASKS):
        mix.add_row(Text(printable(name)), f"{n:,}", f"{n / every:.1%}")
    if len(stats.tasks) > TASKS:
        rest = every - sum(n for _, n in stats.tasks.most_common(TASKS))
        mix.add_row(f"{len(stats.tasks) - TASKS:,} more", f"{rest:,}", f"{rest / every:.1%}")
    if every:
        console.print(mix)
    checks = verdict(stats, vocabulary)
    for check in checks:
        style = "green" if check.good else "yellow"
        line = f"{'good' if check.good else 'NOT good'}: {check.name} {check.value}, wanted {check.wanted}"
        console.print(Text(line, style=style))
    failing = [check.name for check in checks if not check.good]
    console.print(Text(f"verdict: {'good' if not failing else 'not good for its ' + ', '.join(failing)}", style="bold"))
