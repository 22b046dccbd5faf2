"""What is wrong with a training, from what it left: the evidence, the likely cause, and the setting to change.

Every rule is one function from `Evidence` to a finding or None; nothing here looks at files. The limits are said beside
the rules, and `docs/train.md` lists them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from lmcore.train.evidence import Evidence
from lmcore.train.journal import STALL_MEDIANS, STALL_SECONDS
from lmcore.train.params import HORIZONS

FLAT, FLAT_STEPS = 0.01, 20  # the loss fell by less than this share, over so many steps
BLOCKS = 20  # that a run is cut into; the median of each is what its steps had
EXPLODED = math.log(2)  # nats: the perplexity has doubled since it was lowest
FORGOTTEN = 1.10  # validation bits per byte against their lowest
ONLY_BYTES = 1.2  # bytes a token
UNIQUE = 0.10  # LAi's bound for repeated text
FEW_TOKENS = 1.0  # tokens seen for each parameter; 20 are usual (Hoffmann et al. 2022)
STILL_FALLING = 0.01  # share that the loss still fell by between the last two fifths
SLOW = 1.5  # times the step that the probe measured


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    problem: str
    evidence: str
    cause: str
    change: str

    def lines(self) -> list[str]:
        """For people."""
        return [f"{self.problem}: {self.evidence}", f"  cause:  {self.cause}", f"  change: {self.change}"]

    def to_json(self) -> dict[str, str]:
        """Plain JSON."""
        return asdict(self)


def diagnose(evidence: Evidence) -> list[Finding]:
    """Everything that is wrong, the gravest first; nothing when all is well."""
    return [finding for rule in RULES if (finding := rule(evidence))]


def _not_finite(e: Evidence) -> Finding | None:
    if not e.skipped:
        return None
    first, n = min(e.skipped), len(e.skipped)
    return Finding(
        "NaN",
        f"{n} of {max(len(e.steps), n)} steps were skipped for numbers that are not finite, the first at step {first}",
        "the learning rate is too high for this shape, or the number format too narrow",
        _advice(
            e,
            *_rates(e, 0.5),
            ("train.grad_clip", 1.0),
            ("train.on_nan", "lower"),
            *([("train.precision", "fp32")] if e.plan.get("precision") != "fp32" else []),
        ),
    )


def _stall(e: Evidence) -> Finding | None:
    if not e.seconds:
        return None
    limit = max(STALL_SECONDS, STALL_MEDIANS * median(e.seconds))
    slowest = max(e.slowest or 0.0, *e.seconds)
    silent = e.silent_seconds or 0.0
    if max(slowest, silent) <= limit:
        return None
    what = f"one step took {slowest:,.0f} s" if slowest > limit else f"nothing was heard for {silent:,.0f} s"
    return Finding(
        "stall",
        f"{what}; a step takes {median(e.seconds):.2f} s, and {limit:,.0f} s is the limit",
        "the machine slept, swapped or gave its cores away, or the process hangs (its stacks are in train.log)",
        "run it again: it goes on from its checkpoint; runtime.train.threads or train.micro_batch lower if memory is "
        "short",
    )


def _flat(e: Evidence) -> Finding | None:
    finite = _finite(e)
    if len(e.steps) == 0 or e.steps[-1] < FLAT_STEPS or len(finite) < 3:
        return None
    tenth = max(1, len(finite) // 10)
    first, last = fmean(finite[:tenth]), fmean(finite[-tenth:])
    if first - last >= FLAT * first:
        return None
    return Finding(
        "flat loss",
        f"{first:.3f} nats a token at the beginning, {last:.3f} after {e.steps[-1]:,} steps",
        "the learning rate is so low that nothing is learnt, or so high that nothing holds; or the start knew it all",
        f"{_advice(e, *_rates(e, 10.0))} (ten times as much); if that is no better, a tenth"
        if last < (1 + FLAT) * first
        else f"{_advice(e, *_rates(e, 0.1))} (a tenth)",
    )


def _exploded(e: Evidence) -> Finding | None:
    finite = _finite(e)
    if len(finite) >= FLAT_STEPS:
        width = -(-len(finite) // BLOCKS)
        smooth = [median(finite[end - width : end]) for end in range(len(finite), width - 1, -width)]
        low, last = min(smooth), smooth[0]
        if last - low > EXPLODED:
            return Finding(
                "exploding perplexity",
                f"it was {_exp(low)} and ended at {_exp(last)}",
                "single steps were too large: the learning rate, or a batch of text that is unlike the rest",
                _advice(e, *_rates(e, 0.5), ("train.on_spike", "rewind"), ("train.grad_clip", 1.0)),
            )
    bits = [bits for _, bits in e.looks]
    if len(bits) >= 3 and bits[-1] > FORGOTTEN * min(bits):
        return Finding(
            "exploding perplexity",
            f"on held-out text {min(bits):.3f} bits per byte at step {e.looks[bits.index(min(bits))][0]:,}, "
            f"{bits[-1]:.3f} at the end, while the training loss fell",
            "the model learns its text by heart: too many passes over too little",
            _advice(e, ("train.early_stop", {"patience": 3}), ("model.dropout", 0.1), _budget(e, 0.5), "more text"),
        )
    return None


def _same_samples(e: Evidence) -> Finding | None:
    by_step: dict[int, list[tuple[str, str]]] = {}
    for step, prompt, text in e.samples:
        if step:
            by_step.setdefault(step, []).append((prompt, text))
    steps = sorted(by_step)
    for before, after in pairwise(steps):
        if by_step[before] == by_step[after]:
            prompt, text = by_step[after][0]
            return Finding(
                "identical samples",
                f"{prompt!r} was continued with {text[:40]!r} at step {before:,} and again at step {after:,}",
                "the weights hardly change, or the model says one thing whatever it is asked",
                f"{_advice(e, *_rates(e, 10.0))}; if the loss is near zero, more and other text",
            )
    return None


def _bytes_only(e: Evidence) -> Finding | None:
    only = e.longest_token is not None and e.longest_token <= 1
    per_token = e.bytes_per_token
    if not only and (per_token is None or per_token >= ONLY_BYTES):
        return None
    return Finding(
        "vocabulary of only bytes",
        "no token is longer than a byte" if only else f"a token stands for {per_token:.2f} bytes of the training text",
        "too little text for merges, or a vocabulary learnt on another language",
        "tokenizer.vocab_size higher and tokenizer.min_frequency lower, tokenizer.weights for small languages; "
        "with an imported model one that knows the language",
    )


def _repeated(e: Evidence) -> Finding | None:
    if e.unique is None or e.unique >= UNIQUE:
        return None
    return Finding(
        "uniqueness under 10 %",
        f"{e.unique:.1%} of the training text's sequences of 16 tokens are not repetitions",
        "templates, or the same lines over and over",
        "curate (exact and near duplicates, curate.rules), and other sources: more of the same teaches nothing",
    )


def _undertrained(e: Evidence) -> Finding | None:
    finite = _finite(e)
    fifth = len(finite) // 5
    if e.started:
        return None  # what the start has seen counts too, and nobody knows it
    if not e.parameters or fifth < 2 or e.tokens >= FEW_TOKENS * e.parameters or e.silent_seconds is not None:
        return None
    before, last = fmean(finite[-2 * fifth : -fifth]), fmean(finite[-fifth:])
    if before - last < STILL_FALLING * before:
        return None
    return Finding(
        "undertrained",
        f"{e.tokens / e.parameters:.2f} tokens for each of {e.parameters:,} parameters, and the loss still fell from "
        f"{before:.3f} to {last:.3f} in the last fifth",
        "the budget is too small for the model, or the model too large for the budget",
        _advice(
            e,
            _budget(e, math.ceil(FEW_TOKENS * e.parameters / max(1, e.tokens))),
            "the shape that `collect-train autosize --minutes N` proposes",
        ),
    )


def _slow(e: Evidence) -> Finding | None:
    probed = e.plan.get("step_seconds") or 0.0
    if not probed or len(e.seconds) < 5:
        return None
    usual = median(e.seconds)
    if usual <= SLOW * probed:
        return None
    return Finding(
        "throughput under the probe",
        f"a step took {usual:.3f} s, {usual / probed:.1f} times the {probed:.3f} s that the probe measured",
        "other programs use the cores, the processor got hot, memory is swapped, or the optimizer is a large part",
        "runtime.train.threads to the cores that are free, or run it when the machine is quiet",
    )


RULES: tuple[Callable[[Evidence], Finding | None], ...] = (
    _not_finite, _stall, _exploded, _flat, _same_samples, _bytes_only, _repeated, _undertrained, _slow,
)  # fmt: skip


def _finite(e: Evidence) -> list[float]:
    return [loss for loss in e.losses if math.isfinite(loss)]


def _exp(nats: float) -> str:
    return f"{math.exp(nats):,.1f}" if nats < 50 else f"e^{nats:.0f}"


Change = tuple[str, Any] | str  # a setting and the value to give it, or words


def _rates(e: Evidence, factor: float) -> list[Change]:
    """The learning rates that the run's optimizer has, times `factor`."""
    names = ["lr", "muon_lr"] if e.settings.get("optimizer") == "muon" and not e.settings.get("lora") else ["lr"]
    known = [(f"train.{name}", float(f"{factor * e.settings[name]:.3g}")) for name in names if name in e.settings]
    return [*known] or [f"train.lr and train.muon_lr times {factor:g}"]  # a run of the time before settings were kept


def _budget(e: Evidence, factor: float) -> Change:
    """The run's budget times `factor`, by the setting that gave it."""
    for name in HORIZONS:
        if (had := e.settings.get(name)) is not None:
            wanted = factor * had
            return f"train.{name}", max(1, math.ceil(wanted)) if isinstance(had, int) else float(f"{wanted:.3g}")
    return f"a budget {factor:.2g} times as large"


def _advice(e: Evidence, *changes: Change) -> str:
    """Settings with the values to give them, and words, joined; left out is what the run had set so already."""
    told = []
    for change in changes:
        if isinstance(change, str):
            told.append(change)
        elif not _has(_setting(e, change[0]), change[1]):
            told.append(f"{change[0]}: {_yaml(change[1])}")
    return " or ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)


def _setting(e: Evidence, name: str) -> Any:
    section, _, key = name.partition(".")
    values = e.settings if section == "train" else e.settings.get(section, {})
    return values.get(key)


def _has(value: Any, wanted: Any) -> bool:
    """Whether a setting is as wanted, in all that is said of it."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(_has(value.get(key), wanted[key]) for key in wanted)
    return bool(value == wanted)


def _yaml(value: Any) -> str:
    """A value as a recipe, or `--set`, has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(one)}" for key, one in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)
