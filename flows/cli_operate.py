"""Commands for whoever runs the pipeline day by day: up, logs, watch, doctor, gc, forget."""

from __future__ import annotations

from flows.app import app

__all__ = ["app"]
