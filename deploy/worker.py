"""`prefect worker start` with a process worker that reports a crash once.

    python -m deploy.worker --pool collect-train [what `prefect worker start` takes]

Prefect's own process worker tells the server twice that a run's process died, half a second apart: once from the
executor that watched it, once from the worker that asked the executor. The automation that schedules a crashed run
again (recovery.py) answers the first; the second then marks the run Crashed that is just about to go on, and nothing
would ever pick it up. Workers of other types are as Prefect has them.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

from prefect.cli import app
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

if TYPE_CHECKING:
    import anyio.abc
    from prefect.client.schemas.objects import FlowRun

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that it replaces the registered type is what this is for

    class Worker(ProcessWorker):
        """Prefect's process worker, registered in its place."""

        type = "process"

        async def run(
            self,
            flow_run: FlowRun,
            configuration: ProcessJobConfiguration,
            task_status: anyio.abc.TaskStatus[int] | None = None,
        ) -> ProcessWorkerResult:
            """Run a flow run's process to its end; what its exit code means the executor has told the server."""
            result = await super().run(flow_run, configuration, task_status)
            return result.model_copy(update={"status_code": 0})


if __name__ == "__main__":
    sys.argv[:1] = ["prefect", "worker", "start"]
    app()
