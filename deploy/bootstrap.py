"""Tell a Prefect server what there is to run: work pools, limits, deployments, automations. Running it again updates.

    python -m deploy.bootstrap --nightly quickstart --cron "30 2 * * *" --timezone Europe/Budapest

What it makes is in the files beside it: `prefect.yaml` (deployments) and `pools/` (job templates). The nightly
recipe and its schedule are kept as the server has them unless options say otherwise. The server is the one that
PREFECT_API_URL names; without one this stops, since a temporary server would forget everything at once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import get_current_settings
from pydantic import ValidationError

from deploy.recovery import apply_automations, take_up_what_nobody_runs
from deploy.workpools import TYPES, apply_pool, parse_defaults
from flows.deployed import offered_recipes
from storage.errors import CollectTrainError, RunError, UserError

HERE = Path(__file__).parent
NIGHTLY = "nightly"


def main() -> None:
    """Apply everything. Exit code 2 for a wrong option, 1 when the server refuses; two lines on stderr."""
    wanted = _parse(sys.argv[1:])
    try:
        bootstrap(wanted)
    except CollectTrainError as error:
        print(f"error: {error.what}\n  to mend: {error.mend}", file=sys.stderr)
        sys.exit(error.exit_code)
    print("work pools, limits, deployments and automations are in place")


def bootstrap(wanted: argparse.Namespace) -> None:
    """Apply everything to the configured server."""
    if not get_current_settings().api.url:
        raise UserError("no Prefect server is configured", "set PREFECT_API_URL, or use `collect-train up`")
    plan = yaml.safe_load((HERE / "prefect.yaml").read_text(encoding="utf-8"))
    with get_client(sync_client=True) as client:
        try:
            pools = {deployment["work_pool"]["name"] for deployment in plan["deployments"]} | {wanted.pool}
            for pool in sorted(pools - {wanted.pool}):
                apply_pool(client, pool, kind=None, runs=None, defaults={})
            defaults = parse_defaults(wanted.default)
            apply_pool(client, wanted.pool, kind=wanted.pool_type, runs=wanted.runs, defaults=defaults)
            nightly = next(d for d in plan["deployments"] if d["name"] == NIGHTLY)
            _schedule(nightly, _nightly_now(client), wanted)
            _deploy(plan)
            apply_automations()
            if wanted.nobody_works:
                take_up_what_nobody_runs(client, wanted.pool)
        except PrefectHTTPStatusError as error:
            raise _refused(error) from error


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.bootstrap", description=__doc__.partition("\n")[0])
    parser.add_argument("--pool", default="collect-train", help="pool that the next three are for; made if need be")
    parser.add_argument("--pool-type", choices=TYPES, help="what it starts runs as; without it as it is, or process")
    parser.add_argument("--runs", type=int, help="runs of the pool at once; without it the limit stays")
    parser.add_argument(
        "--default",
        metavar="VARIABLE=VALUE",
        action="append",
        default=[],
        help="default of a job variable of the pool, such as memory=8000 or image=registry/collect-train; repeatable",
    )
    parser.add_argument("--nightly", metavar="RECIPE", help="recipe that is retrained every night")
    parser.add_argument("--cron", help="when; five fields, such as '30 2 * * *'")
    parser.add_argument("--timezone", help="of the cron fields, such as Europe/Budapest")
    parser.add_argument("--no-nightly", action="store_true", help="stop the nightly retrain")
    parser.add_argument(
        "--nobody-works",
        action="store_true",
        help="no worker of --pool is alive: its runs that still look alive are offered again",
    )
    return parser.parse_args(arguments)


def _nightly_now(client: SyncPrefectClient) -> dict[str, Any] | None:
    """Recipe and schedule of the nightly deployment as the server has them."""
    try:
        found = client.read_deployment_by_name(f"collect-train/{NIGHTLY}")
    except ObjectNotFound:
        return None
    for entry in found.schedules:
        if isinstance(entry.schedule, CronSchedule):
            return {
                "recipe": found.parameters.get("recipe"),
                "cron": entry.schedule.cron,
                "timezone": entry.schedule.timezone,
                "active": entry.active,
            }
    return None


def _schedule(deployment: dict[str, Any], now: dict[str, Any] | None, wanted: argparse.Namespace) -> None:
    """Write recipe and schedule into the nightly deployment: what is wanted, else what is, else what the file says."""
    (schedule,) = deployment["schedules"]
    if now is not None:
        deployment["parameters"]["recipe"] = now["recipe"] or deployment["parameters"]["recipe"]
        schedule.update({name: now[name] for name in ("cron", "timezone", "active")})
    if wanted.nightly:
        if wanted.nightly not in offered_recipes():
            raise UserError(
                f"--nightly {wanted.nightly}: this machine offers no such recipe",
                f"it offers {', '.join(offered_recipes())}; COLLECT_TRAIN_RECIPES names a folder with more",
            )
        deployment["parameters"]["recipe"] = wanted.nightly
        schedule["active"] = True
    if wanted.no_nightly:
        schedule["active"] = False
    schedule["cron"] = wanted.cron or schedule["cron"]
    schedule["timezone"] = wanted.timezone or schedule["timezone"]
    try:
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(
            f"the schedule {schedule['cron']!r} in time zone {schedule['timezone']!r}: {said}",
            'write --cron with five fields, such as "30 2 * * *", and --timezone as in Europe/Budapest',
        ) from error


def _deploy(plan: dict[str, Any]) -> None:
    """Apply the deployments by Prefect's own command, so that its file means here what it means everywhere."""
    with tempfile.TemporaryDirectory(prefix="collect-train-deploy-") as folder:
        path = Path(folder) / "prefect.yaml"
        path.write_text(yaml.safe_dump(plan, sort_keys=False), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(path), "--all"],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise RunError(
            f"`prefect deploy` ended with code {done.returncode}: {lines[-1].strip() if lines else 'it said nothing'}",
            "run prefect --no-prompt deploy --prefect-file deploy/prefect.yaml --all to see all it says",
        )


def _refused(error: PrefectHTTPStatusError) -> RunError:
    if error.response.status_code in (401, 403):
        return RunError(
            f"the Prefect server refused us: {error.response.status_code}",
            "set PREFECT_API_AUTH_STRING=user:password as the server's PREFECT_SERVER_API_AUTH_STRING has it",
        )
    return RunError(f"the Prefect server answered {error.response.status_code}", "see the server's log")


if __name__ == "__main__":
    main()
