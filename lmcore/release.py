"""Stage `release`: is the new model better than the champion on the same held-out text?

Both evaluations say what every held-out document costs, so the two models are compared document by document. A
document that one of them was not scored on, because it may have learnt its text, is left out for both.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from lmcore.config import Params, Runtime
from storage.atomic import write_json
from storage.errors import RunError
from storage.parquet import read_parquet

DRAWS, SEED = 1000, 0  # of the interval of the difference


class ReleaseParams(Params):
    """When a new model takes the champion's place."""

    min_gain: float = Field(
        default=0.0, ge=0, description="Bits per byte by which it must be better on held-out text to be promoted."
    )


class ReleaseRuntime(Runtime):
    """Deciding needs no settings that leave the decision as it is."""


def decide(
    work: Path, evaluation: Path, champion: Path | None, *, subject: dict[str, str], params: ReleaseParams
) -> dict[str, Any]:
    """Leave `release.json` in `work/out`: promoted or refused, with the figures and the reason.

    `champion` is the champion's evaluation on the same corpus, None when there is no champion yet. A model that is
    exactly as good is refused: a change must earn its place. `subject` names what is released by content digests.
    """
    if champion is None:
        new = _headline(evaluation)["bits_per_byte"]
        decision: dict[str, Any] = {
            "promoted": True,
            "reason": f"no champion to compare with: {new:.4f} bits per byte on held-out text",
            "bits_per_byte": new,
            "champion_bits_per_byte": None,
        }
    else:
        decision = _compare(_scores(evaluation), _scores(champion), params.min_gain)
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    write_json(out / "release.json", decision | {"subject": subject})
    return {name: value for name, value in decision.items() if value is not None}


@dataclass(frozen=True)
class _Scores:
    """Bits and bytes of the documents behind an evaluation's headline."""

    ids: NDArray[np.str_]  # (N,)
    bits: NDArray[np.float64]  # (N,)
    n_bytes: NDArray[np.int64]  # (N,)
    left_out: int  # documents that the model was not scored on because it has learnt them


def _compare(new: _Scores, old: _Scores, min_gain: float) -> dict[str, Any]:
    ids, mine, theirs = np.intersect1d(new.ids, old.ids, return_indices=True)
    if not len(ids):
        raise RunError(
            "there is no held-out document that neither the new model nor the champion has learnt",
            "set curate.split as it was when they were trained, or give the recipe another name",
        )
    left_out = len(new.ids) + new.left_out - len(ids)
    bits, champion_bits, n_bytes = new.bits[mine], old.bits[theirs], new.n_bytes[mine]
    figure, champion = (float(some.sum() / n_bytes.sum()) for some in (bits, champion_bits))
    promoted = figure < champion - min_gain
    interval = _interval(champion_bits - bits, n_bytes)

    verdict = f"against the champion's {champion:.4f}" if promoted else f"is not below the champion's {champion:.4f}"
    if min_gain and not promoted:
        verdict += f" less {min_gain:g}"
    gain = champion - figure
    difference = f"{abs(gain):.4f} {'worse' if gain < 0 else 'better'}"
    if interval:
        difference += f", 95 % interval of the gain {interval[0]:+.4f} to {interval[1]:+.4f}"
    without = f" ({left_out} that one of them has learnt left out)" if left_out else ""
    return {
        "promoted": promoted,
        "reason": f"{figure:.4f} bits per byte {verdict} on the same {len(ids):,} held-out documents{without}: "
        f"{difference}",
        "bits_per_byte": figure,
        "champion_bits_per_byte": champion,
        "gain": gain,
        "gain_interval": interval,
        "documents": len(ids),
        "left_out_documents": left_out,
    }


def _interval(gains: NDArray[np.float64], n_bytes: NDArray[np.int64]) -> list[float] | None:
    """95 % interval of the gain in bits per byte, by drawing documents with replacement; None for a single one."""
    if len(gains) < 2:
        return None
    random = np.random.default_rng(SEED)
    figures = np.empty(DRAWS)
    for draw in range(DRAWS):
        rows = random.integers(0, len(gains), len(gains))
        figures[draw] = gains[rows].sum() / n_bytes[rows].sum()
    return [float(figure) for figure in np.percentile(figures, (2.5, 97.5))]


def _scores(evaluation: Path) -> _Scores:
    headline = _headline(evaluation)
    table = read_parquet(evaluation / "documents.parquet")
    table = table.filter(pc.equal(table["split"], headline["split"]))
    ids = np.array(table["record_id"].to_pylist(), dtype=str)
    return _Scores(ids, table["nll_bits"].to_numpy(), table["n_bytes"].to_numpy(), headline["left_out"])


def _headline(evaluation: Path) -> dict[str, Any]:
    path = evaluation / "evaluation.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        split, figure = found["headline"]["split"], float(found["headline"]["bits_per_byte"])
        left_out = int(found["splits"][split].get("left_out_documents", 0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"cannot read {path}: {error}", "run `collect-train verify`, then the recipe again") from error
    return {"split": split, "bits_per_byte": figure, "left_out": left_out}
