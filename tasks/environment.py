"""Facts about the program and the machine that go into the provenance of everything built here."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from storage.errors import UserError

RESOURCES_VARIABLE = "COLLECT_TRAIN_RESOURCES"  # what deploy/launch.py was asked to limit this process to
PACKAGES = ("torch", "numpy", "pyarrow", "tokenizers", "safetensors", "trafilatura", "prefect", "duckdb")


class Resources(BaseModel):
    """What the worker gives a run, as far as no limit of the system says it."""

    processes: int = Field(1, ge=1)  # of a training
    threads: int = Field(0, ge=0)  # of each process; 0: not said
    nodes: int = Field(1, ge=1)
    refused: tuple[str, str] | None = None  # what the machine cannot give, and how to mend it


def resources() -> Resources:
    """The worker's job variables for this run; the defaults where no worker started it.

    Raises UserError for what the machine cannot give, for several nodes, which this version does not train on, and for
    what cannot be read.
    """
    asked = os.environ.get(RESOURCES_VARIABLE, "{}")
    try:
        found = Resources.model_validate_json(asked)
    except ValidationError as error:
        raise UserError(
            f"{RESOURCES_VARIABLE} is {asked!r}: {error.errors()[0]['msg']}", "let deploy/launch.py set it, or unset it"
        ) from error
    if found.refused:
        raise UserError(*found.refused)
    if found.nodes > 1:
        raise UserError(
            f"the job variable nodes is {found.nodes}, but this version trains on one machine",
            "set nodes to 1; the job variable processes shares a training among that machine's cores or GPUs",
        )
    return found


@functools.cache
def environment() -> dict[str, str]:
    """Versions of Python and of the packages that make bytes, the processor, and the resources a worker gave."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    found |= {"python": platform.python_version(), "processor": _processor(), "cpus": str(os.cpu_count())}
    asked = os.environ.get(RESOURCES_VARIABLE)
    return found | ({"resources": asked} if asked else {})


@functools.cache
def code_version() -> dict[str, str]:
    """This program's version, and its commit when it runs from a checkout."""
    found = {"version": importlib.metadata.version("collect-train")}
    root = Path(__file__).resolve().parents[1]
    if (root / ".git").exists():
        answer = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        )
        if answer.returncode == 0:
            found["commit"] = answer.stdout.strip()
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
