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
    state, newest = trained_run(store, run)
    if not newest:
        console.print(Text(f"of run {state.run}: no newer one has come to training", style="dim"))
    findings = diagnose(evidence_of(store, state))
    for finding in findings:
        for number, line in enumerate(finding.lines()):
            console.print(Text(printable(line), style="yellow" if not number else ""), soft_wrap=True)
    if not findings:
        console.print(Text("nothing is wrong with this training", style="green"))
    return findings


def trained_run(store: Store, prefix: str = "") -> tuple[RunState, bool]:
    """The run that is named, or the newest that has come to training; and whether it is that or the newest of all."""
    first = find_run(store, prefix)
    if not prefix:
        for folder in run_folders(store):
            state = RunState(folder)
            state.update()
            if _training(state):
                return state, folder == first
    state = RunState(first)
    state.update()
    return state, True


def _training(run: RunState) -> StageState | None:
    return next((stage for stage in reversed(run.stages.values()) if stage.stage == "train"), None)


def evidence_of(store: Store, run: RunState) -> Evidence:
    """What the training of a run left. Raises UserError when there is none."""
    stage = _training(run)
    if stage is None:
        raise UserError(f"run {run.run} has not come to training", "name another (`collect-train status` lists them)")
    artifact = store.find("train", stage.key)
    return of_artifact(artifact.path) if artifact else of_work(work_folder(store, stage))
