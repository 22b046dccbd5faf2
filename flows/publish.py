"""What a run does at its end: move the champion, write the report."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.plan import run_folder
from flows.ui_report import show_run
from storage.errors import CollectTrainError
from storage.registry import Registry, ReleaseWithdrawn
from storage.store import Artifact, Store
from tasks.prefect_ui import emit
from tasks.progress import say
from tasks.ui_pages import show_corpus, show_finished

if TYPE_CHECKING:
    from pathlib import Path

    from flows.built import Built

CARD = "corpus.html"


def move_champion(
    store: Store, name: str, decision: Artifact, model: Artifact, exported: Artifact, champion: int | None
) -> None:
    """Put the release on record and, when it was promoted, make it the champion by compare-and-swap.

    `champion` is the number that the decision found in that place. Running it again changes nothing. Raises
    RegistryMoved when another run moved the champion meanwhile.
    """
    found = json.loads(decision.file("release.json").read_text(encoding="utf-8"))
    registry = Registry(store.root)
    before = registry.read(name)
    if found["promoted"]:
        registry.check(name, decision.digest, expected=champion)  # no release on record that is compared with the past
    entry = registry.record(
        name,
        release_key=decision.key,
        digest=decision.digest,
        model_key=model.key,
        model_digest=model.digest,
        export_key=exported.key,
        bits_per_byte=found["bits_per_byte"],
        reason=found["reason"],
    )
    told = {"release": f"{name}@{entry.number}", "champion": champion} | {
        figure: found.get(figure) for figure in ("bits_per_byte", "champion_bits_per_byte", "gain", "reason")
    }
    if not found["promoted"]:
        say(f"  {name}@{entry.number} is not promoted: {found['reason']}", "yellow")
        if before.release(entry.number) is None:
            emit("release.refused", **told)
        return
    try:
        registry.promote(name, entry.number, expected=champion)
        if entry.number != before.champion:
            emit("release.promoted", **told)
    except ReleaseWithdrawn as withdrawn:
        say(f"  {withdrawn.what}; {withdrawn.mend}", "yellow")


def _source(store: Store, artifact: Artifact) -> str:
    """The name of the source that a collection is of, or a measuring of one; "" for other stages."""
    made = artifact.manifest.provenance
    if artifact.stage == "measure":
        collected = store.find("collect", made.inputs[0].key)
        return _source(store, collected) if collected else ""
    return str(made.params["source"]["name"]) if artifact.stage == "collect" else ""


def report_run(built: Built) -> Path:
    """Write `runs/<run>/report.html` from what the run has, and give its path."""
    from lmcore.expect.verdicts import judge
    from lmcore.report import RunView, StageRow, write_report

    plan, store = built.plan, built.store
    name = plan.recipe["name"]
    registry = Registry(store.root).read(name)
    decision = built.one("release")
    number = next((r.number for r in registry.releases if decision and r.digest == decision.digest), None)

    def folder(stage: str) -> Path | None:
        artifact = built.one(stage)
        return artifact.local() if artifact else None

    rows = [
        StageRow(
            stage=artifact.stage,
            key=artifact.key,
            digest=artifact.digest,
            state="Completed" if artifact.manifest.provenance.run == plan.run else "Reused",
            seconds=artifact.manifest.provenance.seconds,
            metrics=artifact.metrics,
            name=_source(store, artifact),
        )
        for artifacts in built.artifacts.values()
        for artifact in artifacts
    ]
    view = RunView(
        recipe=name,
        resolved=plan.recipe,
        run=plan.run,
        edition=plan.edition.name,
        started=built.started.isoformat(timespec="seconds"),
        seconds=(datetime.now(UTC) - built.started).total_seconds(),
        stages=rows,
        collect=[artifact.local() for artifact in built.artifacts.get("collect", [])],
        curate=folder("curate"),
        tokenizer=folder("tokenizer"),
        tokens=folder("tokens"),
        train=folder("train"),
        evaluate=folder("evaluate"),
        export=folder("export"),
        registry=registry,
        release=number,
        card=_corpus_card(built),
        next_commands=next_commands(built),
    )
    view = replace(view, claims=judge(view))
    built.claims = view.claims
    path = run_folder(store, plan.run) / "report.html"
    write_report(path, view)
    show_run(view, path)
    if corpus := built.one("curate"):
        show_finished(show_corpus, "curate", corpus)  # once more: by now it may have tokens
    return path


def _corpus_card(built: Built) -> str:
    """Write the card of the run's corpus beside its report, and give its name; empty where there is none."""
    from lmcore.report.corpus_card import make_card, write_card

    corpus = built.one("curate")
    if corpus is None:
        return ""
    try:
        card = make_card(corpus, built.plan.recipe["name"])
        write_card(run_folder(built.store, built.plan.run) / CARD, card, "report.html")
    except CollectTrainError as error:  # the run is done, and the card is only to look at
        say(f"  the corpus has no card: {error.what}", "yellow")
        return ""
    return CARD


def next_commands(built: Built) -> list[str]:
    """What a person may want to type now."""
    name = built.plan.recipe["name"]
    commands = ["collect-train status", 'collect-train sql "select rule, count(*) from decisions group by rule"']
    if built.one("release"):
        commands = [
            f'collect-train generate {name} "The"',
            f"collect-train chat {name}",
            f"collect-train info {name}",
            *commands,
        ]
    elif built.one("train"):
        model = built.one("train")
        assert model is not None
        commands = [f'collect-train generate {model.path} "The"', *commands]
    return commands
