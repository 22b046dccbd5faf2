"""Tokens that a source's servers want: out of the environment or a Secret block of Prefect, never out of a recipe."""

from __future__ import annotations

import os
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
from prefect.blocks.system import Secret
from prefect.exceptions import PrefectException

from lmcore.collect.feed_params import FeedSource
from lmcore.collect.hub_params import HUB, HubSource, endpoint
from lmcore.collect.kinds import SourceParams
from lmcore.collect.params import CollectRuntime, PathsSource
from lmcore.collect.tokens import Tokens
from storage.errors import RunError
from storage.redact import also_blank


def tokens_for(source: SourceParams, runtime: CollectRuntime) -> Tokens:
    """The tokens of the hosts that this source itself names, as far as there are any. No log shows them from now on.

    Raises UserError for one that can be none, RunError when Prefect cannot be asked.
    """
    found = {}
    for host in sorted(_hosts(source)):
        name = runtime.tokens.get(host)
        if name is None and isinstance(source, HubSource):  # a mirror of the Hub (HF_ENDPOINT)
            name = runtime.tokens.get(urlsplit(HUB).netloc)
        token = _token(name) if name else ""
        if token:
            also_blank(token)
            found[host] = token
    return Tokens(found)


def _hosts(source: SourceParams) -> frozenset[str]:
    if isinstance(source, HubSource):
        return frozenset({urlsplit(endpoint()).netloc})
    if isinstance(source, FeedSource):
        return source.hosts
    return frozenset(urlsplit(url).netloc for url in source.urls) if isinstance(source, PathsSource) else frozenset()


def _token(name: str) -> str:
    """What is called so; "" when nothing is."""
    given = os.environ.get(name.upper().replace("-", "_"), "").strip()
    if given:
        return given
    try:
        block = cast(Any, Secret.load)(name, _sync=True)  # also where an event loop runs
    except ValueError:  # there is no such block
        return ""
    except (PrefectException, httpx.HTTPError, OSError) as error:
        raise RunError(
            f"Prefect could not be asked for the Secret block {name} ({type(error).__name__})",
            f"see that its server is up, or give the token as {name.upper().replace('-', '_')} in the environment",
        ) from error
    return str(block.get()).strip()
