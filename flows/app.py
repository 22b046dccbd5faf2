"""What every command shares: the Typer application, the console, common options."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from storage.store import VARIABLE, Store

app = typer.Typer(
    name="collect-train",
    help="From sources of text to a language model you can talk to. Every step is built once and can be resumed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
console = Console(highlight=False)

StoreOption = Annotated[str, typer.Option("--store", help=f"Folder of the artifacts [{VARIABLE} or ./store].")]
RecipeArgument = Annotated[str, typer.Argument(help="A packaged recipe, or the path of a YAML file.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change one setting; may be repeated.")
]
RunArgument = Annotated[str, typer.Argument(help="A run's id; its first characters will do.")]
ModelArgument = Annotated[str, typer.Argument(help="A release (NAME or NAME@NUMBER) or a model folder.")]


def store_at(where: str) -> Store:
    """The store in this folder, or the default one."""
    return Store(where) if where else Store.default()
