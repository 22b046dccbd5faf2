"""Commands for whoever runs the pipeline day by day: up, logs, watch, doctor, gc, forget."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from flows.app import StoreOption, app, console, store_at


@app.command()
def up(
    store: StoreOption = "",
    host: Annotated[str, typer.Option(help="Address to serve on; others than this machine need a password.")] = "",
    port: Annotated[int, typer.Option(envvar="PORT", help="Port of Prefect's API and user interface.")] = 4200,
    pool: Annotated[str, typer.Option(help="Work pool that the worker here works for.")] = "collect-train",
    runs: Annotated[int, typer.Option(min=1, help="Runs of the pool at once.")] = 2,
    nightly: Annotated[str, typer.Option(metavar="RECIPE", help="Retrain this recipe every night.")] = "",
    cron: Annotated[str, typer.Option(help='When, as in "30 2 * * *".')] = "",
    timezone: Annotated[str, typer.Option(help="Time zone of --cron, as in Europe/Budapest.")] = "",
    no_nightly: Annotated[bool, typer.Option("--no-nightly", help="Stop the nightly retrain.")] = False,
) -> None:
    """Start Prefect's server with its user interface, the deployments and one worker; Ctrl-C stops all."""
    from flows.up import Wishes
    from flows.up import up as serve

    told = {"--nightly": nightly, "--cron": cron, "--timezone": timezone}
    options = [part for name, value in told.items() if value for part in (name, value)]
    options += ["--no-nightly"] if no_nightly else []
    wishes = Wishes(host=host or Wishes.host, port=port, pool=pool, runs=runs, deploy=tuple(options))
    with contextlib.suppress(KeyboardInterrupt):
        serve(store_at(store), wishes, console)
