"""`collect-train diagnose`: what is wrong with the training of a run, while it goes on or afterwards."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from flows.runstate import RunState, find_run, work_folder
from lmcore.train.diagnose import Finding, diagnose
from lmcore.train.evidence import Evidence, of_artifact, of_work
from storage.errors import UserError
from storage.store import Store
from storage.text import printable


def show_diagnosis(store: Store, run: str, console: Console) -> list[Finding]:
    """Print what is wrong with the training of a run, or of the newest one, and give it.

    Raises UserError when the run has not come to training.
    """
    state = RunState(find_run(store, run))
    state.update()
    findings = diagnose(evidence_of(store, state))
    for finding in findings:
        for number, line in enumerate(finding.lines()):
            console.print(Text(printable(line), style="yellow" if not number else ""), soft_wrap=True)
    if not findings:
        console.print(Text("nothing is wrong with this training", style="green"))
    return findings


def evidence_of(store: Store, run: RunState) -> Evidence:
    """What the training of a run left. Raises UserError when there is none."""
    stage = next((stage for stage in reversed(run.stages.values()) if stage.stage == "train"), None)
    if stage is None:
        raise UserError(f"run {run.run} has not come to training", "name another (`collect-train status` lists them)")
    artifact = store.find("train", stage.key)
    return of_artifact(artifact.path) if artifact else of_work(work_folder(store, stage))
