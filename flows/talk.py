"""Commands that run a model once: generate, info. `flows.repl` is the conversation."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmcore.conversation import Template
from lmcore.generate.engine import Generation
from lmcore.generate.load import LanguageModel, load
from lmcore.generate.sampling import make_sampling
from storage.errors import UserError
from storage.registry import Registry
from storage.store import Artifact, Store
from storage.text import printable


def continue_text(model: str, prompt: str, store: Store, **sampling: Any) -> None:
    """Print the prompt and what the model makes of it, as it comes."""
    loaded = load(model, store.root)
    sys.stdout.write(prompt)
    print_as_it_comes(loaded.stream(prompt, **sampling))


def translate(model: str, text: str, to: str, store: Store, *, template: str = "", **sampling: Any) -> None:
    """Print the model's translation to "hu" or "en", from the other. Raises UserError for another language."""
    print_as_it_comes(load_in_form(model, store, template).stream_translation(text, to, **sampling))


def converse(model: str, store: Store, console: Console, *, mode: str, to: str, template: str, **sampling: Any) -> None:
    """Read lines and answer them until they end. Raises UserError for a mode or a setting that there is not."""
    from flows.repl import Repl

    settings = make_sampling(**sampling)
    Repl(load_in_form(model, store, template), console, settings, mode=mode, to=to).run()


def show_info(model: str, store: Store, console: Console) -> None:
    """Print what a model is, and of a release where its Hugging Face folder is."""
    loaded = load(model, store.root)
    print_info(loaded, console, exported=_exported(loaded.release, store))


def load_in_form(model: str, store: Store, template: str) -> LanguageModel:
    """The model, which conversations are put to in this template ("": as it expects). UserError for another one."""
    if template and template not in get_args(Template):
        raise UserError(f"there is no template {template!r}", f"name one of {', '.join(get_args(Template))}")
    loaded = load(model, store.root)
    return dataclasses.replace(loaded, template=template) if template else loaded  # type: ignore[arg-type]


def print_info(loaded: LanguageModel, console: Console, **more: Path | None) -> None:
    """Print what a loaded model is, and `more` where there is any."""
    table = Table(show_header=False)
    for name, value in (loaded.info() | {name: value for name, value in more.items() if value}).items():
        table.add_row(name, Text(_plain(value)))
    console.print(table)


def print_as_it_comes(
    pieces: Generator[str, None, Generation], *, stoppable: bool = False
) -> tuple[str, Generation | None]:
    """Print a text piece by piece, then what there is to say about it; give the text and what came of it.

    When `stoppable`, Ctrl-C ends the text instead of the program, and nothing but the text is known.
    """
    text = ""
    try:
        while True:
            piece = next(pieces)
            text += piece
            sys.stdout.write(printable(piece))
            sys.stdout.flush()
    except StopIteration as end:
        sys.stdout.write("\n")
        result: Generation = end.value
        if result.note:
            tell(result.note)
        return text, result
    except KeyboardInterrupt:
        if not stoppable:
            raise
        sys.stdout.write("\n")
        tell("stopped")
        return text, None


def tell(note: str) -> None:
    """A note beside the text, on one line."""
    sys.stdout.flush()
    sys.stderr.write(f"({printable(note)})\n")
    sys.stderr.flush()


def _exported(release: str | None, store: Store) -> Path | None:
    """The Hugging Face folder of a release; None where its export left none, or is not in the store any more."""
    if release is None:
        return None
    key = Registry(store.root).resolve(release).export_key
    folder = None if key is None else Artifact("export", key, str(store.root)).path / "hf"
    return folder if folder is not None and folder.is_dir() else None


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_plain(item)}" for key, item in value.items() if item is not None)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
