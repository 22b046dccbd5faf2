"""What Prefect's user interface shows of a run beside the states of its steps: artifacts, events, log lines.

Prefect only looks on: a server that does not answer costs a line and a moment, never the step's work. Nothing that
is sent holds a secret (storage/redact.py).
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    ArtifactFilterType,
)
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event
from prefect.exceptions import PrefectException, PrefectHTTPStatusError
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Failed
from pydantic import BaseModel

from lmcore.report.words import clean
from storage.errors import CollectTrainError
from storage.redact import blank_secrets, blank_values
from tasks.ui_markdown import escaped, page

UPDATE_SECONDS = 2.0  # between two updates of a progress artifact
REQUEST_SECONDS = 10.0  # how long one call may take
SILENCE_SECONDS = 60.0  # how long a server that did not answer is left alone

_lock = threading.Lock()
_told = False
_silent_until = 0.0
_recipe = ""
_flow_run: UUID | None = None

_log = logging.getLogger("collect-train")  # to Prefect alone: the terminal has its own lines
_log.propagate = False
_log.setLevel(logging.INFO)
_log.addHandler(APILogHandler())


class _Unsaid(logging.Filter):
    """Leaves out the traceback that Prefect's engine logs, at the end of its process, of an error that was told."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], CollectTrainError))


for _name in ("prefect.flow_runs", "prefect.engine"):
    logging.getLogger(_name).addFilter(_Unsaid())


@contextlib.contextmanager
def showing(recipe: str) -> Iterator[None]:
    """Show what happens in the block as this recipe's, in the flow run that enters it, whichever thread tells it."""
    global _recipe, _flow_run
    before = (_recipe, _flow_run)
    _recipe, _flow_run = recipe, this_flow_run()
    try:
        yield
    finally:
        _recipe, _flow_run = before


class ProgressArtifact:
    """The progress artifact of one step: a ring in the graph of the run. Nothing outside a task run."""

    def __init__(self, label: str, tell: Callable[[str], None]) -> None:
        """`tell` gets a line when the server does not answer, once in the life of this process."""
        self._artifact = _Artifact(label, "progress", tell)
        self._next = 0.0

    def update(self, percent: float, note: str) -> None:
        """Show how far the step is; at most every two seconds."""
        now = time.monotonic()
        if TaskRunContext.get() is None or now < self._next:
            return
        self._next = now + UPDATE_SECONDS
        self._artifact.put(percent, note)

    def finish(self, note: str) -> None:
        """Show that the step is done; nothing when it never said how far it was."""
        if self._next:
            self._artifact.put(100.0, note)


class Page:
    """A markdown artifact, one in a run, made by the first `show` and changed in place by the others.

    Its key is the same in every run of the recipe, so that Prefect keeps the runs' pages as versions. Nothing outside
    a flow run.
    """

    def __init__(self, name: str, about: str, tell: Callable[[str], None]) -> None:
        """`about` describes it in lists of artifacts; `tell` gets a line when the server does not answer, as above."""
        self._artifact = _Artifact(name, "markdown", tell, find=True)
        self._about = about
        self._shown = ""

    def show(self, title: str, *parts: str, picture: str = "") -> None:
        """Show a title in plain text, a picture if there is one, and these parts in markdown (tasks/ui_markdown.py)."""
        text = page(f"## {escaped(blank_secrets(title))}", picture, *(blank_secrets(part) for part in parts))
        if this_flow_run() is not None and text != self._shown and self._artifact.put(text, self._about):
            self._shown = text


class _Artifact:
    """An artifact on the server; `find` takes up the one that an earlier attempt at this run has made.

    The client's own methods also send an event each time, an update's with a copy of the data: thousands of them in a
    long training, in the database and on the run's timeline.
    """

    def __init__(
        self, name: str, kind: Literal["progress", "markdown"], tell: Callable[[str], None], *, find: bool = False
    ) -> None:
        self._name, self._kind, self._tell, self._find = name, kind, tell, find
        self._id: str | None = None

    def put(self, data: float | str, description: str = "") -> bool:
        """Make or change it; False when the server did not take it. Prefect takes the description for markdown."""
        return to_prefect(lambda: self._put(data, escaped(blank_secrets(description))), self._tell)

    def _put(self, data: float | str, description: str) -> None:
        client, key = get_client(sync_client=True), artifact_key(_recipe, self._name)
        if self._id is None and self._find:
            self._id = self._made(client, key)
        if self._id is None or not self._changed(client, data, description):
            task = TaskRunContext.get()
            made = ArtifactCreate(
                key=key,
                type=self._kind,
                data=data,
                description=description,
                flow_run_id=this_flow_run(),
                task_run_id=task.task_run.id if task else None,
            )
            answer = client.request("POST", "/artifacts/", json=_json(made), timeout=REQUEST_SECONDS)
            self._id = str(answer.json()["id"])

    def _changed(self, client: SyncPrefectClient, data: float | str, description: str) -> bool:
        """Change it in place; False when it is gone."""
        change = _json(ArtifactUpdate(data=data, description=description))
        try:
            client.request(
                "PATCH", "/artifacts/{id}", path_params={"id": self._id}, json=change, timeout=REQUEST_SECONDS
            )
        except PrefectHTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return False
        return True

    def _made(self, client: SyncPrefectClient, key: str) -> str | None:
        """The artifact of this key that an earlier attempt at this flow run has made."""
        run = this_flow_run()
        assert run is not None
        wanted = ArtifactFilter(
            key=ArtifactFilterKey(any_=[key]),
            type=ArtifactFilterType(any_=[self._kind]),
            flow_run_id=ArtifactFilterFlowRunId(any_=[run]),
        )
        body = {"artifacts": _json(wanted), "limit": 1}
        found = client.request("POST", "/artifacts/filter", json=body, timeout=REQUEST_SECONDS).json()
        return str(found[0]["id"]) if found else None


def _json(model: BaseModel) -> Any:
    return model.model_dump(mode="json", exclude_unset=True)


def failed(error: CollectTrainError, name: str = "Failed") -> State[Any]:
    """The state of a run or a step that ended so, its message in one sentence; its result is the error itself.

    From an error that is raised, Prefect would make a message of its own, from the last lines of the traceback.
    """
    return Failed(name=name, message=clean(blank_secrets(error.sentence)), data=error)


def artifact_key(*names: str) -> str:
    """Names as the key of an artifact: small letters, digits and dashes."""
    kept = ("".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-") for name in names)
    return "-".join(name for name in kept if name)


def emit(event: str, **values: Any) -> None:
    """Send `collect-train.EVENT`, about the recipe, to Prefect's feed and to the timeline of this flow run."""
    if this_flow_run() is None:
        return
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    emit_event(
        f"collect-train.{event}",
        resource={"prefect.resource.id": f"collect-train.recipe.{_recipe}", "prefect.resource.name": _recipe},
        payload=blank_values(finite),
    )


def tell_run(text: str, level: int = logging.INFO) -> None:
    """Put a line into the log that Prefect keeps of this run; nothing outside a run."""
    task, run = TaskRunContext.get(), this_flow_run() or _flow_run
    if run is not None:
        extra = {"flow_run_id": str(run), "task_run_id": str(task.task_run.id) if task else None}
        _log.log(level, "%s", clean(blank_secrets(text)), extra=extra)


def to_prefect(call: Callable[[], None], tell: Callable[[str], None]) -> bool:
    """Make one call to Prefect's API that the run can do without; False when it was not done.

    When it fails the run goes on, `tell` gets one line (the first time only), and for a minute no call is made.
    """
    global _told, _silent_until
    if time.monotonic() < _silent_until:
        return False
    try:
        # Prefect would try five more times over a minute, and the step's work would stand still meanwhile.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            call()
        return True
    except (httpx.HTTPError, PrefectException) as error:
        with _lock:
            _silent_until = time.monotonic() + SILENCE_SECONDS
            first, _told = not _told, True
        if first:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            tell(f"the Prefect server does not answer ({reason}); the work goes on, its page stands still")
        return False


def this_flow_run() -> UUID | None:
    """The flow run that this thread works for."""
    flow, task = FlowRunContext.get(), TaskRunContext.get()
    if flow is not None and flow.flow_run is not None:
        return flow.flow_run.id
    return task.task_run.flow_run_id if task else None
