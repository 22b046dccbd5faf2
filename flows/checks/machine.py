"""What this process may use of the machine: cores, threads, how fast it multiplies, memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil

from flows.checks.finding import Finding, failure, ok, warning
from flows.estimate import Needs
from flows.look import human_bytes
from lmcore.train import TORCH_BYTES

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
NARROW = 0.8  # share of the free memory from which a training is in danger


def measure_precision() -> tuple[dict[str, float], str]:
    """GFLOP/s of a product in fp32 and bf16 on the CPU, and the format that training would choose by them."""
    import torch

    from lmcore.train.machine import product_gflops
    from lmcore.train.plan import HALF_GAIN

    fp32, bf16 = product_gflops("cpu", [torch.float32, torch.bfloat16], rounds=2)
    return {"fp32": fp32, "bf16": bf16}, "bf16" if bf16 >= HALF_GAIN * fp32 else "fp32"


def training_device(wanted: str) -> str | None:
    """The device that training would take, None when this machine does not have the one wanted."""
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(device for device, there in here.items() if there)
    return wanted if here[wanted] else None


def check_machine(speeds: dict[str, float], chosen: str, wanted: str, needed: Needs | None) -> Iterator[Finding]:
    """Cores, thread settings, speed of bf16, and memory of the `wanted` device against what the recipe needs."""
    yield _cores()
    gain = speeds["bf16"] / speeds["fp32"]
    yield ok(
        "precision",
        f"bf16 multiplies {gain:.1f} times as fast as fp32 ({speeds['bf16']:,.0f} and {speeds['fp32']:,.0f} GFLOP/s): "
        f"training on the CPU would take {chosen}",
    )
    device = training_device(wanted)
    if device is None:
        told = f"runtime.train.device is {wanted}, which torch does not have here"
        yield failure("device", told, "set it to auto, or install a build of torch for it")
    yield _memory(needed, on_cpu=device in ("cpu", "mps"))
    if device == "cuda":
        yield _gpu_memory(needed)


def _cores() -> Finding:
    from lmcore.train.machine import physical_cores, usable_cores

    usable, there = usable_cores(), os.cpu_count() or 1
    told = f"{usable} of {there} may be used ({physical_cores()} physical)"
    given = {name: os.environ[name] for name in THREAD_VARIABLES if os.environ.get(name)}
    if given:
        told += ", " + ", ".join(f"{name}={value}" for name, value in given.items())
    if hasattr(os, "getloadavg"):
        told += f", load {os.getloadavg()[0]:.1f}"
    wrong = [name for name, value in given.items() if not value.isdigit() or int(value) > usable]
    if wrong:
        return warning(
            "cores",
            told,
            f"unset {wrong[0]}, or set it to at most {usable}: more threads than cores stand in each other's way",
        )
    return ok("cores", told)


def _memory(needed: Needs | None, *, on_cpu: bool) -> Finding:
    from lmcore.train.machine import free_memory

    free, whole = free_memory("cpu"), psutil.virtual_memory().total
    told = f"{human_bytes(free)} free of {human_bytes(whole)}"
    if free < psutil.virtual_memory().available:
        told += " (a container's limit)"
    return _against(needed if on_cpu else None, "memory", told, free)


def _gpu_memory(needed: Needs | None) -> Finding:
    import torch

    free, whole = torch.cuda.mem_get_info()
    return _against(needed, "GPU memory", f"{human_bytes(free)} free of {human_bytes(whole)}", free)


def _against(needed: Needs | None, name: str, told: str, free: int) -> Finding:
    """The memory there is, against what training needs."""
    if needed is None:
        return ok(name, told)
    least, whole_batch = (TORCH_BYTES + memory["total"] for memory in (needed.least_memory, needed.memory))
    told += f"; training needs about {human_bytes(least)}"
    if whole_batch > least:
        told += f", {human_bytes(whole_batch)} to pass a whole batch at once"
    mend = "make the model, its context or train.batch smaller, or free memory"
    if least > free:
        return failure(name, told, mend)
    return warning(name, told, mend) if least > NARROW * free else ok(name, told)
