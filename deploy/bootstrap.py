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
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from pydantic import ValidationError

from deploy.recovery import apply_automations, take_up_what_nobody_runs
from deploy.workpools import TYPES, check_name, parse_defaults, prepare_pool
from flows.embedded import answering
from storage.errors import CollectTrainError, RunError, UserError

HERE = Path(__file__).parent
NIGHTLY = "nightly"
Recipes = tuple[dict[str, Path], dict[str, UserError]]  # offered; refused, and why
TRAIN = "flows.deployed.train_on_worker"


def main() -> None:
    """Apply everything. Exit code 2 for a wrong option, 1 when the server refuses; two lines on stderr."""
    wanted = _parse(sys.argv[1:])
    try:
        limit = bootstrap(wanted)
    except CollectTrainError as error:
        print(f"error: {error.what}\n  to mend: {error.mend}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"pool {wanted.pool}, {'any number of' if limit is None else limit} run{'s' * (limit != 1)} at once")
    print("work pools, limits, deployments and automations are in place")


def bootstrap(wanted: argparse.Namespace) -> int | None:
    """Apply everything to the configured server; gives how many runs of the pool may work at once.

    Nothing is written before all of it has been found right.
    """
    if not get_current_settings().api.url:
        raise UserError("no Prefect server is configured", "set PREFECT_API_URL, or use `collect-train up`")
    check_name(wanted.pool)
    recipes = _offered()
    for name, error in recipes[1].items():
        print(f"warning: {name} is not offered: {' '.join(error.what.split())}", file=sys.stderr)
    plan = yaml.safe_load((HERE / "prefect.yaml").read_text(encoding="utf-8"))
    _add_training(plan, wanted.pool)
    with answering(), get_client(sync_client=True) as client:
        if wanted.keep:
            plan["deployments"] = [d for d in plan["deployments"] if _deployed(client, _full_name(d)) is None]
        pools = {deployment["work_pool"]["name"] for deployment in plan["deployments"]} - {wanted.pool}
        defaults = parse_defaults(wanted.default)
        pool = prepare_pool(
            client, wanted.pool, kind=wanted.pool_type, runs=wanted.runs, defaults=defaults, keep=wanted.keep
        )
        prepared = [pool]
        for name in sorted(pools):
            prepared.append(prepare_pool(client, name, kind=None, runs=None, defaults={}, keep=wanted.keep))
        _prepare_nightly(client, plan, wanted, recipes)
        for each in prepared:
            each.apply(client)
        _deploy(plan)
        apply_automations(keep=wanted.keep)
        if wanted.nobody_works:
            take_up_what_nobody_runs(client, wanted.pool)
    return pool.limit


def _add_training(plan: dict[str, Any], pool: str) -> None:
    """A deployment of the training for this pool, unless the file has one: recipes send their training there."""
    if pool not in {deployment["work_pool"]["name"] for deployment in plan["deployments"]}:
        like = next(deployment for deployment in plan["deployments"] if deployment["entrypoint"] == TRAIN)
        plan["deployments"].append(like | {"name": pool, "work_pool": {"name": pool}})


def _full_name(deployment: dict[str, Any]) -> str:
    return f"{'train' if deployment['entrypoint'] == TRAIN else 'collect-train'}/{deployment['name']}"


def _deployed(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _prepare_nightly(
    client: SyncPrefectClient, plan: dict[str, Any], wanted: argparse.Namespace, recipes: Recipes
) -> None:
    nightly = next((d for d in plan["deployments"] if _full_name(d) == f"collect-train/{NIGHTLY}"), None)
    if nightly is not None:
        _schedule(nightly, _nightly_now(client), wanted, recipes)
    elif wanted.nightly or wanted.cron or wanted.timezone or wanted.no_nightly:
        raise UserError(
            "the server has a nightly retrain already, and its deployments are not ours to change unasked",
            "change it where the server runs; or add --deploy: all deployments as this machine has them",
        )


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.bootstrap", description=__doc__.partition("\n")[0])
    parser.add_argument("--pool", default="collect-train", help="pool that the next three are for; made if need be")
    parser.add_argument("--pool-type", choices=TYPES, help="what it starts runs as; without it as it is, or process")
    parser.add_argument("--runs", type=int, help="runs of the pool at once; without it as it is, or 2")
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
        "--keep",
        action="store_true",
        help="the server is somebody else's: what it has stays, only what is missing is made (--runs still counts)",
    )
    parser.add_argument(
        "--nobody-works",
        action="store_true",
        help="no worker of --pool is alive: its runs that still look alive are offered again",
    )
    return parser.parse_args(arguments)


def _nightly_now(client: SyncPrefectClient) -> dict[str, Any] | None:
    """Recipe and schedule of the nightly deployment as the server has them."""
    found = _deployed(client, f"collect-train/{NIGHTLY}")
    if found is None:
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


def _schedule(
    deployment: dict[str, Any], now: dict[str, Any] | None, wanted: argparse.Namespace, recipes: Recipes
) -> None:
    """Write recipe and schedule into the nightly deployment: what is wanted, else what is, else what the file says."""
    (schedule,) = deployment["schedules"]
    usual = deployment["parameters"]["recipe"]
    if now is not None:
        deployment["parameters"]["recipe"] = now["recipe"] or usual
        schedule.update({name: now[name] for name in ("cron", "timezone", "active")})
    if wanted.nightly:
        deployment["parameters"]["recipe"] = wanted.nightly
        schedule["active"] = True
    if wanted.no_nightly:
        schedule["active"] = False
    recipe = deployment["parameters"]["recipe"]
    offered, refused = recipes
    if recipe not in offered:
        if schedule["active"]:
            raise _not_offered(recipe, offered, refused, asked=bool(wanted.nightly))
        deployment["parameters"]["recipe"] = usual
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


def _offered() -> Recipes:
    """The recipes that this machine offers, and what is wrong with the others."""
    from flows.deployed import offered_recipes  # which fails when the folder of recipes cannot be used

    refused: dict[str, UserError] = {}
    return offered_recipes(refused), refused


def _not_offered(recipe: str, offered: dict[str, Path], refused: dict[str, UserError], *, asked: bool) -> UserError:
    if asked and recipe in refused:
        return UserError(f"--nightly {recipe}: {refused[recipe].what}", refused[recipe].mend)
    if asked:
        return UserError(
            f"--nightly {recipe}: this machine offers no such recipe",
            f"it offers {', '.join(offered)}; COLLECT_TRAIN_RECIPES names a folder with more",
        )
    reason = f": {refused[recipe].what}" if recipe in refused else ""
    return UserError(
        f"the server retrains {recipe} every night, which this machine does not offer{reason}",
        "name its folder in COLLECT_TRAIN_RECIPES, choose another with --nightly, or end it with --no-nightly",
    )


def _deploy(plan: dict[str, Any]) -> None:
    """Apply the deployments by Prefect's own command, so that its file means here what it means everywhere."""
    if not plan["deployments"]:
        return
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


if __name__ == "__main__":
    main()
