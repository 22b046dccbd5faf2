"""The least a corpus must have before a model is trained on it. All gates are looked at, then all failures told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import Field

from lmcore.config import Params, added_later
from storage.errors import RunError


class GatesParams(Params):
    """Limits a finished corpus is held to; 0 (or none) switches one off."""

    min_documents: int = Field(default=50, ge=0, description="Fewest documents kept, over all splits.")
    min_train_bytes: int = Field(default=100_000, ge=0, description="Fewest UTF-8 bytes of training text.")
    min_val_documents: int = Field(default=1, ge=0, description="Fewest validation documents.")
    min_test_documents: int = Field(default=1, ge=0, description="Fewest test documents.")
    min_unique_word_ratio: float = Field(
        default=0.05, ge=0, le=1, description="Lowest median, over documents kept, of different words / words."
    )
    max_dropped_share: float | None = Field(
        default=None, ge=0, le=1, description="Highest share of records dropped by rules and as duplicates."
    )
    min_sentences: int | None = added_later(
        None, ge=0, description="Fewest sentences of training text, those of curation's signal `n_sentences`."
    )
    min_mean_sentence_chars: float | None = added_later(
        None, ge=0, description="Fewest characters of training text for each of its sentences."
    )


@dataclass(frozen=True)
class Gate:
    """One gate as it stands in stats.json."""

    name: str
    value: float
    limit: float
    passed: bool

    def to_json(self) -> dict[str, Any]:
        """As a row of stats.json."""
        return asdict(self)


def check_gates(params: GatesParams, values: Mapping[str, float]) -> list[Gate]:
    """Every gate that has a limit, in the order of GatesParams. `values` holds one measured value a gate."""
    gates = []
    for name in GatesParams.model_fields:
        limit = getattr(params, name)
        if limit is not None:
            value = values[name]
            gates.append(Gate(name, value, limit, value >= limit if name.startswith("min_") else value <= limit))
    return gates


def require(gates: Sequence[Gate], drops: Mapping[str, int], records: int, asked: str) -> None:
    """Raise one RunError that tells every failed gate, with value and limit; nothing when all passed.

    `drops` counts the records each rule dropped out of `records`; `asked` is the command that tells why each went.
    """
    failed = [gate for gate in gates if not gate.passed]
    if not failed:
        return
    told = "; ".join(f"{gate.name} is {_number(gate.value)}, the limit is {_number(gate.limit)}" for gate in failed)
    mends = ["collect more pages or sources"]
    if any(gate.name in ("min_val_documents", "min_test_documents") for gate in failed):
        mends.append("hold out a larger share (curate.split.val, curate.split.test)")
    worst = max(drops, key=lambda rule: (drops[rule], rule), default=None)
    if worst is not None and drops[worst]:
        mends.append(f"look at what dropped most ({worst}: {drops[worst]:,} of {records:,} records)")
    mends.append(f"or accept this corpus by changing {', '.join(f'curate.gates.{gate.name}' for gate in failed)}")
    what = "gate" if len(failed) == 1 else "gates"
    raise RunError(
        f"the curated corpus fails {len(failed)} data {what}: {told}",
        f"{', '.join(mends)}; why each text went: {asked}",
    )


def _number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.4g}"
