"""Commands that run a model: generate, chat, info."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmcore.generate.engine import Generation
from lmcore.generate.load import LanguageModel, load
from storage.store import Store
from storage.text import printable


def continue_text(model: str, prompt: str, store: Store, **sampling: Any) -> None:
    """Print the prompt and what the model makes of it, as it comes."""
    loaded = load(model, store.root)
    sys.stdout.write(prompt)
    _print_as_it_comes(loaded.stream(prompt, **sampling))


def converse(model: str, store: Store, console: Console, **sampling: Any) -> None:
    """Read lines, answer each with the whole conversation in view. An empty line or end of input ends."""
    loaded = load(model, store.root)
    _greet(loaded, console)
    messages: list[dict[str, str]] = []
    while True:
        try:
            line = input("you> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            break
        if not line:
            break
        messages.append({"role": "user", "content": line})
        sys.stdout.write("model> ")
        answer = _print_as_it_comes(loaded.stream_chat(messages, **sampling))
        messages.append({"role": "assistant", "content": answer})


def show_info(model: str, store: Store, console: Console) -> None:
    """Print what a model is."""
    table = Table(show_header=False)
    for name, value in load(model, store.root).info().items():
        table.add_row(name, Text(_plain(value)))
    console.print(table)


def _print_as_it_comes(pieces: Generator[str, None, Generation]) -> str:
    """Print a text piece by piece, then what there is to say about it; give the text."""
    text = ""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            sys.stdout.write("\n")
            if end.value.note:
                sys.stderr.write(f"({end.value.note})\n")
            return text
        text += piece
        sys.stdout.write(printable(piece))
        sys.stdout.flush()


def _greet(loaded: LanguageModel, console: Console) -> None:
    info = loaded.info()
    console.print(
        Text(f"{info['release'] or info['path']}: {info['parameters']:,} parameters; {info['chat']}", style="dim")
    )
    console.print(Text("an empty line ends", style="dim"))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_plain(item)}" for key, item in value.items() if item is not None)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
