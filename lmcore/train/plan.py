"""What this machine does best, settled once per run in `work/plan.json` before the first step.

Number format, attention kernel, threads, micro-batch and compilation change rounding and speed, not what is learnt.
A probe of a few seconds chooses those that the recipe leaves open; every resume reads the file and never probes
again, so a resumed run rounds as the first one did.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError

from lmcore.config import Settings
from lmcore.models.network import Network
from lmcore.tokens import TokenBatch
from lmcore.train import fitting, machine
from lmcore.train.optim import trainable
from lmcore.train.params import TrainParams, TrainRuntime
from storage.errors import RunError, UserError

Device = Literal["cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

HALF_GAIN = 1.3  # a half format must win a product by this factor: it rounds more, and casts and norms gain nothing
PLAIN_CONTEXT = 512  # on a CPU in bf16 two products and a softmax beat SDPA up to here (1.4 to 5 times, docs/train.md)
PLAIN_CONTEXT_WIDE = 1024  # and up to here when a head is at least 64 wide
MEMORY_SHARE = 0.5  # of the free memory, for a micro-batch that the probe chooses
COMPILE_MIN_SECONDS = 600.0  # torch.compile takes 20 to 65 s on two cores to win 8 to 30 % (docs/train.md)


class Plan(Settings):
    """How a run computes. Equal plans on equal processors and torch versions give equal bits."""

    format: Literal[1] = 1
    device: Device
    processes: int = 1  # that share every step
    threads: int  # of each process
    precision: Precision
    attention: Literal["plain", "sdpa"]
    micro_batch: int
    activation_checkpointing: bool = False
    compile: bool
    allocator: str
    processor: str
    torch_version: str
    gflops: dict[Precision, float]  # best product in each format: the peak that utilisation is a share of
    step_seconds: float  # forward and backward of one optimizer step, as probed
    reasons: dict[str, str]  # why each choice was made, in a few words

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the activations."""
        return DTYPES[self.precision]

    @property
    def peak(self) -> float:
        """Operations a second of all processes together, at best: what utilisation is a share of."""
        return self.gflops[self.precision] * 1e9 * self.processes

    def lines(self) -> list[str]:
        """The plan for people, one choice a line."""
        chosen = {
            "device": f"{self.device} ({self.processor})",
            **({"processes": str(self.processes)} if self.processes > 1 else {}),
            "threads": str(self.threads),
            "precision": self.precision,
            "attention": self.attention,
            "micro-batch": f"{self.micro_batch} sequences",
            **({"activations": "made anew in the backward pass"} if self.activation_checkpointing else {}),
            "compile": "on" if self.compile else "off",
            "allocator": self.allocator,
        }
        width = max(len(value) for value in chosen.values())
        return [f"  {name:12}{value:{width}}  {self.reasons.get(name, '')}".rstrip() for name, value in chosen.items()]


def load(path: Path) -> Plan | None:
    """The plan of an earlier process, None before the first. Raises RunError when the file is not a plan."""
    if not path.exists():
        return None
    try:
        plan = Plan.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise RunError(
            f"{path} is not a training plan: {error.errors()[0]['msg']}",
            f"remove {path.parent}: training starts afresh",
        ) from error
    if plan.device not in machine.devices():
        raise RunError(
            f"{path} says device {plan.device}, which this machine does not have",
            f"resume where it was started, or remove {path.parent} to start afresh here",
        )
    return plan


def apply(plan: Plan, model: Network) -> None:
    """Make this process and `model` compute as the plan says."""
    torch.set_num_threads(plan.threads)
    if plan.device == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for what stays in fp32
    model.to(plan.device)
    model.stream_dtype = plan.dtype
    model.attention = plan.attention
    model.recompute = plan.activation_checkpointing


def probe(
    model: Network,
    batch: TokenBatch,
    params: TrainParams,
    runtime: TrainRuntime,
    *,
    allocator: str,
    run_seconds: Callable[[float], float],
    processes: int = 1,
) -> Plan:
    """Choose what the settings leave open by timing it here, in a few seconds, on `batch`.

    With several processes `batch` is this one's share, and each times its own at the same time, so that the machine is
    as busy as it will be. `run_seconds` gives the length of the whole run when a step takes so long. `model` keeps its
    weights; its device, number format and attention are left as planned.
    """
    reasons: dict[str, str] = {}
    device = _choose_device(runtime.device, reasons)
    if params.precision == "fp16" and device != "cuda":
        raise UserError(
            f"train.precision is fp16, which is for CUDA, and this run is on {device}",
            "set train.precision to auto, bf16 or fp32",
        )
    threads = _choose_threads(runtime.threads, processes, reasons)
    torch.set_num_threads(threads)
    gflops = _peaks(device, params.precision)
    precision = _choose_precision(params.precision, gflops, reasons)
    head_width, context = model.config.head_width, model.config.context
    attention = _choose_attention(params.attention, device, precision, context, head_width, reasons)
    plan = Plan(
        device=device,
        processes=processes,
        threads=threads,
        precision=precision,
        attention=attention,
        micro_batch=params.micro_batch or params.batch,
        compile=False,
        allocator=allocator,
        processor=machine.processor(device),
        torch_version=torch.__version__,
        gflops=gflops,
        step_seconds=0.0,
        reasons={},
    )
    apply(plan, model)
    free = _free(device, processes)
    model.recompute = _choose_recompute(model, params, runtime, free, reasons)
    micro_batch, step_seconds = fitting.choose_micro_batch(
        model, batch, params, device, reasons, needs=lambda size: _memory(model, params, size), free=free
    )
    if params.packing == "texts" and runtime.compile != "off":  # a kernel is made for one length
        compiled, reasons["compile"] = False, "rows of packing texts have several lengths"
    else:
        compiled = _choose_compile(runtime.compile, device, precision, run_seconds(step_seconds), reasons)
    return plan.model_copy(
        update={
            "micro_batch": micro_batch,
            "activation_checkpointing": model.recompute,
            "step_seconds": round(step_seconds, 6),
            "compile": compiled,
            "reasons": reasons,
        }
    )


def for_processes(plan: Plan, processes: int, runtime: TrainRuntime) -> Plan:
    """The plan of a run that goes on in another number of processes: their threads change, and how the sums round."""
    reasons = dict(plan.reasons)
    threads = _choose_threads(runtime.threads, processes, reasons)
    return plan.model_copy(update={"processes": processes, "threads": threads, "reasons": reasons})


def suggested(model: Network, params: TrainParams, processes: int) -> int:
    """Sequences of the largest micro-batch, a power of two, that the probe would let fit into what is free now.

    `model` computes as it was planned to. 0 when one sequence needs more than that.
    """
    free = _free(next(model.parameters()).device.type, processes)
    powers = [2**n for n in range(params.batch.bit_length())]
    return max((size for size in powers if _memory(model, params, size) <= free), default=0)


def _choose_device(wanted: str, reasons: dict[str, str]) -> Device:
    found = machine.devices()
    if wanted == "auto":
        reasons["device"] = f"the first of {', '.join(found)} here"
        return found[0]
    for device in found:
        if device == wanted:
            reasons["device"] = "as set"
            return device
    raise UserError(
        f"runtime.train.device is {wanted}, which this machine does not have (it has {', '.join(found)})",
        "set it to auto or to one of those",
    )


def _choose_threads(wanted: int, processes: int, reasons: dict[str, str]) -> int:
    if wanted:
        reasons["threads"] = "as set"
        return wanted
    usable, physical = machine.usable_cores(), machine.physical_cores()
    told = os.environ.get("OMP_NUM_THREADS", "")
    if processes > 1:
        reasons["threads"] = f"{physical} cores for {processes} processes"
        share = max(1, physical // processes)
        return min(int(told), share) if told.isdigit() and int(told) else share
    if told.isdigit() and int(told):
        reasons["threads"] = "OMP_NUM_THREADS"
        return int(told)
    if usable == physical:
        reasons["threads"] = "every core this process may use"
        return usable
    speed = {}
    for threads in (physical, usable):
        torch.set_num_threads(threads)
        speed[threads] = machine.product_gflops("cpu", [torch.float32])[0]
    best = max(speed, key=lambda threads: speed[threads])
    reasons["threads"] = ", ".join(f"{threads}: {gflops:.0f} GFLOP/s" for threads, gflops in speed.items())
    return best


def _peaks(device: Device, wanted: Literal["auto"] | Precision) -> dict[Precision, float]:
    formats = _timed(device, machine.has_bf16(device)) if wanted == "auto" else [wanted]
    peaks = machine.product_gflops(device, [DTYPES[name] for name in formats])
    return {name: round(peak, 1) for name, peak in zip(formats, peaks, strict=True)}


def _timed(device: Device, has_bf16: bool) -> list[Precision]:
    """The formats that auto chooses from. fp16, which wants a loss scale, takes the place of a missing bf16."""
    return ["fp32", "fp16"] if device == "cuda" and not has_bf16 else ["fp32", "bf16"]


def _choose_precision(
    wanted: Literal["auto"] | Precision, gflops: dict[Precision, float], reasons: dict[str, str]
) -> Precision:
    measured = "products: " + ", ".join(f"{speed:.0f} GFLOP/s in {name}" for name, speed in gflops.items())
    if wanted == "auto":
        half: Precision = "fp16" if "fp16" in gflops else "bf16"
        reasons["precision"] = f"{measured}; no bf16 here" if half == "fp16" else measured
        return half if gflops[half] >= HALF_GAIN * gflops["fp32"] else "fp32"
    reasons["precision"] = f"as set; {measured}"
    return wanted


def _choose_attention(
    wanted: str, device: Device, precision: Precision, context: int, head_width: int, reasons: dict[str, str]
) -> Literal["plain", "sdpa"]:
    if wanted != "auto":
        reasons["attention"] = "as set"
        return "plain" if wanted == "plain" else "sdpa"
    longest = PLAIN_CONTEXT_WIDE if head_width >= 64 else PLAIN_CONTEXT
    if device == "cpu" and precision == "bf16" and context <= longest:
        reasons["attention"] = f"faster in bf16 on a CPU up to a context of {longest}"
        return "plain"
    reasons["attention"] = f"faster on {device} in {precision} at a context of {context}"
    return "sdpa"


def _free(device: str, processes: int) -> float:
    """Bytes that the activations of one process may take."""
    return machine.free_memory(device) * MEMORY_SHARE / (1 if device == "cuda" else processes)


def _choose_recompute(
    model: Network, params: TrainParams, runtime: TrainRuntime, free: float, reasons: dict[str, str]
) -> bool:
    needs = _memory(model, params, 1)
    if runtime.activation_checkpointing == "auto" and needs > free:
        reasons["activations"] = f"one sequence would need {needs / 2**20:,.0f} MiB, over half of what is free"
        return True
    if runtime.activation_checkpointing == "on":
        reasons["activations"] = "as set"
    return runtime.activation_checkpointing == "on"


def _memory(model: Network, params: TrainParams, size: int) -> int:
    return model.ledger().training_memory(
        size,
        optimizer=params.optimizer,
        stream_dtype=model.stream_dtype,
        attention=model.attention,
        recompute=model.recompute,
        adapters=sum(p.numel() for p in trainable(model).values()) if params.lora else None,
    )["total"]


def _choose_compile(wanted: str, device: Device, precision: Precision, seconds: float, reasons: dict[str, str]) -> bool:
    if wanted == "off":
        reasons["compile"] = "as set"
    elif device == "mps":
        reasons["compile"] = "not on mps"
    elif device == "cpu" and precision == "fp32":
        reasons["compile"] = "wins nothing in fp32 on a CPU"
    elif device == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
        reasons["compile"] = "no C++ compiler here"
    elif seconds < COMPILE_MIN_SECONDS:
        reasons["compile"] = f"about {seconds:.0f} s of training are too few to win back its start"
    else:
        reasons["compile"] = f"about {seconds:.0f} s of training win back its start"
        return True
    return False
