"""collect -> measure -> compare -> curate -> tokenizer -> tokens -> train -> evaluate -> export -> release."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from prefect import flow
from prefect.futures import wait
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.built import Built
from flows.corpus import build_corpus, with_digests
from flows.elsewhere import train_elsewhere
from flows.plan import make_plan, opponent, round_of
from flows.publish import move_champion, report_run
from flows.record import record_run
from flows.rounds import collect_in_rounds
from flows.stages import Finished, Range
from flows.start import WarmStart, has_learnt, learnt_before, started_from, warm_start
from lmcore.collect.params import CollectRuntime
from lmcore.recipe import Recipe, load_recipe
from lmcore.release import ReleaseRuntime
from lmcore.samples import readings
from storage.registry import Registry, RegistryMoved
from storage.store import STAGES, Artifact, Store
from tasks.collect import CollectParams, collect
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.progress import say, stop_all
from tasks.release import release
from tasks.step import Inputs, Mode, keep
from tasks.tokenizer import train_tokenizer
from tasks.tokens import make_tokens
from tasks.train import train

_Call = tuple[list[Artifact], list[Artifact], CollectParams]  # the edition before, the articles, what to collect


@flow(
    name="collect-train",
    flow_run_name=lambda: f"{flow_run.parameters['recipe']} {flow_run.parameters.get('edition') or 'newest'}",
    task_runner=ThreadPoolTaskRunner(max_workers=4),  # type: ignore[arg-type]
    persist_result=False,
    validate_parameters=False,
)
def collect_train(
    recipe: str,
    edition: str = "",
    set: list[str] | None = None,
    store: str = "",
    first: str = STAGES[0],
    last: str = STAGES[-1],
) -> Built:
    """Turn sources of text into a released language model, building only what is missing.

    Args:
        recipe: A packaged recipe or the path of a YAML file.
        edition: Which collection: empty for the newest, "today", "new", or a name.
        set: Overrides of the recipe, each a.b=value.
        store: Folder of the artifacts; empty for COLLECT_TRAIN_STORE or ./store.
        first: Stages before this one must be built already.
        last: Stages after this one are left out.
    """
    shelf = Store(store) if store else Store.default()
    return build_recipe(shelf, load_recipe(recipe, set or []), edition, Range(first, last))


def build_recipe(store: Store, recipe: Recipe, edition: str, wanted: Range) -> Built:
    """Build what is missing of a recipe, inside a flow run, and write its report."""
    plan = make_plan(store, recipe, edition, str(flow_run.id or ""), say)
    built = Built(plan, store)
    with record_run(store, plan, wanted):
        for line in readings(plan.parsed().sources):
            say(line)
        with contextlib.suppress(Finished):
            _stages(built, plan.parsed(), wanted)
        report_run(built)
    return built


def _stages(built: Built, recipe: Recipe, wanted: Range) -> None:
    store, runtime = built.store, recipe.runtime
    recipe = with_digests(recipe)
    start = warm_start(store, built.plan, recipe, say) if wanted.reaches("tokenizer") else None

    collected = _collect_all(built, recipe, wanted)
    built.add(*collected)

    corpus = build_corpus(built, recipe, collected, wanted)

    mode = wanted.mode("tokenizer")
    if start and start.tokenizer:  # its weights mean these ids
        why = f"the vocabulary of {start.release}, which training starts from"
        imported = "imported" in start.tokenizer.manifest.provenance.params  # without a report on how it was learnt
        tokenizer = keep(start.tokenizer, why, None if imported else train_tokenizer.pages)
    else:
        tokenizer = train_tokenizer(store, corpus, params=recipe.tokenizer, runtime=runtime.tokenizer, mode=mode)
    built.add(tokenizer)

    mode = wanted.mode("tokens")
    tokens = make_tokens(store, corpus, tokenizer, params=recipe.tokens, runtime=runtime.tokens, mode=mode)
    built.add(tokens)

    mode = wanted.mode("train")
    model = _trained(built, recipe, tokens, tokenizer, start, mode)
    built.add(model)

    mode = wanted.mode("evaluate")
    evaluation = _evaluated(built, recipe, model, corpus, mode)
    built.add(evaluation)

    mode = wanted.mode("export")
    exported = export(store, model, evaluation, params=recipe.export, runtime=runtime.export, mode=mode)
    built.add(exported)

    mode = wanted.mode("release")
    registry = built.plan.registry
    while True:
        champion = opponent(store, registry, model, say)
        against = []
        if champion:
            against = [_evaluated(built, recipe, champion.model, corpus, mode, "evaluate champion")]
        decision = release(
            store, model, exported, evaluation, against, params=recipe.release, runtime=ReleaseRuntime(), mode=mode
        )
        try:
            move_champion(store, recipe.name, decision, model, exported, registry.champion)
            break
        except RegistryMoved as moved:  # by another run of the recipe, beside this one
            say(f"  {moved.what}: compared with it now", "yellow")
            registry = Registry(store.root).read(recipe.name)
    built.add(decision)


def _trained(
    built: Built, recipe: Recipe, tokens: Artifact, tokenizer: Artifact, start: WarmStart | None, mode: Mode
) -> Artifact:
    """The model: of random weights or those of `start`, which is the model itself when there is nothing new."""
    store, first = built.store, [start.model] if start else []
    if start and has_learnt(start.model, tokens, recipe):
        return keep(start.model, f"{start.release} has been trained on exactly this", train.pages)
    if recipe.resources.train.work_pool and mode == "build":
        inputs: Inputs = {"tokens": tokens, "tokenizer": tokenizer, "start": first}
        train_elsewhere(store, recipe, built.plan.run, inputs)
    return train(store, tokens, tokenizer, first, params=recipe.training, runtime=recipe.runtime.train, mode=mode)


def _evaluated(
    built: Built, recipe: Recipe, model: Artifact, corpus: Artifact, mode: Mode, label: str = ""
) -> Artifact:
    """What a model is worth on the held-out texts of a corpus, without those that it has learnt elsewhere."""
    store, learnt = built.store, learnt_before(built.store, model, corpus, say)
    params, runtime = recipe.evaluate, recipe.runtime.evaluate
    before: list[Artifact] = []
    if label:  # what was before it was told in its own run
        params = params.model_copy(update={"untrained": False})
    elif params.before:
        before = started_from(store, model, (lambda _: None) if params.untrained else say)
    return evaluate(store, model, corpus, learnt, before, params=params, runtime=runtime, mode=mode, label=label)


def _collect_all(built: Built, recipe: Recipe, wanted: Range) -> list[Artifact]:
    """Every source, in as many rounds as its target wants."""
    store, edition, mode = built.store, built.plan.edition, wanted.mode("collect")
    parents = {name: store.by_digest(digest, "collect") for name, digest in edition.parents.items()}

    def collected(rounds: Mapping[str, int], before: Mapping[str, Artifact]) -> dict[str, Artifact]:
        """These sources, and what is made of them, when those are there."""
        new: dict[str, Artifact] = {}
        for sources in recipe.waves:
            calls: dict[str, _Call] = {}
            for source in sources:
                if source.name in rounds or new.keys() & set(source.articles_of):
                    name, known = source.name, {**parents, **before}
                    params = CollectParams(source=source.untargeted(), edition=edition.name, round=rounds.get(name, 1))
                    articles = [{**before, **new}[other] for other in source.articles_of]
                    calls[name] = [known[name]] if name in known else [], articles, params
            new |= _side_by_side(store, calls, recipe.runtime.collect, mode)
        return new

    first = {name: round_of(parent) for name, parent in parents.items()}
    made = collect_in_rounds(recipe, collected, first, say)
    return [made[source.name] for source in recipe.sources]


def _side_by_side(store: Store, calls: Mapping[str, _Call], runtime: CollectRuntime, mode: Mode) -> dict[str, Artifact]:
    """Collect these sources beside each other, by name; what one source's failure leaves finished is kept."""
    settings: dict[str, Any] = {"runtime": runtime, "mode": mode}
    if len(calls) == 1:
        ((name, (parent, articles, params)),) = calls.items()
        return {name: collect(store, parent, articles, params=params, **settings)}
    futures = {
        name: collect.submit(store, parent, articles, params=params, **settings)
        for name, (parent, articles, params) in calls.items()
    }
    try:
        wait(list(futures.values()))
    except BaseException:
        stop_all()  # Ctrl-C reaches this thread only
        raise
    return {name: future.result() for name, future in futures.items()}
