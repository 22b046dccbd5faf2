"""`@step`: an idempotent, resumable Prefect task that builds one artifact, once.

compute the key -> found? end in the state "Reused" -> lock -> work in a folder that survives a crash -> publish

A failure of the kind that people are told of ends in the state "Failed" (or "Stalled") with its two lines as message.
`label` names the step where a run has another one of its stage.
The store decides what is done, so Prefect's own cache and result persistence are off. A step may be killed at
any instant; the next attempt finds its work folder and continues.
"""

from __future__ import annotations

import inspect
import json
import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Completed

from lmcore.config import Params, Runtime
from storage.atomic import disk_errors, write_json
from storage.errors import CollectTrainError, RunError, UserError
from storage.manifest import InputEntry, Provenance
from storage.store import CORPUS_STAGES, Artifact, ArtifactDamaged, Store
from tasks.environment import code_version, environment
from tasks.prefect_ui import failed
from tasks.progress import Watch
from tasks.stall import Stalled
from tasks.ui_pages import Pages, show_finished
from tasks.words import summarise

STALLED = "Stalled"  # name of the state of a step whose process stood still
Mode = Literal["build", "reuse"]
Build = Callable[..., dict[str, Any]]
Inputs = Mapping[str, Artifact | Sequence[Artifact]]


class Step:
    """A stage as a Prefect task. Call it to run it here, `submit` it to run it beside others."""

    def __init__(
        self, task: Task[..., Any], version: int, key: Callable[[Inputs, Params], str], pages: Pages | None
    ) -> None:
        self.task = task
        self.version = version
        self.pages = pages  # shows its artifact in Prefect
        self.key = key  # of the artifact that these inputs, by name, and these settings make

    def __call__(self, store: Store, *inputs: Artifact | Sequence[Artifact], **settings: Any) -> Artifact:
        """Run now and give the artifact. One that stands still is ended and tried once more. Raises what it raised."""
        state = self.task(store, *inputs, return_state=True, **settings)
        if state.name == STALLED:
            state = self.task(store, *inputs, return_state=True, **settings)
        return cast(Artifact, state.result())

    def submit(self, store: Store, *inputs: Artifact | Sequence[Artifact], **settings: Any) -> PrefectFuture[Any]:
        """Start it in the flow's task runner."""
        return cast(PrefectFuture[Any], self.task.submit(store, *inputs, **settings))


def step(
    stage: str, *, version: int, pure: bool | Callable[[Any], bool] = True, pages: Pages | None = None
) -> Callable[[Build], Step]:
    """Make `build(work, *inputs, params, runtime, report) -> metrics` a step.

    `version` is raised by hand when the same settings begin to give other bytes. `pure` says whether the key
    determines the bytes (a network or a time budget does not), for all settings or by a function of Params.
    What `build` leaves in `work/out` becomes the artifact, which `pages` shows in Prefect. An input with a default was
    added later and is left out of the key while it is empty, so that it renames nothing that was built before.
    """

    def decorate(build: Build) -> Step:
        signature = inspect.signature(build)
        taken = [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
        names, later = [p.name for p in taken], {p.name for p in taken if p.default is not p.empty}

        def key_of(inputs: Inputs, params: Params, version: int = version) -> str:
            given = {name: _digests(stage, value) for name, value in inputs.items()}
            named = {name: digests for name, digests in given.items() if digests or name not in later}
            return Store.key(stage, version, params.key_values(), named)

        def run(store: Store, *arguments: Any, **settings: Any) -> Any:
            try:
                return attempt(store, *arguments, **settings)
            except Stalled as error:
                return failed(error, STALLED)
            except CollectTrainError as error:
                return failed(error)

        def attempt(
            store: Store,
            *arguments: Any,
            params: Params,
            runtime: Runtime,
            mode: Mode = "build",
            label: str = "",
        ) -> Any:
            inputs = dict(zip(names, arguments, strict=True))
            key = key_of(inputs, params)
            watch = Watch(label or _label(stage, params), key)
            is_pure = pure if isinstance(pure, bool) else pure(params)
            if found := _finished(store, stage, key, strict=mode == "reuse"):
                _clear_leftovers(store, found)
                return _reused(found, watch, pages)
            if mode == "reuse":
                raise UserError(
                    f"stage {stage} is not built yet for these settings (it would be {stage}/{key[:12]})",
                    "leave --from / --only out, or name an earlier stage",
                )
            with (
                _failure_shown(watch),
                store.in_use(lambda pid: watch.note(f"process {pid} takes a text out of the store; waiting")),
                store.lock(stage, key, lambda pid: watch.note(f"process {pid} builds it; waiting")),
            ):
                if key_of(inputs, params) != key:
                    raise RunError(
                        f"a text was taken out of the store while {stage} was about to use it",
                        "run the same command again: it builds on what is left",
                    )
                if found := _repaired(store, stage, key, is_pure, watch):
                    store.clear_work(stage, key)
                    return _reused(found, watch, pages)
                before = ((older, key_of(inputs, params, older)) for older in range(version - 1, 0, -1))
                if older := next((older for older, name in before if store.is_there(stage, name)), 0):
                    watch.note(f"built by version {older}, this is version {version}: built again")
                artifact = _build(store, stage, key, version, is_pure, build, inputs, params, runtime, watch)
            watch.end("Completed", summarise(artifact.metrics))
            show_finished(pages, watch.label, artifact)
            return Completed(name="Completed", message=f"{stage}/{key[:12]}", data=artifact)

        run.__name__ = run.__qualname__ = build.__name__
        run.__doc__ = build.__doc__
        run.__signature__ = _signature(signature)  # type: ignore[attr-defined]
        task = Task(
            run, name=stage, task_run_name=lambda: _run_name(stage), cache_policy=NO_CACHE, persist_result=False
        )
        return Step(task, version, key_of, pages)

    return decorate


def keep(artifact: Artifact, why: str, pages: Pages | None = None) -> Artifact:
    """Show a finished artifact as its stage, in the state "Reused", where the flow takes it as it is."""

    def run() -> Any:
        return _reused(artifact, Watch(artifact.stage, artifact.key), pages, why)

    stage = artifact.stage
    task = Task(run, name=stage, task_run_name=stage, cache_policy=NO_CACHE, persist_result=False)
    return cast(Artifact, task(return_state=True).result())


def _build(
    store: Store,
    stage: str,
    key: str,
    version: int,
    pure: bool,
    build: Build,
    inputs: dict[str, Any],
    params: Params,
    runtime: Runtime,
    watch: Watch,
) -> Artifact:
    work = store.work(stage, key)
    attempts = _count_attempt(work)
    if attempts > 1:
        watch.note(f"continues after an interruption (attempt {attempts})")
    started, clock = datetime.now(UTC), time.monotonic()
    with disk_errors(work):
        metrics = build(work, *inputs.values(), params=params, runtime=runtime, report=watch)
    provenance = Provenance(
        params=params.key_values(),
        stage_version=version,
        pure=pure,
        inputs=[
            InputEntry(name=name, stage=a.stage, key=a.key, digest=a.digest)
            for name, value in inputs.items()
            for a in _artifacts(value)
        ],
        metrics=metrics,
        started=started.isoformat(timespec="seconds"),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - clock, 3),
        attempts=attempts,
        host=socket.gethostname(),
        environment=environment() | {"runtime": runtime.model_dump_json(), "platform": platform.platform()},
        code=code_version(),
        run=str(flow_run.id or ""),
    )
    artifact = store.publish(stage, key, work / "out", provenance)
    store.clear_work(stage, key)
    return artifact


def _finished(store: Store, stage: str, key: str, *, strict: bool) -> Artifact | None:
    """The artifact, None when it is to be built; a damaged one is None too, unless `strict`."""
    try:
        return store.find(stage, key)
    except ArtifactDamaged:
        if strict:
            raise
        return None


def _repaired(store: Store, stage: str, key: str, pure: bool, watch: Watch) -> Artifact | None:
    """The artifact; a damaged one is moved out of the way and told. The caller holds the key's lock."""
    try:
        return store.find(stage, key)
    except ArtifactDamaged as damage:
        stale = () if pure else store.built_from(stage, key)
        aside = store.set_aside(stage, key, damage.fault_found)
        store.clear_work(stage, key)  # what an attempt left behind it belongs to the artifact that is gone
        watch.note(f"damaged ({damage.fault_found}), set aside in {aside}; building it again")
        if stale:
            watch.note(
                "a rebuild may differ; built from the damaged one and stale now: "
                + ", ".join(f"{a.stage}/{a.key[:12]}" for a in stale)
            )
        return None


def _clear_leftovers(store: Store, artifact: Artifact) -> None:
    """Remove the work folder of an attempt that was killed between publishing and tidying up."""
    if store.has_work(artifact.stage, artifact.key):
        with store.lock(artifact.stage, artifact.key):
            store.clear_work(artifact.stage, artifact.key)


def _reused(artifact: Artifact, watch: Watch, pages: Pages | None, why: str = "") -> Any:
    watch.end("Reused", f"{artifact.key[:12]}  {why or summarise(artifact.metrics)}")
    show_finished(pages, watch.label, artifact)
    message = f"{artifact.stage}/{artifact.key[:12]} {f'is kept: {why}' if why else 'was built before'}"
    return Completed(name="Reused", message=message, data=artifact)


@contextmanager
def _failure_shown(watch: Watch) -> Iterator[None]:
    try:
        yield
    except Stalled as error:
        watch.end(STALLED, error.what)
        raise
    except Exception as error:
        watch.end("Failed", str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise
    except BaseException:  # Ctrl-C, SIGTERM, a cancelled run
        watch.end("Stopped", "the next run continues it")
        raise


def _count_attempt(work: Path) -> int:
    path = work / "attempts.json"
    count = json.loads(path.read_text())["attempts"] + 1 if path.exists() else 1
    write_json(path, {"attempts": count})
    return int(count)


def _artifacts(value: Artifact | Sequence[Artifact]) -> list[Artifact]:
    return [value] if isinstance(value, Artifact) else list(value)


def _digests(stage: str, value: Artifact | Sequence[Artifact]) -> Any:
    return _named(stage, value) if isinstance(value, Artifact) else [_named(stage, a) for a in value]


def _named(stage: str, used: Artifact) -> str:
    """The content digest by which the key of a `stage` names what it is built on.

    It is the newest where `collect-train forget` took texts out of what is built on: that is built anew. It is the
    first where that changes nothing: an edition is still the one after its parent, and an export is still that of the
    model whose samples were blotted.
    """
    anew = used.stage in CORPUS_STAGES and used.stage != stage
    return used.digest if anew else used.digests[0]


def _label(stage: str, params: Params) -> str:
    source, rounds = getattr(params, "source", None), getattr(params, "round", 1)
    label = f"{stage} {source.name}" if source is not None else stage
    return f"{label} round {rounds}" if rounds > 1 else label


def _run_name(stage: str) -> str:
    from prefect.runtime import task_run

    return str(task_run.parameters["label"] or _label(stage, task_run.parameters["params"]))


def _signature(build: inspect.Signature) -> inspect.Signature:
    """The task's signature: `store` for `work`, the same inputs, and the step's own keywords."""
    taken = [p for p in build.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
    positional = [p.replace(default=p.empty) for p in taken]  # Prefect would give one with a default by its name
    keywords = [p for p in build.parameters.values() if p.kind is p.KEYWORD_ONLY and p.name != "report"]
    first = inspect.Parameter("store", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    mode = inspect.Parameter("mode", inspect.Parameter.KEYWORD_ONLY, default="build")
    label = inspect.Parameter("label", inspect.Parameter.KEYWORD_ONLY, default="")
    return inspect.Signature([first, *positional, *keywords, mode, label])
