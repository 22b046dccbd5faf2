"""The flows as a Prefect deployment starts them on a worker.

The run form offers exactly: which recipe, edition, minutes, device, seed, and further settings. A recipe is chosen
from a list, the packaged ones and those of one folder (COLLECT_TRAIN_RECIPES) that the worker's owner names; it is
never a path, and no setting says what is read: parameters do not reach the worker's files. (Job variables do, see
docs/operations.md.)
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.attempts import CRASHES, crashes
from flows.collect_train import build_recipe
from flows.elsewhere import train_for
from flows.plan import RUN_NAME, scheduled_edition
from flows.stages import Range
from lmcore.recipe import Recipe, check_settings, load_recipe, packaged_recipes
from storage.errors import CollectTrainError, RunError, UserError
from storage.store import Store
from tasks.environment import resources
from tasks.prefect_ui import failed
from tasks.train import with_resources

RECIPES_VARIABLE = "COLLECT_TRAIN_RECIPES"
Given = ParamSpec("Given")


def offered_recipes(refused: dict[str, UserError] | None = None) -> dict[str, Path]:
    """The recipes a run may name: the packaged ones and those of the configured folder.

    What is wrong with a file there that is no recipe is put into `refused`, under its name. Raises UserError when the
    folder does not exist or a recipe in it hides a packaged one.
    """
    offered = packaged_recipes()
    configured = os.environ.get(RECIPES_VARIABLE)
    if configured:
        folder = Path(configured)
        if not folder.is_dir():
            raise UserError(f"{RECIPES_VARIABLE} is {configured}, which is no folder", "name a folder of recipes")
        own = {path.stem: path.absolute() for path in sorted(folder.glob("*.y*ml")) if path.is_file()}
        if hidden := sorted(offered.keys() & own.keys()):
            raise UserError(f"{configured} holds {hidden[0]}, the name of a packaged recipe", "give it another name")
        for name, path in own.items():
            try:
                if not re.fullmatch(r"[\w.-]+", name):
                    raise UserError(f"{path} is no name for a recipe", "use letters, digits, . _ and -")
                load_recipe(str(path))
            except UserError as error:
                if refused is not None:
                    refused[name] = error
                continue
            offered[name] = path
    return offered


def _failing_in_a_sentence(build: Callable[Given, Any]) -> Callable[Given, Any]:
    @functools.wraps(build)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Any:
        try:
            return build(*args, **kwargs)
        except CollectTrainError as error:
            return failed(error)

    return run


RecipeName = Annotated[str, Field(json_schema_extra={"enum": sorted(offered_recipes())})]
RunName = Annotated[str, Field(pattern=f"^{RUN_NAME}$")]


@flow(
    name="collect-train",
    flow_run_name=lambda: f"{flow_run.parameters['recipe']} {flow_run.parameters.get('edition') or 'newest'}",
    task_runner=ThreadPoolTaskRunner(max_workers=4),  # type: ignore[arg-type]
    persist_result=False,
)
@_failing_in_a_sentence
def collect_train_on_worker(
    recipe: RecipeName = "quickstart",
    edition: str = "",
    minutes: Annotated[float | None, Field(gt=0)] = None,
    device: Literal["recipe", "auto", "cpu", "cuda", "mps"] = "recipe",
    seed: Annotated[int | None, Field(ge=0)] = None,
    set: list[str] | None = None,
) -> Any:
    """Turn sources of text into a released language model, building only what is missing.

    Args:
        recipe: A packaged recipe, or one of the worker's recipe folder.
        edition: Which collection. Empty: the newest. today: of the date the run is scheduled for. new, or a name.
        minutes: Train so many minutes instead of the recipe's budget.
        device: Where to train and evaluate; recipe: as the recipe says.
        seed: Seed of training instead of the recipe's.
        set: More settings of the recipe, each a.b=value; of a source only its numbers.
    """
    _begin()
    check_settings(set or [])
    refused: dict[str, UserError] = {}
    offered = offered_recipes(refused)
    if recipe not in offered:
        unknown = UserError(f"this worker offers no recipe {recipe!r}", f"it offers {', '.join(offered)}")
        raise refused.get(recipe, unknown)
    loaded = load_recipe(str(offered[recipe]), _overrides(minutes, device, seed, set or []))
    _check_resources(loaded)
    if edition == "today":
        edition = scheduled_edition(loaded, _scheduled())
    built = build_recipe(Store.default(), loaded, edition, Range())
    decision = built.one("release")
    assert decision is not None
    return Completed(message=f"{loaded.name}: {decision.metrics.get('reason', decision.key[:12])}")


@flow(name="train", persist_result=False)
@_failing_in_a_sentence
def train_on_worker(run: RunName, inputs: dict[str, str | list[str]]) -> Any:
    """Train for a run that is being built elsewhere, in the store that both share.

    Args:
        run: The run whose plan says how to train.
        inputs: Content digests of what it trains on, by name.
    """
    _begin()
    artifact = train_for(Store.default(), run, inputs)
    return Completed(message=f"train/{artifact.key[:12]}")


def _overrides(minutes: float | None, device: str, seed: int | None, more: list[str]) -> list[str]:
    chosen = None if device == "recipe" else device
    given = {
        "train.minutes": minutes,
        "train.seed": seed,
        "runtime.train.device": chosen,
        "runtime.evaluate.device": chosen,
    }
    return [*(f"{place}={value}" for place, value in given.items() if value is not None), *more]


def _check_resources(recipe: Recipe) -> None:
    """Raise UserError now, not after an hour of collecting, when the job variables do not suit the training."""
    if not recipe.resources.train.work_pool:
        with_resources(recipe.training, recipe.runtime.train)


def _scheduled() -> datetime:
    scheduled: datetime = flow_run.scheduled_start_time
    return scheduled


def _begin() -> None:
    """Raise UserError when the worker cannot give what was asked, RunError when the run has crashed too often."""
    resources()
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(flow_run.id)
    if crashes(states) >= CRASHES:
        raise RunError(
            f"gave up after {CRASHES} crashes",
            "look at its log and the worker's; a new run, or a retry of this one, goes on where it stopped",
        )
