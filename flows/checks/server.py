"""Prefect: which server runs would use, whether it answers and lets us in, who works for it, settings that matter."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.checks.finding import Finding, failure, ok, warning
from storage.store import Store

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

ANSWER_SECONDS = 3.0
UP_PORT = 4200  # where `collect-train up` serves unless told otherwise
HEARTBEAT_SECONDS = 30  # of deploy/launch.py; what watches the runs takes 90 s of silence for death


@dataclass(frozen=True)
class Pools:
    """The work pools of the server that runs would use: how many workers of each are online."""

    workers: dict[str, int]


def check_server(store: Store) -> tuple[list[Finding], Pools | None]:
    """Everything about Prefect; the pools when a server answers."""
    findings, pools = [], None
    stale = _stale_announcement(store)
    if stale:
        findings.append(stale)
    url, told = _url(store, announced=stale is None)
    if url is None:
        findings.append(ok("prefect server", "none is configured and no `up` runs: each run starts its own"))
        findings.append(_port())
    else:
        found, pools = _ask(url, told)
        findings += found
    findings.append(_heartbeat(url is not None))
    findings.append(_telemetry())
    return findings, pools


def _url(store: Store, *, announced: bool) -> tuple[str | None, str]:
    """The API's URL, and where it comes from; `announced` says whether what `up` announces can be read."""
    from prefect.settings import get_current_settings

    from flows.embedded import running_server

    configured = get_current_settings().api.url
    if configured:
        where = "PREFECT_API_URL" if os.environ.get("PREFECT_API_URL") else "the Prefect profile"
        return str(configured), f"{configured} ({where})"
    url = running_server(store) if announced else None
    return url, f"{url} (`collect-train up` of this store)"


def _stale_announcement(store: Store) -> Finding | None:
    from flows.announced import ANNOUNCED
    from flows.embedded import running_server

    path = store.root / ".prefect" / ANNOUNCED
    try:
        if not path.exists() or running_server(store) is not None:
            return None
        told = f"process {json.loads(path.read_bytes())['pid']} is gone"
    except (ValueError, KeyError, TypeError) as error:
        told = f"it cannot be read ({type(error).__name__})"
    return warning("prefect up", f"{path} was left behind by `collect-train up`: {told}", f"remove {path}")


def _ask(url: str, told: str) -> tuple[list[Finding], Pools | None]:
    import httpx
    import requests
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL, temporary_settings

    mend = "start it (`collect-train up`, or `prefect server start`), or unset PREFECT_API_URL to do without"
    session = requests.Session()
    session.trust_env = not any(f"//{host}" in url for host in ("127.0.0.1", "localhost", "[::1]"))
    try:
        answer = session.get(f"{url.rstrip('/')}/health", timeout=ANSWER_SECONDS)
    except requests.RequestException as error:
        return [failure("prefect server", f"{told} does not answer: {type(error).__name__}", mend)], None
    if not answer.ok:
        return [failure("prefect server", f"{told} answers {answer.status_code} to {url}/health", mend)], None
    try:
        with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
            findings = [_version(client, told)]
            pools = Pools({pool.name: _online(client, pool.name) for pool in client.read_work_pools()})
            findings.append(_workers(client, pools))
            return findings, pools
    except PrefectHTTPStatusError as error:
        code = error.response.status_code
        if code in (401, 403):
            return [
                failure(
                    "prefect server",
                    f"{told} refused us: {code}",
                    "set PREFECT_API_AUTH_STRING=user:password as the server's PREFECT_SERVER_API_AUTH_STRING has it",
                )
            ], None
        return [failure("prefect server", f"{told} answered {code}", "see the server's log")], None
    except httpx.HTTPError as error:
        return [failure("prefect server", f"{told} stopped answering: {type(error).__name__}", mend)], None


def _version(client: SyncPrefectClient, told: str) -> Finding:
    import prefect

    theirs = client.api_version()
    if theirs.split(".")[:2] != prefect.__version__.split(".")[:2]:
        return warning(
            "prefect server",
            f"{told} is {theirs}, here is {prefect.__version__}",
            "use one version of Prefect on server and workers",
        )
    return ok("prefect server", f"{told} answers, version {theirs}")


def _online(client: SyncPrefectClient, pool: str) -> int:
    return sum(worker.status == "ONLINE" for worker in client.read_workers_for_work_pool(pool))


def _workers(client: SyncPrefectClient, pools: Pools) -> Finding:
    """Work pools that our deployments send runs to, and whether anybody works there."""
    deployments = client.read_deployments()
    wanted = {d.work_pool_name: d.name for d in deployments if d.work_pool_name in pools.workers}
    told = ", ".join(f"{name}: {count} online" for name, count in sorted(pools.workers.items())) or "no work pool yet"
    if not wanted:
        return ok("workers", f"{told}; no deployment: `collect-train up` makes them")
    served = [name for name in wanted if pools.workers[name]]
    if not served:
        name = sorted(wanted)[0]
        return warning(
            "workers",
            f"{told}: a run of {wanted[name]} would wait",
            f"start one: `collect-train up --pool {name}`",
        )
    return ok("workers", told)


def _port() -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", UP_PORT))
        except OSError as error:
            return warning(
                "ports", f"{UP_PORT}, where `collect-train up` would serve: {error.strerror}", "give it another: --port"
            )
    return ok("ports", f"{UP_PORT}, where `collect-train up` would serve, is free")


def _heartbeat(served: bool) -> Finding:
    from prefect.settings import get_current_settings

    seconds = get_current_settings().flows.heartbeat_frequency
    given = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
    if os.environ.get(given) and (seconds is None or seconds > HEARTBEAT_SECONDS):
        return warning(
            "heartbeat",
            f"{given} is {seconds} s: a run that lives would be taken for dead after {3 * HEARTBEAT_SECONDS} s",
            f"unset it: runs on a worker send one every {HEARTBEAT_SECONDS} s then",
        )
    told = f"runs on a worker send one every {HEARTBEAT_SECONDS} s"
    return ok("heartbeat", told if served else f"{told}; a run without a server needs none")


def _telemetry() -> Finding:
    """Ours is off in any case; `prefect` commands that a person types have a switch of their own."""
    told = "off in every server and run that collect-train starts"
    if os.environ.get("DO_NOT_TRACK", "").lower() in ("1", "true"):
        return ok("telemetry", told)
    return ok("telemetry", f"{told}; for `prefect` commands of your own: export DO_NOT_TRACK=1")
