"""Prefect startup plugin: makes `prefect deployment run collect-train` work as typed.

Prefect takes deployments as FLOW/DEPLOYMENT only. Loaded through its plugin system (entry point group
`prefect.plugins`, enabled in this project's pyproject.toml, elsewhere by PREFECT_PLUGINS_ENABLED=1), this module
does two things:

- A bare name means the one deployment of that name, or NAME/NAME. For that it wraps one method of Prefect's client.
  The extension point is documented, the wrapped method is not: outside the versions that were tried, or when the
  method looks different, nothing is wrapped and Prefect's own message stays.
- When no API URL is configured and `collect-train up` runs for this folder's store, its server is used. When none
  runs, `prefect deployment run` ends there.
"""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.plugins import HookContext, SetupResult, register_hook

from flows.announced import announced_server

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

PREFECT_PLUGIN_API_REQUIRES = ">=0.1,<1"
TRIED = ((3, 8), (3, 10))  # from the first, before the second


@register_hook
def setup_environment(*, ctx: HookContext) -> SetupResult | None:
    """Called by Prefect when it starts. A fault here must never keep Prefect from working."""
    try:
        url = None if ctx.api_url else announced_server(Path(os.environ.get("COLLECT_TRAIN_STORE") or "store"))
        if sys.argv[1:3] == ["deployment", "run"]:
            if _version(ctx.prefect_version) is not None:
                _accept_bare_names()
            if not (url or ctx.api_url or {"-h", "--help"} & set(sys.argv)):
                # Prefect would start a server for the length of the command, and the run would never be seen again.
                sys.exit("no Prefect server: start `collect-train up` in this folder, or set PREFECT_API_URL")
    except Exception as error:  # noqa: BLE001 - Prefect goes on without us
        ctx.logger_factory("prefect.collect_train").warning("collect-train's plugin did not load: %s", error)
        return None
    return SetupResult(env={"PREFECT_API_URL": url}, note="the server of collect-train up") if url else None


def _version(text: str) -> tuple[int, int] | None:
    """Major and minor version, None when it is not one of those tried."""
    major, minor = (int(part) for part in text.split(".")[:2])
    return (major, minor) if TRIED[0] <= (major, minor) < TRIED[1] else None


def _accept_bare_names() -> None:
    from prefect.client.orchestration import PrefectClient

    original = PrefectClient.read_deployment_by_name
    if list(inspect.signature(original).parameters) != ["self", "name"]:
        return

    async def read_deployment_by_name(self: PrefectClient, name: str) -> Any:
        return await original(self, name if "/" in name else await _full_name(self, name))

    setattr(PrefectClient, "read_deployment_by_name", read_deployment_by_name)  # noqa: B010 - mypy minds otherwise


async def _full_name(client: PrefectClient, name: str) -> str:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    found = await client.read_deployments(deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])))
    if len(found) != 1:
        return f"{name}/{name}"
    flow = await client.read_flow(found[0].flow_id)
    return f"{flow.name}/{name}"
