"""One line of the doctor's table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and how to mend it when it is not well."""

    name: str
    state: State
    told: str
    mend: str = ""

    def __post_init__(self) -> None:
        assert self.mend or self.state == "ok", f"{self.name} says no way to mend it"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def ok(name: str, told: str) -> Finding:
    """All is well."""
    return Finding(name, "ok", told)


def warning(name: str, told: str, mend: str) -> Finding:
    """It works, but not as well as it could, or not for long."""
    return Finding(name, "warning", told, mend)


def failure(name: str, told: str, mend: str) -> Finding:
    """A run would fail."""
    return Finding(name, "failure", told, mend)
