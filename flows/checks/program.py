"""Python, the packages this program needs in the versions it needs, and torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from flows.checks.finding import Finding, failure, ok, warning

DISTRIBUTION = "collect-train"
# Why a version that pip would take is not good enough; the rest of the reasons stand in pyproject.toml.
REASONS = {
    "fastapi": "the Prefect server does not start with it",
    "sqlalchemy": "the Prefect server's schedules never create a run with it",
}


def check_program() -> Iterator[Finding]:
    """Python and platform, every required package, torch."""
    yield _python()
    yield from _packages(importlib.metadata.requires(DISTRIBUTION) or [])
    yield _torch()


def _python() -> Finding:
    wanted = SpecifierSet(importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"] or "")
    version = platform.python_version()
    told = f"{platform.python_implementation()} {version} on {platform.system()} {platform.machine()}, {sys.executable}"
    if not wanted.contains(version, prereleases=True):
        return failure("python", told, f"install Python {wanted}")
    if sys.platform not in ("linux", "darwin"):
        return failure("python", told, "use Linux or macOS: locks and processes work differently elsewhere")
    return ok("python", told)


def _packages(required: list[str]) -> Iterator[Finding]:
    """One line for all packages that are as required, one for each that is not."""
    fit = 0
    for text in required:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield failure(f"package {requirement.name}", "is not installed", f"pip install '{_plain(requirement)}'")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            fit += 1
            continue
        why = f": {REASONS[requirement.name]}" if requirement.name in REASONS else ""
        yield failure(
            f"package {requirement.name}",
            f"is {version}, needed is {requirement.specifier}{why}",
            f"pip install '{_plain(requirement)}'",
        )
    yield ok("packages", f"{fit} required packages fit, Prefect {importlib.metadata.version('prefect')} among them")


def _plain(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}"


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:  # the latter: a library of its that does not load
        return failure("torch", f"does not load: {error}", "install it again: pip install --force-reinstall torch")
    build = "CUDA " + torch.version.cuda if torch.version.cuda else "CPU"
    if getattr(torch.version, "hip", None):
        build = f"ROCm {torch.version.hip}"
    devices = ["cpu"]
    if torch.cuda.is_available():
        found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        devices += [f"cuda:{n} {gpu.name} ({gpu.total_memory / 1e9:.0f} GB)" for n, gpu in enumerate(found)]
    if torch.backends.mps.is_available():
        devices.append("mps")
    told = f"{torch.__version__}, built for {build}; devices: {', '.join(devices)}"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if Path("/proc/driver/nvidia/version").exists() and not torch.cuda.is_available() and hidden not in ("", "-1"):
        return warning(
            "torch",
            f"{told}; there is an NVIDIA driver, but torch cannot use it",
            "install a CUDA build of torch that fits the driver (pytorch.org/get-started)",
        )
    return ok("torch", told)
