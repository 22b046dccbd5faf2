"""What every command shares: the Typer application, the console, common options."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.console import Console

from storage.errors import UserError
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
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A release (NAME or NAME@NUMBER), a model folder or a model file.")
]
MaxTokensOption = Annotated[
    int, typer.Option("--max-tokens", "--tokens", "--length", help="The most tokens of one text or answer.")
]
TemperatureOption = Annotated[float, typer.Option("--temperature", "--temp", help="0: always the likeliest token.")]
TemplateOption = Annotated[
    str, typer.Option(help="How the model's texts write conversations: script or tags; empty: as it expects.")
]
TopKOption = Annotated[int, typer.Option(help="0: off.")]
TopPOption = Annotated[float, typer.Option(help="1: off.")]
RepetitionPenaltyOption = Annotated[float, typer.Option(help="1: off.")]
ModelOption = Annotated[str, typer.Option("--model", metavar="PATH", help="The model, instead of the argument.")]


def one_model(argument: str, option: str) -> str:
    """The model that is meant by the argument or by `--model`. Raises UserError for none and for both."""
    if bool(argument) == bool(option):
        raise UserError(
            "no model is named" if not option else f"two models are named, {argument} and {option}",
            "name one: a release (`collect-train releases` lists them), a model folder or a model file",
        )
    return argument or option


def store_at(where: str) -> Store:
    """The store in this folder, or the default one. Raises UserError when there can be no folder of that name."""
    store = Store(where) if where else Store.default()
    there = next(path for path in (store.root, *store.root.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UserError(
            f"{there} is not a folder, so there is no store at {store.root}",
            f"name the folder of the artifacts with --store DIR or {VARIABLE}",
        )
    return store
