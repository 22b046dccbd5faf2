"""Facts about the program and the machine that go into the provenance of everything built here."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

RESOURCES_VARIABLE = "COLLECT_TRAIN_RESOURCES"  # what deploy/launch.py was asked to limit this process to
PACKAGES = ("torch", "numpy", "pyarrow", "tokenizers", "safetensors", "trafilatura", "prefect", "duckdb")


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
