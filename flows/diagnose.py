"""`collect-train diagnose`: what is wrong with the training of a run, while it goes on or afterwards."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from flows.runstate import RunState, StageState, find_run, run_folders, work_folder
from lmcore.train.diagnose import Finding, diagnose
from lmcore.train.evidence import Evidence, of_artifact, of_work
from storage.errors import UserError
from storage.store import Store
from storage.text import printable


def show_diagnosis(store: Store, run: str, console: Console) -> list[Finding]:
    """Print what is wrong with the training of a run, or of the newest that has one, and give it.

    Raises UserError when the run, or every run, has not come to training.
    """
    state, stage = training_of(store, run)
    if not run and state.run != run_folders(store)[0].name:
        console.print(Text(f"of run {state.run}: no newer one has come to training", style="dim"))
    findings = diagnose(evidence_of(store, stage))
    for finding in findings:
        for number, line in enumerate(finding.lines()):
            console.print(Text(printable(line), style="yellow" if not number else ""), soft_wrap=True)
    if not findings:
        console.print(Text("nothing is wrong with this training", style="green"))
    return findings


def training_of(store: Store, prefix: str = "") -> tuple[RunState, StageState]:
    """The run whose id begins so, without a prefix the newest that has come to training, and that stage of it."""
    named = find_run(store, prefix)
    for folder in [named] if prefix else run_folders(store):
        state = RunState(folder)
        state.update()
        stage = next((stage for stage in reversed(state.stages.values()) if stage.stage == "train"), None)
        if stage is not None:
            return state, stage
    raise UserError(f"run {named.name} has not come to training", "name another (`collect-train status` lists them)")


def evidence_of(store: Store, stage: StageState) -> Evidence:
    """What a training left, or has left so far."""
    artifact = store.find("train", stage.key)
    return of_artifact(artifact.path) if artifact else of_work(work_folder(store, stage))
