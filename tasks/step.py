"""`@step`: an idempotent, resumable Prefect task that builds one artifact, once.

compute the key -> found? end in the state "Reused" -> lock -> work in a folder that survives a crash -> publish

The store decides what is done, so Prefect's own cache and result persistence are off. A step may be killed at
any instant; the next attempt finds its work folder and continues.
"""

from __future__ import annotations

import inspect
import json
import platform
import socket
import time
from collections.abc import Callable, Iterator, Sequence
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
from storage.errors import UserError
from storage.manifest import InputEntry, Provenance
from storage.store import Artifact, ArtifactDamaged, Store
from tasks.environment import code_version, environment
from tasks.progress import Watch
from tasks.words import summarise

Mode = Literal["build", "reuse"]
Build = Callable[..., dict[str, Any]]


class Step:
    """A stage as a Prefect task. Call it to run it here, `submit` it to run it beside others."""

    def __init__(self, task: Task[..., Any]) -> None:
        self.task = task

    def __call__(self, store: Store, *inputs: Artifact | Sequence[Artifact], **settings: Any) -> Artifact:
        """Run now and give the artifact. Raises what the stage raised."""
        state = self.task(store, *inputs, return_state=True, **settings)
        return cast(Artifact, state.result())

    def submit(self, store: Store, *inputs: Artifact | Sequence[Artifact], **settings: Any) -> PrefectFuture[Any]:
        """Start it in the flow's task runner."""
        return cast(PrefectFuture[Any], self.task.submit(store, *inputs, **settings))


def step(stage: str, *, version: int, pure: bool | Callable[[Any], bool] = True) -> Callable[[Build], Step]:
    """Make `build(work, *inputs, params, runtime, report) -> metrics` a step.

    `version` is raised by hand when the same settings begin to give other bytes. `pure` says whether the key
    determines the bytes (a network or a time budget does not), for all settings or by a function of Params.
    What `build` leaves in `work/out` becomes the artifact.
    """

    def decorate(build: Build) -> Step:
        signature = inspect.signature(build)
        names = [p.name for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD][1:]

        def run(store: Store, *arguments: Any, params: Params, runtime: Runtime, mode: Mode = "build") -> Any:
            inputs = dict(zip(names, arguments, strict=True))
            key = Store.key(stage, version, params.key_values(), {n: _digests(value) for n, value in inputs.items()})
            watch = Watch(_label(stage, params))
            is_pure = pure if isinstance(pure, bool) else pure(params)
            if found := _finished(store, stage, key, strict=mode == "reuse"):
                _clear_leftovers(store, found)
                return _reused(found, watch)
            if mode == "reuse":
                raise UserError(
                    f"stage {stage} is not built yet for these settings (it would be {stage}/{key[:12]})",
                    "leave --from / --only out, or name an earlier stage",
                )
            with (
                _failure_shown(watch),
                store.lock(stage, key, lambda pid: watch.note(f"process {pid} builds it; waiting")),
            ):
                if found := _repaired(store, stage, key, is_pure, watch):
                    store.clear_work(stage, key)
                    return _reused(found, watch)
                artifact = _build(store, stage, key, version, is_pure, build, inputs, params, runtime, watch)
            watch.end("Completed", summarise(artifact.metrics))
            return Completed(name="Completed", message=f"{stage}/{key[:12]}", data=artifact)

        run.__name__ = run.__qualname__ = build.__name__
        run.__doc__ = build.__doc__
        run.__signature__ = _signature(signature)  # type: ignore[attr-defined]
        return Step(
            Task(run, name=stage, task_run_name=lambda: _run_name(stage), cache_policy=NO_CACHE, persist_result=False)
        )

    return decorate


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


def _reused(artifact: Artifact, watch: Watch) -> Any:
    watch.end("Reused", f"{artifact.key[:12]}  {summarise(artifact.metrics)}")
    return Completed(name="Reused", message=f"{artifact.stage}/{artifact.key[:12]} was built before", data=artifact)


@contextmanager
def _failure_shown(watch: Watch) -> Iterator[None]:
    try:
        yield
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


def _digests(value: Artifact | Sequence[Artifact]) -> Any:
    return value.digest if isinstance(value, Artifact) else [a.digest for a in value]


def _label(stage: str, params: Params) -> str:
    source = getattr(params, "source", None)
    return f"{stage} {source.name}" if source is not None else stage


def _run_name(stage: str) -> str:
    from prefect.runtime import task_run

    return _label(stage, task_run.parameters["params"])


def _signature(build: inspect.Signature) -> inspect.Signature:
    """The task's signature: `store` for `work`, the same inputs, and the step's own keywords."""
    positional = [p for p in build.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
    keywords = [p for p in build.parameters.values() if p.kind is p.KEYWORD_ONLY and p.name != "report"]
    first = inspect.Parameter("store", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    mode = inspect.Parameter("mode", inspect.Parameter.KEYWORD_ONLY, default="build")
    return inspect.Signature([first, *positional, *keywords, mode])
