"""Commands for whoever runs the pipeline day by day: up, logs, watch, doctor, gc, forget."""

from __future__ import annotations

import contextlib
import signal
from typing import Annotated

import typer

from flows.app import RunArgument, SetOption, StoreOption, app, console, store_at


@app.command()
def up(
    store: StoreOption = "",
    host: Annotated[str, typer.Option(help="Address to serve on; others than this machine need a password.")] = "",
    port: Annotated[int, typer.Option(envvar="PORT", help="Port of Prefect's API and user interface.")] = 4200,
    pool: Annotated[str, typer.Option(help="Work pool that the worker here works for.")] = "collect-train",
    runs: Annotated[
        int | None, typer.Option(min=1, help="Runs of the pool at once; without it as it is, 2 for a new one.")
    ] = None,
    nightly: Annotated[str, typer.Option(metavar="RECIPE", help="Retrain this recipe every night.")] = "",
    cron: Annotated[str, typer.Option(help='When, as in "30 2 * * *".')] = "",
    timezone: Annotated[str, typer.Option(help="Time zone of --cron, as in Europe/Budapest.")] = "",
    no_nightly: Annotated[bool, typer.Option("--no-nightly", help="Stop the nightly retrain.")] = False,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Deploy anew, with the recipes here, on the server of PREFECT_API_URL too.")
    ] = False,
) -> None:
    """Start Prefect's server with its user interface, the deployments and one worker; Ctrl-C stops all."""
    from flows.up import Wishes
    from flows.up import up as serve

    told = {"--nightly": nightly, "--cron": cron, "--timezone": timezone}
    options = [part for name, value in told.items() if value for part in (name, value)]
    options += ["--no-nightly"] if no_nightly else []
    wishes = Wishes(host=host or Wishes.host, port=port, pool=pool, runs=runs, deploy=deploy, options=tuple(options))
    try:
        serve(store_at(store), wishes, console)
    except KeyboardInterrupt:
        return
    except SystemExit as stopped:
        if stopped.code != 128 + signal.SIGTERM:  # this is how a service manager ends a service that is well
            raise


@app.command()
def logs(
    run: RunArgument = "",
    store: StoreOption = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends, or Ctrl-C.")] = False,
) -> None:
    """What a run told, with times; of the newest run when none is named."""
    from flows.logs import print_log

    with contextlib.suppress(KeyboardInterrupt):
        print_log(store_at(store), run, follow=follow)


@app.command()
def watch(run: RunArgument = "", store: StoreOption = "") -> None:
    """A run as it goes: its stages, the curve of its training, what the model says by now; Ctrl-C leaves it be."""
    from flows.watch import watch_run

    with contextlib.suppress(KeyboardInterrupt):
        watch_run(store_at(store), run, console)


@app.command()
def diagnose(run: RunArgument = "", store: StoreOption = "") -> None:
    """What is wrong with the training of a run: the evidence, the cause, the setting to change."""
    from flows.diagnose import show_diagnosis

    show_diagnosis(store_at(store), run, console)


@app.command()
def forget(
    what: Annotated[str, typer.Argument(metavar="URL|RECORD_ID", help="A page, or a record (8 digits of it will do).")],
    store: StoreOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this, only say what would be done.")] = False,
) -> None:
    """Take a text out of the store for ever, after saying exactly what that changes."""
    from flows.forget import forget as forget_text

    forget_text(store_at(store), what, console, yes=yes)


@app.command()
def gc(
    store: StoreOption = "",
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without this, only say what would go.")] = False,
    keep_runs: Annotated[int, typer.Option(min=0, help="Newest runs of each recipe to keep all of.")] = 3,
    older_than: Annotated[
        str, typer.Option(help="How long unfinished work and set-aside artifacts stay untouched: 30m, 12h, 7d, 2w.")
    ] = "7d",
    refused: Annotated[
        bool, typer.Option("--refused", help="Let the models of refused releases go; the registry keeps the figures.")
    ] = False,
) -> None:
    """What may go from the store, why the rest stays, and how much that frees."""
    from flows.gc import Wishes, collect_garbage, duration

    wishes = Wishes(keep_runs=keep_runs, older_than=duration(older_than), refused=refused)
    collect_garbage(store_at(store), wishes, console, delete=delete)


@app.command()
def doctor(
    recipe: Annotated[str, typer.Argument(help="A recipe to check the machine against; empty: any.")] = "",
    store: StoreOption = "",
    set_: SetOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this machine, the store, Prefect and a recipe: what would fail, and how to mend it. Exit code 1 then."""
    from flows.doctor import examine, show_findings

    failing = show_findings(examine(store_at(store), recipe, set_ or []), console, as_json=json)
    raise typer.Exit(1 if failing else 0)
