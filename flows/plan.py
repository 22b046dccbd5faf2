"""The plan of a run: every name that moves, resolved once at the start.

Newest edition, parent editions and champion are looked up here and written to `runs/<run>/plan.json`; the steps
get what was found as ordinary inputs, and a retry of the same run reads the plan instead of looking again.

Editions live in `<store>/editions/<recipe>.json`: their names in order of creation, and for each what was fixed when
it was begun: the parents, and the champion that a training may start from. So running an edition again does nothing,
although its own model may be the champion by then.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, ValidationError

from lmcore.collect.kinds import NAMES
from lmcore.curate.parent import ABOUT
from lmcore.models.families import check_trainable
from lmcore.recipe import Recipe, parse_recipe
from storage.atomic import write_json
from storage.digest import canonical_json
from storage.errors import RunError, UserError
from storage.locks import file_lock
from storage.registry import Registry, RegistryState
from storage.store import Artifact, Store

FORMAT = 1
RUN_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"


class Start(BaseModel):
    """The release that was champion when an edition was begun."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    release: int
    model_key: str
    model_digest: str


class Given(BaseModel):
    """The model that `train.init_from` names, when that is neither scratch nor champion; `name` is for people."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    model_key: str
    model_digest: str


class Corpus(BaseModel):
    """The corpus that was the newest when an edition was begun."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    key: str
    digest: str


class Edition(BaseModel):
    """One collection in time; `parents` maps a source to the content digest of its edition before.

    `start` is None when there was no champion, and in editions of the time before it was noted; `corpus` when the
    editions before left none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    created: str
    parents: dict[str, str]
    start: Start | None = None
    corpus: Corpus | None = None


class Plan(BaseModel):
    """What one run builds."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: int = FORMAT
    run: str
    created: str
    recipe: dict[str, Any]
    edition: Edition
    registry: RegistryState
    start: Given | None = None

    def parsed(self) -> Recipe:
        """The recipe with every default resolved, as it was when the run began."""
        return parse_recipe(self.recipe, f"the plan of run {self.run}")


@dataclass(frozen=True)
class Opponent:
    """The champion that a model is compared with: its release number and its train artifact."""

    number: int
    model: Artifact


def run_folder(store: Store, run: str) -> Path:
    """Where the plan and the report of a run live. Raises UserError for a name that could lead elsewhere."""
    if not re.fullmatch(RUN_NAME, run):
        raise UserError(f"{run!r} cannot name a run", "give the id of a run, as `collect-train status` shows it")
    return store.root / "runs" / run


def make_plan(
    store: Store, recipe: Recipe, edition: str = "", run: str = "", tell: Callable[[str], None] = lambda _: None
) -> Plan:
    """The plan of a run: read when `run` has one, made and written otherwise.

    `edition` is "" (the newest of this recipe, or today's when there is none), "today", "new" or a name; `tell` hears
    when it is not the one named.
    """
    run = run or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    path = run_folder(store, run) / "plan.json"
    if path.exists():
        return read_plan(store, run)
    check_trainable(recipe.model)
    plan = Plan(
        run=run,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=recipe.model_dump(mode="json"),
        edition=resolve_edition(store, recipe, edition, tell),
        registry=Registry(store.root).read(recipe.name),
        start=resolve_start(store, recipe, tell),
    )
    write_json(path, plan.model_dump(mode="json"))
    return plan


def resolve_start(store: Store, recipe: Recipe, tell: Callable[[str], None] = lambda _: None) -> Given | None:
    """The model that `train.init_from` names now: a release, an artifact, or a Hugging Face folder, which is read in.

    None for scratch and for champion, which is the edition's. Raises UserError when there is no such thing.
    """
    name = recipe.train.init_from
    if name in ("scratch", "champion"):
        return None
    registry = Registry(store.root)
    if folder := recipe.train.init_folder:
        from tasks.imported import import_model

        model, told = import_model(store, Path(folder), tell), f"the folder {Path(folder).name}"
    elif name.partition("@")[0] in registry.names():
        release = registry.resolve(name)
        told = f"{name.partition('@')[0]}@{release.number}"
        return Given(name=told, model_key=release.model_key, model_digest=release.model_digest)
    else:
        try:
            model = store.resolve(name)
        except UserError as error:
            known = ", ".join(registry.names()) or "none"
            raise UserError(
                f"train.init_from is {name!r}: {error.what}",
                f"write scratch, champion, a release (of {known}), train/KEY, or a folder with a slash (./{name})",
            ) from error
        if model.stage != "train":
            raise UserError(f"train.init_from is {name!r}, an artifact of stage {model.stage}", "name a train artifact")
        told = f"train/{model.key[:12]}"
    return Given(name=told, model_key=model.key, model_digest=model.digest)


def scheduled_edition(recipe: Recipe, when: datetime) -> str:
    """Name of the edition of a run that was scheduled for `when`: that date in the recipe's time zone.

    Two runs of one date share an edition, however late they start.
    """
    assert when.tzinfo is not None, "an instant, not the reading of some clock"
    return when.astimezone(ZoneInfo(recipe.timezone)).date().isoformat()


def resolve_edition(store: Store, recipe: Recipe, wanted: str, tell: Callable[[str], None] = lambda _: None) -> Edition:
    """Find the wanted edition, or create it with its parents and its start fixed for ever.

    A date is the name of that day's collection. When a later day's has been begun, nothing can be collected for the
    earlier one any more: the newest edition is given, and `tell` hears it. So editions of days stay in their order.
    """
    path = store.root / "editions" / f"{recipe.name}.json"
    with file_lock(store.root / ".locks" / f"editions-{recipe.name}"):
        known = read_editions(path)
        if wanted == "new" and known and not _has_collected(store, recipe, known[-1].name):
            return known[-1]  # a run that was killed while it collected goes on with it
        name = _edition_name(known, wanted, recipe.timezone)
        for edition in known:
            if edition.name == name:
                return edition
        if later := _day_after(known, name, recipe.timezone):
            tell(f"edition {later} has been begun: it is too late to collect {name}, and {known[-1].name} is used")
            return known[-1]
        champion = Registry(store.root).champion(recipe.name)
        edition = Edition(
            name=name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            parents=_parents(store, recipe, [e.name for e in known]),
            start=champion
            and Start(release=champion.number, model_key=champion.model_key, model_digest=champion.model_digest),
            corpus=newest_corpus(store, recipe, [e.name for e in known]),
        )
        write_json(path, {"format": FORMAT, "editions": [e.model_dump(mode="json") for e in [*known, edition]]})
    return edition


def opponent(
    store: Store, registry: RegistryState, model: Artifact, warn: Callable[[str], None] = lambda _: None
) -> Opponent | None:
    """The champion to compare `model` with: today's, or, when that is `model` itself, the one it followed.

    So a second run of a released recipe asks the same question, also after a rollback, and does nothing. None when
    there is no champion, or when its artifact is gone or was rebuilt as another model; `warn` is then told.
    """
    by_number = {release.number: release for release in registry.releases}
    number = registry.champion
    if number is not None and by_number[number].model_digest in model.digests:
        champions = [move.champion for move in registry.history if move.champion is not None]
        before = reversed(champions[: champions.index(number)])
        number = next((other for other in before if by_number[other].model_digest not in model.digests), None)
    if number is None:
        return None
    found = store.find("train", by_number[number].model_key)
    if found is None or by_number[number].model_digest not in found.digests:
        warn(f"the champion {number} is no longer in the store as it was released: there is nothing to compare with")
        return None
    return Opponent(number, found)


def _edition_name(known: list[Edition], wanted: str, timezone: str) -> str:
    today = datetime.now(ZoneInfo(timezone)).date().isoformat()
    if not wanted:
        return known[-1].name if known else today
    if wanted == "today":
        return today
    if wanted != "new":
        if not wanted.replace("-", "").replace(".", "").replace("_", "").isalnum() or len(wanted) > 64:
            raise UserError(f"{wanted!r} cannot name an edition", "use letters, digits, '-', '_' and '.', at most 64")
        return wanted
    taken = {edition.name for edition in known}
    return next(
        name for number in range(1, 10_000) if (name := today if number == 1 else f"{today}-{number}") not in taken
    )


def _day_after(known: list[Edition], name: str, timezone: str) -> str | None:
    """The edition of a later day than the one that `name` names, begun on its day or after, if there is one."""
    wanted = _day(name)
    for edition in known:
        day = _day(edition.name)
        begun = datetime.fromisoformat(edition.created).astimezone(ZoneInfo(timezone)).date()
        if wanted and day and wanted < day <= begun:  # one named by hand after a day to come says nothing
            return edition.name
    return None


def _day(name: str) -> date | None:
    try:
        return date.fromisoformat(name) if re.fullmatch(r"\d{4}-\d\d-\d\d", name) else None
    except ValueError:
        return None


def _has_collected(store: Store, recipe: Recipe, edition: str) -> bool:
    """Whether every source of the recipe is finished in an edition."""
    made = [artifact.manifest.provenance.params for artifact in store.readable("collect")]
    there = [params["source"] for params in made if params["edition"] == edition]
    wanted = (source.model_dump(mode="json") for source in recipe.sources)
    return all(any(_is_same(source, other) for other in there) for source in wanted)


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two settings are of one source, whatever its limits: another recipe may use the name for another.

    A source that reads in further places, or no longer in some, is the same as long as one of them stays.
    """
    if (one["kind"], one["name"]) != (other["kind"], other["name"]):
        return False
    places = NAMES[one["kind"]].PLACES if one["kind"] in NAMES else ()
    return all(_meet(one.get(name), other.get(name)) for name in places)


def _meet(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list) and one and other:
        return not {canonical_json(item) for item in one}.isdisjoint(canonical_json(item) for item in other)
    return bool(one == other or (isinstance(one, list) and isinstance(other, list)))


def _parents(store: Store, recipe: Recipe, earlier: list[str]) -> dict[str, str]:
    """The newest finished collection of each source, by the order of the editions."""
    order = {name: number for number, name in enumerate(earlier)}
    made = [artifact for artifact in store.readable("collect") if _params(artifact)["edition"] in order]
    found = {}
    for source in recipe.sources:
        settings = source.model_dump(mode="json")
        same = [artifact for artifact in made if _is_same(settings, _params(artifact)["source"])]
        if same:
            newest = max(same, key=lambda artifact: (order[_params(artifact)["edition"]], round_of(artifact)))
            found[source.name] = newest.digest
    return found


def earlier_editions(store: Store, recipe: Recipe, name: str) -> list[str]:
    """The editions of a recipe that were begun before the one called `name`, in order."""
    known = [edition.name for edition in read_editions(store.root / "editions" / f"{recipe.name}.json")]
    return known[: known.index(name)] if name in known else known


def newest_corpus(store: Store, recipe: Recipe, earlier: list[str]) -> Corpus | None:
    """The newest corpus that was made of earlier editions of the recipe's sources and of nothing else.

    Passed over is what nothing could go on from: one that was dealt with another salt, or by a version that did not
    note what it was made of.
    """
    order = {name: number for number, name in enumerate(earlier)}
    settings = {source.name: source.model_dump(mode="json") for source in recipe.sources}
    ours = {
        artifact.key: order[_params(artifact)["edition"]]
        for artifact in store.readable("collect")
        if _params(artifact)["edition"] in order
        and _params(artifact)["source"]["name"] in settings
        and _is_same(settings[_params(artifact)["source"]["name"]], _params(artifact)["source"])
    }
    found = []
    for artifact in store.readable("curate"):
        inputs = [e.key for e in artifact.manifest.provenance.inputs if e.stage == "collect"]
        same_salt = _params(artifact).get("split", {}).get("salt") == recipe.curate.split.salt
        told = ABOUT in artifact.manifest.provenance.files
        if inputs and all(key in ours for key in inputs) and same_salt and told:
            finished = artifact.manifest.provenance.finished
            found.append((max(ours[key] for key in inputs), finished, artifact.key, artifact.digest))
    if not found:
        return None
    *_, key, digest = max(found)
    return Corpus(key=key, digest=digest)


def _params(artifact: Artifact) -> dict[str, Any]:
    return artifact.manifest.provenance.params


def round_of(artifact: Artifact) -> int:
    """The round of collecting that left a collect artifact."""
    return int(artifact.manifest.provenance.params.get("round", 1))


def read_plan(store: Store, run: str) -> Plan:
    """The plan that a run wrote when it began. Raises RunError when it is lost or damaged."""
    path = run_folder(store, run) / "plan.json"
    try:
        return Plan.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(f"the plan {path} is damaged: {str(error).splitlines()[0]}", "start a new run") from error


def read_editions(path: Path) -> list[Edition]:
    """The editions of one recipe, in order of creation, from its list. Raises RunError when it is damaged."""
    if not path.exists():
        return []
    try:
        return [Edition.model_validate(entry) for entry in json.loads(path.read_bytes())["editions"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"the list of editions {path} is damaged: {str(error).splitlines()[0]}",
            "restore it from a backup, or move it away; the next run then starts a first edition",
        ) from error
