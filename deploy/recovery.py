"""How runs come back after a crash.

Every run sends a heartbeat while it lives. A process that dies under a living worker is marked Crashed by the
worker at once; when worker and run are gone together, or the worker was told to stop (Prefect then leaves the run
Running), the heartbeat stops and an automation marks the run Crashed. A second automation schedules a crashed run
again; it continues from the store, and gives up after three crashes (flows/attempts.py counts them).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import State, StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.states import Cancelled, Scheduled

from deploy.launch import HEARTBEAT_SECONDS
from flows.attempts import AFTER_CRASH, AFTER_STOP, CRASHES

TAG = "collect-train"  # of every deployment in prefect.yaml
SILENT = timedelta(seconds=3 * int(HEARTBEAT_SECONDS))
LOST = timedelta(minutes=10)  # between being taken by a worker and beginning
LONGEST = timedelta(days=30)  # a run that has been going on for longer is not taken up again by itself
_RUNS = ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]})
_OURS = ResourceSpecification({"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"})


def automations() -> list[Automation]:
    """What watches the runs of our deployments."""
    silent = Automation(
        name="collect-train: a silent run has crashed",
        description=f"No heartbeat for {SILENT.total_seconds():.0f} seconds.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match=_RUNS,
            match_related=_OURS,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENT,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message="no heartbeat")],
    )
    crashed = Automation(
        name="collect-train: a crashed run goes on",
        description=f"It continues from the store, until it has crashed {CRASHES} times.",
        trigger=EventTrigger(
            after={"prefect.flow-run.Running"},  # one that cannot even begin would come back for ever
            expect={"prefect.flow-run.Crashed"},
            match=_RUNS,
            match_related=_OURS,
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=LONGEST,
        ),
        actions=[ChangeFlowRunState(state=StateType.SCHEDULED, name="AwaitingRetry", message=AFTER_CRASH)],
    )
    lost = Automation(
        name="collect-train: a run that never began is offered again",
        description="The worker that took it is gone.",
        trigger=EventTrigger(
            after={"prefect.flow-run.Pending"},
            expect={"prefect.flow-run.*"},
            match=_RUNS,
            match_related=_OURS,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=LOST,
        ),
        actions=[ChangeFlowRunState(state=StateType.SCHEDULED, name="Scheduled", message="its worker never began it")],
    )
    return [silent, crashed, lost]


def apply_automations(*, keep: bool = False) -> None:
    """Create the automations, and unless `keep` bring those that are there up to date."""
    for automation in automations():
        try:
            found = Automation.read(name=automation.name)
        except ValueError:  # Prefect's way to say that there is none
            automation.create()
            continue
        if keep:
            continue
        automation.id = cast(Automation, found).id  # synchronous here
        automation.update()


def take_up_what_nobody_runs(client: SyncPrefectClient, pool: str) -> int:
    """Offer runs of a pool that still look alive again, when no worker of it can be alive; gives how many.

    A cancelled one ends as cancelled. Workers of other pools, on other machines, may well have gone on. Marking a run
    Crashed and leaving the rest to the automation would not do: a server that has just started waits up to 15 minutes
    for the event before the crash, which went to the server before it.
    """
    alive = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    found = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=alive))),
        deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG])),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
    )
    for run in found:
        assert run.state is not None
        state: State[Any] = Scheduled(name="AwaitingRetry", message=AFTER_STOP)
        if run.state.is_cancelling():
            state = Cancelled()
        elif run.state.is_pending():
            state = Scheduled(message="its worker never began it")
        client.set_flow_run_state(run.id, state, force=True)
    return len(found)
