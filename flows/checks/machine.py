"""What this process may use of the machine: cores, threads, how fast it multiplies, memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil

from flows.checks.finding import Finding, failure, ok, warning
from flows.estimate import TORCH_BYTES, Needs
from flows.look import human_bytes

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
NARROW = 0.8  # share of the free memory from which a training is in danger


def measure_precision() -> tuple[dict[str, float], str]:
    """GFLOP/s of a product in fp32 and bf16 on the CPU, and the format that training would choose by them."""
    import torch

    from lmcore.train.machine import product_gflops
    from lmcore.train.plan import BF16_GAIN

    fp32, bf16 = product_gflops("cpu", [torch.float32, torch.bfloat16], rounds=2)
    return {"fp32": fp32, "bf16": bf16}, "bf16" if bf16 >= BF16_GAIN * fp32 else "fp32"


def check_machine(speeds: dict[str, float], chosen: str, needed: Needs | None) -> Iterator[Finding]:
    """Cores, thread settings, speed of bf16, and memory against what the recipe needs."""
    yield _cores()
    gain = speeds["bf16"] / speeds["fp32"]
    yield ok(
        "precision",
        f"bf16 multiplies {gain:.1f} times as fast as fp32 ({speeds['bf16']:,.0f} and {speeds['fp32']:,.0f} GFLOP/s): "
        f"training on the CPU would take {chosen}",
    )
    yield _memory(needed)


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


def _memory(needed: Needs | None) -> Finding:
    from lmcore.train.machine import free_memory

    free, whole = free_memory("cpu"), psutil.virtual_memory().total
    told = f"{human_bytes(free)} free of {human_bytes(whole)}"
    if free < psutil.virtual_memory().available:
        told += " (a container's limit)"
    if needed is None:
        return ok("memory", told)
    least, whole_batch = (TORCH_BYTES + memory["total"] for memory in (needed.least_memory, needed.memory))
    told += f"; training needs about {human_bytes(least)}"
    if whole_batch > least:
        told += f", {human_bytes(whole_batch)} to pass a whole batch at once"
    mend = "make the model, its context or train.batch smaller, or free memory"
    if least > free:
        return failure("memory", told, mend)
    return warning("memory", told, mend) if least > NARROW * free else ok("memory", told)
