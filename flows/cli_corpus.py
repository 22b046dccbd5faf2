"""Commands about a corpus: card, sample, stats, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from flows.app import StoreOption, app, console, store_at
from lmcore.samples import VARIABLE, named_folder
from storage.errors import UserError
from storage.text import printable

CorpusArgument = Annotated[
    str, typer.Argument(metavar="RECIPE|ARTIFACT", help="A recipe, or curate/KEY; empty: the newest corpus.")
]
SplitOption = Annotated[str, typer.Option(help="train, val or test.")]


@app.command()
def data(
    names: Annotated[list[str] | None, typer.Argument(help="Sets, as docs/samples.md names them; none: all.")] = None,
    to: Annotated[str, typer.Option(metavar="DIR", help=f"The folder they go into [{VARIABLE} or ./data].")] = "",
) -> None:
    """Fetch larger sets of the samples' names from packages; recipes that read samples then read these."""
    from lmcore.collect.packages.build import build

    folder = Path(to) if to else named_folder()
    rows = build(names or [], folder, lambda line: console.print(Text(printable(line)), soft_wrap=True))
    found = f"{len(rows)} sets in {folder.absolute()}: recipes read them where {VARIABLE} names it, or from ./data"
    console.print(Text(found), soft_wrap=True)


@app.command()
def card(
    corpus: CorpusArgument = "",
    out: Annotated[Path, typer.Option(help="The file to write; one that is there is replaced.")] = Path("corpus.html"),
    store: StoreOption = "",
) -> None:
    """All about a corpus on one page: counts, drops with examples, copies, overlaps, licences; each with its query."""
    from flows.card import show_card

    show_card(store_at(store), corpus, out, console)


@app.command()
def sample(
    corpus: CorpusArgument = "",
    dropped: Annotated[str, typer.Option(metavar="RULE", help="Texts that this rule dropped.")] = "",
    split: SplitOption = "train",
    n: Annotated[int, typer.Option("-n", min=1, max=1000, help="How many.")] = 5,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal texts.")] = 0,
    store: StoreOption = "",
) -> None:
    """Some texts of a corpus, or some that a rule dropped, with what it measured and its limit."""
    from flows.sample import show_sample

    show_sample(store_at(store), corpus, console, dropped=dropped, split=split, n=n, seed=seed)


@app.command()
def stats(
    what: Annotated[
        str, typer.Argument(metavar="PATH|ARTIFACT", help="A file or folder of text, .jsonl, .parquet; or an artifact.")
    ],
    vocab: Annotated[Path | None, typer.Option(help="Count the tokens of this vocabulary, not words.")] = None,
    split: Annotated[str, typer.Option(help="Of a corpus: train, val, test or all.")] = "train",
    store: StoreOption = "",
) -> None:
    """Lines, how many are unique, vocabulary and task mix of a training text, with a verdict."""
    from flows.line_stats import show_stats

    show_stats(store_at(store), what, console, vocab=vocab, split=split)


@app.command()
def export(
    what: Annotated[
        str,
        typer.Argument(
            metavar="CORPUS|MODEL",
            help="A recipe or curate/KEY, empty: the newest corpus; with --layout a release or a model.",
        ),
    ] = "",
    out: Annotated[Path | None, typer.Option(help="The file to write; one that is there is replaced.")] = None,
    format_: Annotated[str, typer.Option("--format", help="text: one line of text a line.")] = "text",
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "train",
    layout: Annotated[str, typer.Option(help="document: the files that the model's own system names.")] = "",
    output: Annotated[Path | None, typer.Option(help="The folder for --layout.")] = None,
    system: Annotated[str, typer.Option(help="lai, cllm or mu; empty: by the release's name.")] = "",
    name: Annotated[str, typer.Option(help="Name of the model file; empty: as the document has it.")] = "",
    quantise: Annotated[list[str] | None, typer.Option(help="q8_0 or q4_0 beside it (lai); may be repeated.")] = None,
    optimizer: Annotated[
        bool, typer.Option("--optimizer", help="The optimizer's state inside the last checkpoint (cllm).")
    ] = False,
    store: StoreOption = "",
) -> None:
    """Write a split of a corpus as a file of lines, or a model as the files of its system (--layout document)."""
    if layout:
        from flows.layout import write_document_layout

        if layout != "document":
            raise UserError(f"there is no layout {layout!r}", "it is document")
        if output is None:
            raise UserError("a layout is several files", "name the folder for them with --output DIR")
        asked = quantise or []
        write_document_layout(
            store_at(store), what, output, console, system=system, name=name, quantise=asked, optimizer=optimizer
        )
        return
    from flows.train_text import export_text

    if format_ != "text":
        raise UserError(
            f"there is no format {format_!r}",
            "it is text; tokens are written by `collect-train export-tokens`, a model by the stage export, "
            "a system's own files with --layout document",
        )
    if out is None:
        raise UserError("nothing says where to write", "name the file with --out FILE, or give --layout and --output")
    export_text(store_at(store), what, out, split, console)
