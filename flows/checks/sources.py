"""The recipe itself: does it load, are its files there, can its sites be reached, is its work pool there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from flows.checks.finding import Finding, failure, ok, warning
from flows.checks.server import Pools
from flows.look import human_bytes
from lmcore.collect.feed_params import FeedSource
from lmcore.collect.files import find_files
from lmcore.collect.hub import endpoint
from lmcore.collect.hub_params import HubSource
from lmcore.collect.links import is_local
from lmcore.collect.params import PathsSource, WebSource
from lmcore.recipe import Recipe

CONNECT_SECONDS = 3.0
_PORTS = {"http": 80, "https": 443}


def check_sources(recipe: Recipe) -> Iterator[Finding]:
    """One line for each source."""
    for source in recipe.sources:
        name = f"source {source.name}"
        if isinstance(source, PathsSource):
            yield _files(name, source)
        elif isinstance(source, WebSource) and source.serve == "pydoc":
            yield ok(name, "Python's own documentation, served on this machine; no network needed")
        else:
            yield from _seeds(name, _asked_first(source), recipe.runtime.collect.contact)


def check_mixture(recipe: Recipe) -> Iterator[Finding]:
    """Whether the mixtures of the training name sources of the recipe; a corpus may still have texts of older ones."""
    train, sources = recipe.train, {source.name for source in recipe.sources}
    if train.mixture_by != "source":
        return
    named = {name for mixture in (train.mixture, *(stage.mixture for stage in train.stages)) for name in mixture or ()}
    if strange := sorted(named - sources):
        yield warning(
            "mixture",
            f"train.mixture names {', '.join(strange)}, and the sources are {', '.join(sorted(sources))}",
            "check the spelling: training refuses a source that no text is from",
        )


def check_pool(recipe: Recipe, pools: Pools | None) -> Iterator[Finding]:
    """Whether there is the work pool that the recipe sends its training to."""
    pool = recipe.resources.train.work_pool
    if not pool:
        return
    if pools is None:
        yield failure(
            "training pool",
            f"resources.train.work_pool is {pool}, and no Prefect server answers",
            "start one (`collect-train up`), or take resources out of the recipe",
        )
    elif pool not in pools.workers:
        yield failure(
            "training pool",
            f"resources.train.work_pool is {pool}, and the server has {', '.join(sorted(pools.workers)) or 'no pool'}",
            "name one of these, or make it: python -m deploy.bootstrap",
        )
    elif not pools.workers[pool]:
        mend = f"start one where the training is to run: `collect-train up --pool {pool}`"
        yield warning("training pool", f"{pool} has no worker online", mend)
    else:
        yield ok("training pool", f"{pool}: {pools.workers[pool]} workers online")


def _files(name: str, source: PathsSource) -> Finding:
    found = find_files(source)
    mend = f"check its paths; they start from {source.base}"
    usable = [file for file in found if file.refusal is None]
    locked = [file for file in usable if not os.access(file.path, os.R_OK)]
    if not usable:
        reasons = sorted({file.refusal[1] for file in found if file.refusal})
        told = f"no file matches {', '.join(source.paths)}" + (f": {reasons[0]}" if reasons else "")
        return failure(name, told, mend)
    told = f"{len(usable):,} files, {human_bytes(sum(file.path.stat().st_size for file in usable))}"
    if locked:
        return warning(name, f"{told}; {len(locked)} may not be read, {locked[0].path} among them", "change their mode")
    if len(usable) < len(found):
        refused = next(file for file in found if file.refusal)
        assert refused.refusal
        return warning(name, f"{told}; {len(found) - len(usable)} are left out: {refused.refusal[1]}", mend)
    return ok(name, told)


def _asked_first(source: WebSource | FeedSource | HubSource) -> Sequence[str]:
    """The URLs that a source begins with."""
    if isinstance(source, FeedSource):
        return source.urls
    return [endpoint()] if isinstance(source, HubSource) else source.start


def _seeds(name: str, seeds: Sequence[str], contact: str) -> Iterator[Finding]:
    public = [seed for seed in seeds if not is_local(seed)]
    if public and not contact:
        yield failure(
            name,
            f"crawling {urlsplit(public[0]).hostname} needs a contact address in the User-Agent",
            "set runtime.collect.contact to your e-mail address or a page about the crawl",
        )
        return
    reached, silent = [], []
    for host, port in sorted({_place(seed) for seed in seeds}):
        try:
            with socket.create_connection((host, port), CONNECT_SECONDS):
                reached.append(host)
        except OSError as error:
            silent.append(f"{host}:{port} ({error.strerror or error})")
    if silent:
        yield warning(
            name, f"cannot be reached: {', '.join(silent)}", "see that you are online and that the host is up"
        )
    else:
        yield ok(name, f"reached: {', '.join(reached)}")


def _place(seed: str) -> tuple[str, int]:
    """Host and port to connect to for a seed: the proxy's, where the environment names one for it."""
    import requests

    proxy = None if is_local(seed) else requests.utils.select_proxy(seed, requests.utils.get_environ_proxies(seed))
    parts = urlsplit(proxy or seed)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80)
