"""Work pools: how a run is started (a process, a Docker container, a Kubernetes job) and with what resources.

The templates are in `pools/`; all name their resources alike and start a run through deploy/launch.py. What a
template is made of is ours and brought up to date; the defaults of its variables are the owner's, and stay as they
were last set here or in Prefect's user interface.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.types.names import BANNED_CHARACTERS as BANNED
from prefect.utilities.schema_tools import ValidationError, validate

from storage.errors import UserError

FOLDER = Path(__file__).parent / "pools"
TYPES = {
    "process": "Runs of collect-train as processes, with resources per run.",
    "docker": "Runs of collect-train in containers, with resources per run.",
    "kubernetes": "Runs of collect-train as Kubernetes jobs, with resources per run.",
}
RUNS = 2  # at once, in a new process pool
OURS = "python -m deploy.launch "  # how the command of every template of ours begins


def template(kind: str) -> dict[str, Any]:
    """The base job template of a type of pool."""
    read: dict[str, Any] = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    return read


@dataclass(frozen=True)
class Prepared:
    """A pool as it will be; nothing has been written yet."""

    name: str
    limit: int | None  # of runs at once
    change: WorkPoolCreate | WorkPoolUpdate | None

    def apply(self, client: SyncPrefectClient) -> None:
        """Write it."""
        if isinstance(self.change, WorkPoolCreate):
            with contextlib.suppress(ObjectAlreadyExists):  # somebody else's `up` was faster
                client.create_work_pool(self.change)
        elif self.change is not None:
            client.update_work_pool(self.name, self.change)


def check_name(name: str) -> None:
    """Raises UserError for a name that Prefect does not take."""
    if not name or set(name) & set(BANNED) or name.lower().startswith("prefect"):
        raise UserError(
            f"{name!r} is no name for a work pool",
            f"use none of {' '.join(BANNED)}, and another beginning than prefect",
        )


def prepare_pool(
    client: SyncPrefectClient,
    name: str,
    *,
    kind: str | None,
    runs: int | None,
    defaults: Mapping[str, Any],
    keep: bool = False,
) -> Prepared:
    """What is to be written so that there is this pool, ours up to date; one that is not ours keeps its template.

    `kind` None keeps the type that the pool has, and makes a new one a process pool. `runs` None keeps its limit; a
    new process pool then gets RUNS, since its machine is all it has. With `keep`, a pool that is there changes in
    nothing but its limit. Raises UserError for a name that Prefect does not take, when the pool is of another type,
    and for a default that its variable does not admit.
    """
    pool = _existing(client, name)
    if pool is None:
        kind = kind or "process"
        wanted = template(kind)
        _set_defaults(name, wanted, defaults)
        limit = RUNS if runs is None and kind == "process" else runs
        made = WorkPoolCreate(
            name=name, type=kind, description=TYPES[kind], base_job_template=wanted, concurrency_limit=limit
        )
        return Prepared(name, limit, made)
    if kind not in (None, pool.type):
        raise UserError(
            f"the work pool {name} is of type {pool.type}, not {kind}",
            f"give another name, or delete it first: prefect work-pool delete {name}",
        )
    limit = pool.concurrency_limit if runs is None else runs
    if keep or not _is_ours(pool):
        if defaults:
            raise UserError(f"the work pool {name} has a template of its owner's", "set its defaults where it is kept")
        return Prepared(name, limit, None if runs is None else WorkPoolUpdate(concurrency_limit=limit))
    wanted = template(pool.type)
    _set_defaults(name, wanted, _defaults(pool.base_job_template, wanted) | dict(defaults))
    return Prepared(name, limit, WorkPoolUpdate(concurrency_limit=limit, base_job_template=wanted))


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
