"""Figures in words, for one line of a summary. Knows no Prefect, so that commands that only look stay quick."""

from __future__ import annotations

from typing import Any

SHOWN_METRICS = 5


def summarise(metrics: dict[str, Any]) -> str:
    """The first few metrics in one line; a reason, where there is one, says more than numbers."""
    if "reason" in metrics:
        return str(metrics["reason"])
    return ", ".join(
        f"{name.replace('_', ' ')} {_shown(value)}" for name, value in list(metrics.items())[:SHOWN_METRICS]
    )


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
