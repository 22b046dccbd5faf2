"""Work pools: how a run is started (a process, a Docker container, a Kubernetes job) and with what resources.

The templates are in `pools/`; all name their resources alike and start a run through deploy/launch.py. What a
template is made of is ours and brought up to date; the defaults of its variables are the owner's, and stay as they
were last set here or in Prefect's user interface.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectNotFound
from prefect.utilities.schema_tools import ValidationError, validate

from storage.errors import UserError

FOLDER = Path(__file__).parent / "pools"
TYPES = {
    "process": "Runs of collect-train as processes, with resources per run.",
    "docker": "Runs of collect-train in containers, with resources per run.",
    "kubernetes": "Runs of collect-train as Kubernetes jobs, with resources per run.",
}
OURS = "python -m deploy.launch "  # how the command of every template of ours begins


def template(kind: str) -> dict[str, Any]:
    """The base job template of a type of pool."""
    read: dict[str, Any] = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    return read


def apply_pool(
    client: SyncPrefectClient, name: str, *, kind: str | None, runs: int | None, defaults: Mapping[str, Any]
) -> None:
    """Create a pool, or bring ours up to date; one that is not ours stays as it is but for its limit of runs.

    `kind` None keeps the type that the pool has, and makes a new one a process pool. Raises UserError when the pool
    is of another type, and for a default that its variable does not admit.
    """
    pool = _existing(client, name)
    if pool is None:
        wanted = template(kind or "process")
        _set_defaults(name, wanted, defaults)
        client.create_work_pool(
            WorkPoolCreate(
                name=name,
                type=kind or "process",
                description=TYPES[kind or "process"],
                base_job_template=wanted,
                concurrency_limit=runs,
            )
        )
        return
    if kind not in (None, pool.type):
        raise UserError(
            f"the work pool {name} is of type {pool.type}, not {kind}",
            f"give another name, or delete it first: prefect work-pool delete {name}",
        )
    limit = pool.concurrency_limit if runs is None else runs
    if not _is_ours(pool):
        if defaults:
            raise UserError(f"the work pool {name} has a template of its owner's", "set its defaults where it is kept")
        client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))
        return
    wanted = template(pool.type)
    _set_defaults(name, wanted, _defaults(pool.base_job_template, wanted) | dict(defaults))
    client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit, base_job_template=wanted))


def parse_defaults(given: Sequence[str]) -> dict[str, Any]:
    """VARIABLE=VALUE pairs; a value is JSON, or else text. Raises UserError for one without `=`."""
    found: dict[str, Any] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"--default {pair}: no value", "write it as --default memory=8000")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _existing(client: SyncPrefectClient, name: str) -> WorkPool | None:
    try:
        return client.read_work_pool(name)
    except ObjectNotFound:
        return None


def _is_ours(pool: WorkPool) -> bool:
    command = pool.base_job_template.get("job_configuration", {}).get("command")
    return pool.type in TYPES and str(command).startswith(OURS)


def _defaults(now: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The defaults that a pool has now of variables which it keeps."""
    known = wanted["variables"]["properties"]
    has = now["variables"]["properties"]
    return {name: has[name]["default"] for name in known if "default" in has.get(name, {})}


def _set_defaults(pool: str, wanted: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    properties = wanted["variables"]["properties"]
    for name, value in defaults.items():
        if name not in properties:
            raise UserError(f"--default {name}: pool {pool} has no such variable", f"it has {', '.join(properties)}")
        try:
            validate({name: value}, {"type": "object", "properties": {name: properties[name]}}, raise_on_error=True)
        except ValidationError as error:
            raise UserError(
                f"pool {pool}: the default {name}={json.dumps(value)} is not admitted: {error}",
                f"set it with --default {name}=VALUE; it is: {properties[name].get('description', name)}",
            ) from error
        properties[name]["default"] = value
