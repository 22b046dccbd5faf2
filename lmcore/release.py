"""Stage `release`: is the new model better than the champion on the same held-out text?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pydantic import Field

from lmcore.config import Params, Runtime
from storage.atomic import write_json
from storage.errors import RunError


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

    `champion` is the champion's evaluation on the same held-out text, None when there is no champion yet. A
    model that is exactly as good is refused: a change must earn its place. `subject` names what is released by
    content digests.
    """
    new = _bits_per_byte(evaluation)
    old = None if champion is None else _bits_per_byte(champion)
    if old is None:
        promoted, reason = True, f"no champion to compare with: {new:.4f} bits per byte on held-out text"
    elif new < old - params.min_gain:
        promoted, reason = True, f"{new:.4f} bits per byte against the champion's {old:.4f} on the same held-out text"
    else:
        promoted = False
        needed = f" less {params.min_gain:g}" if params.min_gain else ""
        reason = f"{new:.4f} bits per byte is not below the champion's {old:.4f}{needed} on the same held-out text"
    decision = {"promoted": promoted, "reason": reason, "bits_per_byte": new, "champion_bits_per_byte": old}
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    write_json(out / "release.json", decision | {"subject": subject})
    return {name: value for name, value in decision.items() if value is not None}


def _bits_per_byte(evaluation: Path) -> float:
    path = evaluation / "evaluation.json"
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["headline"]["bits_per_byte"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"cannot read {path}: {error}", "run `collect-train verify`, then the recipe again") from error
