"""Limits on requests to a host that all workers share: Prefect's global concurrency limits called `host-HOST`.

    prefect gcl create host-example.org --limit 1

Every collection then asks example.org only while it holds one of the slots, wherever it runs. Hosts without such a
limit cost nothing. A worker that dies with a slot gives it back when Prefect's lease on it ends, after five minutes.
"""

from __future__ import annotations

import contextlib

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency

from lmcore.collect.http import Gate

PREFIX = "host-"
_PAGE = 200  # limits read at once, the most that the server gives


def shared_limits() -> Gate:
    """A gate for the hosts that have a limit now."""
    names: set[str] = set()
    with get_client(sync_client=True) as client:
        while True:
            found = client.read_global_concurrency_limits(limit=_PAGE, offset=len(names))
            names |= {limit.name for limit in found}
            if len(found) < _PAGE:
                break
    limited = {name for name in names if name.startswith(PREFIX)}

    def gate(host: str) -> contextlib.AbstractContextManager[None]:
        name = f"{PREFIX}{host}"
        return concurrency(name) if name in limited else contextlib.nullcontext()

    return gate
