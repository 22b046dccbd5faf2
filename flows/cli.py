"""`collect-train`: the commands a person types. Thin; each calls functions that Python programs can call too."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

import flows.cli_corpus
import flows.cli_operate  # noqa: F401 - both register their commands
from flows.app import (
    MaxTokensOption,
    ModelArgument,
    ModelOption,
    RecipeArgument,
    RepetitionPenaltyOption,
    RunArgument,
    SetOption,
    StoreOption,
    TemperatureOption,
    TemplateOption,
    TopKOption,
    TopPOption,
    app,
    console,
    one_model,
    store_at,
)
from storage.errors import CollectTrainError, UserError
from storage.store import STAGES
from storage.text import printable


class Stopped(CollectTrainError):
    """Somebody pressed Ctrl-C during a run."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("stopped", "run the same command again: it continues where this one stopped")


@app.command()
def run(
    recipe: RecipeArgument,
    store: StoreOption = "",
    set_: SetOption = None,
    edition: Annotated[str, typer.Option(help='"today", "new" or a name; empty: the newest collection.')] = "",
    until: Annotated[str, typer.Option(help="Stop after this stage.")] = STAGES[-1],
    from_: Annotated[str, typer.Option("--from", help="Stages before this one must be built already.")] = STAGES[0],
    only: Annotated[str, typer.Option(help="Just this stage, on what is built already.")] = "",
) -> None:
    """Build what is missing of a recipe, from collecting to the release."""
    from flows.run import run_recipe

    first, last = (only, only) if only else (from_, until)
    try:
        run_recipe(store_at(store), recipe, set_ or [], edition=edition, first=first, last=last, console=console)
    except KeyboardInterrupt as interrupt:
        raise Stopped from interrupt


@app.command()
def params(
    recipes: Annotated[list[str], typer.Argument(help="Packaged recipes, or paths of YAML files.")],
    set_: SetOption = None,
    store: StoreOption = "",
    step: Annotated[bool, typer.Option("--step", help="Make one real optimizer step of the full shape here.")] = False,
) -> None:
    """What a recipe would build: parameters by part, file size, memory, tokens and time; several side by side."""
    if step:
        from flows.trial import show_step

        for recipe in recipes:
            show_step(store_at(store), recipe, set_ or [], console)
        return
    if len(recipes) > 1:
        _as_the_trainer()
        from flows.compare_params import show_comparison

        show_comparison(store_at(store), recipes, set_ or [], console)
        return
    from flows.params import show_params

    show_params(recipes[0], set_ or [], console)


@app.command()
def autosize(
    minutes: Annotated[float, typer.Option(min=0, help="Training time on this machine.")] = 0.0,
    flops: Annotated[float, typer.Option(min=0, help="Arithmetic instead, such as 1e15.")] = 0.0,
    vocab_size: Annotated[int, typer.Option(min=257, help="Tokens in the vocabulary.")] = 4096,
    context: Annotated[int, typer.Option(min=2, help="The most tokens the model sees at once.")] = 256,
) -> None:
    """Propose width, depth, batch and tokens for a budget on this machine, as a piece of a recipe."""
    _as_the_trainer()
    from flows.autosize import show_proposal

    show_proposal(minutes, flops, vocab_size, context, console)


@app.command()
def status(run: RunArgument = "", store: StoreOption = "") -> None:
    """Runs that go on or were left unfinished, champions, finished artifacts; or the stages of one run."""
    from flows.look import show_status
    from flows.runs import show_runs

    if run:
        show_runs(store_at(store), console, run)
    else:
        show_status(store_at(store), console)


@app.command()
def show(
    what: Annotated[
        str, typer.Argument(help="STAGE (its newest), STAGE/KEY, a key or digest (a prefix will do), or a recipe.")
    ],
    store: StoreOption = "",
    set_: SetOption = None,
) -> None:
    """One artifact with its files and where it came from, or a recipe with every default."""
    from flows.look import show_artifact, show_recipe
    from lmcore.recipe import packaged_recipes

    if what in packaged_recipes() or what.endswith((".yaml", ".yml")):
        show_recipe(what, set_ or [], console)
    else:
        show_artifact(store_at(store), what, console)


@app.command()
def why(
    page: Annotated[str, typer.Argument(help="URL or record id of a collected text.")], store: StoreOption = ""
) -> None:
    """Why a text was kept or dropped: the rule, what it measured, its limit, the copy it repeats."""
    from flows.look import show_why

    show_why(store_at(store), page, console)


@app.command()
def diff(
    source: Annotated[str, typer.Argument(help="Name of a collected source.")],
    store: StoreOption = "",
    edition: Annotated[str, typer.Option(help="The edition to look at; empty: the newest.")] = "",
    against: Annotated[str, typer.Option(help="The edition to compare it with; empty: the one before it.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="URLs of each kind to list.")] = 20,
) -> None:
    """What changed in a source since the edition before: added, changed, removed, unchanged."""
    from flows.diff import show_diff

    show_diff(store_at(store), source, console, edition=edition, against=against, limit=limit)


@app.command(context_settings={"ignore_unknown_options": True})
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT (DuckDB); `show tables` lists the views.")],
    store: StoreOption = "",
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Ask the store: documents, decisions, artifacts, lineage, metrics, evaluations, releases. Read only."""
    from flows.look import show_query

    show_query(store_at(store), query, console, csv=csv)


@app.command()
def generate(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL] PROMPT", help="The model, unless --model names it; how it begins."),
    ] = None,
    model: ModelOption = "",
    store: StoreOption = "",
    translate: Annotated[
        str, typer.Option("--translate", "-t", metavar="TEXT", help="Translate this, instead of a prompt.")
    ] = "",
    to: Annotated[str, typer.Option(help="Language to translate to, from the other: hu or en [hu].")] = "",
    template: TemplateOption = "",
    max_tokens: MaxTokensOption = 200,
    temperature: TemperatureOption = 0.8,
    top_k: TopKOption = 0,
    top_p: TopPOption = 0.95,
    min_p: Annotated[float, typer.Option(help="0: off.")] = 0.0,
    repetition_penalty: RepetitionPenaltyOption = 1.0,
    repetition_window: Annotated[int, typer.Option(help="Of the last so many tokens only; 0: of all.")] = 0,
    no_repeat_ngram: Annotated[int, typer.Option(help="0: off.")] = 0,
    no_repeat_factor: Annotated[float, typer.Option(help="Make it less likely in place of never; 0: never.")] = 0.0,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal texts.")] = 0,
) -> None:
    """Continue a text, or translate one."""
    import flows.talk

    words = words or []
    *named, prompt = [*words, translate] if translate else words or [""]
    if len(named) > 1:
        raise UserError(f"{len(words)} texts are given", "put the prompt between quotes")
    if not words and not translate:
        raise UserError("there is no prompt", 'give one: collect-train generate MODEL "Once upon"')
    if to and not translate:
        raise UserError("--to is the language of a translation", 'give the text: --translate "Good morning"')
    named_model = one_model("".join(named), model)
    if translate:
        work = partial(flows.talk.translate, named_model, prompt, to or "hu", store_at(store), template=template)
    else:
        work = partial(flows.talk.continue_text, named_model, prompt, store_at(store))
    work(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        repetition_window=repetition_window,
        no_repeat_ngram=no_repeat_ngram,
        no_repeat_factor=no_repeat_factor,
        stop=tuple(stop or ()),
        seed=seed,
    )


@app.command()
def chat(
    model: ModelArgument = "",
    model_: ModelOption = "",
    store: StoreOption = "",
    mode: Annotated[str, typer.Option(help="How it begins: chat, translate, code or text.")] = "chat",
    to: Annotated[str, typer.Option(help="Language to translate to, from the other: hu or en.")] = "hu",
    template: TemplateOption = "",
    max_tokens: MaxTokensOption = 200,
    temperature: TemperatureOption = 0.8,
    top_k: TopKOption = 0,
    top_p: TopPOption = 1.0,
    repetition_penalty: RepetitionPenaltyOption = 1.0,
    seed: Annotated[int, typer.Option(help="Equal seeds and lines give equal answers.")] = 0,
) -> None:
    """Talk to a model, translate, ask for code, continue texts; /help lists the commands, Ctrl-D ends."""
    from flows.talk import converse

    converse(
        one_model(model, model_),
        store_at(store),
        console,
        mode=mode,
        to=to,
        template=template,
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )


@app.command()
def info(model: ModelArgument = "", model_: ModelOption = "", store: StoreOption = "") -> None:
    """What a model is: shape, parameters by part, tokenizer, where it came from."""
    from flows.talk import show_info

    show_info(one_model(model, model_), store_at(store), console)


@app.command("export-tokens")
def export_tokens(
    tokens: Annotated[str, typer.Argument(help='"tokens" (the newest), tokens/KEY, or a key or digest.')],
    path: Annotated[Path, typer.Argument(help="The file to write; one that is there is replaced.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    store: StoreOption = "",
) -> None:
    """Write token shards as CLLM's dataset.bin, and read it back."""
    from flows.dataset import write_dataset

    write_dataset(store_at(store), tokens, path, split, console)


@app.command()
def verify(store: StoreOption = "") -> None:
    """Hash every file again; set damaged artifacts aside and name what was built from them."""
    from flows.look import verify_store

    damaged = verify_store(store_at(store), console)
    raise typer.Exit(1 if damaged else 0)


@app.command()
def releases(name: Annotated[str, typer.Argument(help="A recipe; empty: all.")] = "", store: StoreOption = "") -> None:
    """Every release, promoted or refused, and which one is champion."""
    from flows.look import show_releases

    show_releases(store_at(store), name, console)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The recipe.")],
    to: Annotated[int | None, typer.Option(help="Release number; empty: the champion before this one.")] = None,
    why_: Annotated[str, typer.Option("--why", help="Kept in the registry's history.")] = "by hand",
    store: StoreOption = "",
) -> None:
    """Make an earlier release the champion again."""
    from storage.registry import Registry

    release = Registry(store_at(store).root).rollback(name, to, why=why_)
    console.print(f"champion of {name} is {name}@{release.number} again", markup=False)


@app.command()
def schema() -> None:
    """JSON Schema of recipe files, for editors."""
    import json

    from lmcore.recipe import recipe_schema

    print(json.dumps(recipe_schema(), indent=1))


def _as_the_trainer() -> None:
    """Set up memory and threads as a training does, before torch loads, so that its speed is what is measured."""
    from lmcore.train.allocator import raise_thresholds, sleep_at_barriers

    sleep_at_barriers()
    raise_thresholds()


def _stop(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line. Exit code 2 for the user's mistakes, 1 for failures; --debug shows the traceback."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    signal.signal(signal.SIGTERM, _stop)
    try:
        app(arguments, prog_name="collect-train", standalone_mode=True)
    except CollectTrainError as error:
        if debug:
            traceback.print_exc()
        _tell(error.what, error.mend)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _tell(
            f"a fault of this program: {type(error).__name__}: {error}",
            "run it again with --debug and report what it prints",
        )
        sys.exit(1)


def _tell(what: str, mend: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        printable(f"error: {what}\n  to mend: {mend}"), markup=False
    )


if __name__ == "__main__":
    main()
