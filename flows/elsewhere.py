"""Training in another work pool than the rest of a run: `resources: {train: {work_pool: gpu}}`.

The run starts the deployment `train/POOL`, waits, and takes the artifact from the store, which both workers share.
The idempotency key is made of the artifact's: a run that is killed while it waits, and another run that wants the
same model, find the training that is already going on.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelling

from flows.plan import read_plan
from flows.record import join_run
from storage.errors import RunError, UserError
from storage.store import Artifact, Store
from tasks.progress import say
from tasks.step import Inputs
from tasks.train import train

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.objects import FlowRun

    from lmcore.recipe import Recipe

POLL_SECONDS = 2.0
Digests = Mapping[str, str | Sequence[str]]


def train_elsewhere(store: Store, recipe: Recipe, run: str, inputs: Inputs) -> None:
    """Have another pool train this model, unless the store has it; returns when it is there.

    Raises UserError when the pool has no training deployment, RunError when the training fails there.
    """
    pool, key = recipe.resources.train.work_pool, train.key(inputs, recipe.training)
    with get_client(sync_client=True) as client:
        for attempt in itertools.count():
            if store.find("train", key) is not None:
                return
            asked = _start(pool, f"train-{key}-{attempt}", run, inputs)
            new = asked.state is None or not asked.state.is_final()
            if new:
                say(f"  {'train':<26} in pool {pool}: run {asked.name}")
                _finish(client, asked.id, pool, store, key)
            # else: it was an earlier run's, which failed, or whose artifact is gone; ask again


def train_for(store: Store, run: str, inputs: Digests) -> Artifact:
    """Train as the plan of `run` says, on the artifacts with these content digests."""
    recipe = read_plan(store, run).parsed()
    found = {
        name: store.by_digest(value) if isinstance(value, str) else [store.by_digest(digest) for digest in value]
        for name, value in inputs.items()
    }
    ordered = [found[name] for name in ("tokens", "tokenizer", "start")]  # a database may have put them in another
    with join_run(store, run):
        return train(store, *ordered, params=recipe.training, runtime=recipe.runtime.train)


def _start(pool: str, key: str, run: str, inputs: Inputs) -> FlowRun:
    digests = {
        name: value.digest if isinstance(value, Artifact) else [artifact.digest for artifact in value]
        for name, value in inputs.items()
    }
    try:
        asked: FlowRun = run_deployment(
            f"train/{pool}", parameters={"run": run, "inputs": digests}, timeout=0, idempotency_key=key
        )  # type: ignore[assignment]
    except ObjectNotFound as error:
        raise UserError(
            f"resources.train.work_pool is {pool}, but this Prefect server has no deployment train/{pool}",
            "add it to deploy/prefect.yaml and deploy again, or take resources out of the recipe",
        ) from error
    return asked


def _finish(client: SyncPrefectClient, asked: UUID, pool: str, store: Store, key: str) -> None:
    """Wait for a training run; stop it when this run is cancelled, but not when only this process is stopped."""
    try:
        while True:
            seen = client.read_flow_run(asked)
            if seen.state is not None and seen.state.is_final():
                break
            time.sleep(POLL_SECONDS)
    except BaseException:
        own = client.read_flow_run(flow_run.id)
        if own.state is not None and (own.state.is_cancelling() or own.state.is_cancelled()):
            client.set_flow_run_state(asked, Cancelling(message="the run that waited for it was cancelled"))
        raise
    if not seen.state.is_completed() or store.find("train", key) is None:
        said = seen.state.message or seen.state.name
        if seen.state.is_completed():
            said = f"train/{key[:12]} is not in {store.root}: do both workers use one store?"
        raise RunError(
            f"the training in pool {pool} (run {seen.name}) did not succeed: {said}",
            "see that run's log; run again to continue it",
        )
