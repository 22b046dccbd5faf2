"""The two kinds of settings a stage has, and the one rule that keeps them apart.

`Params` can change the bytes a stage leaves and are part of its key; `Runtime` (workers, threads, device,
cadence of logs and checkpoints) cannot and never is. A field is in exactly one of the two.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic import Field as _Field
from pydantic.fields import FieldInfo


class Settings(BaseModel):
    """Strict and frozen: an unknown key or a wrong type is an error, never a guess."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class Params(Settings):
    """Settings that can change a stage's bytes."""

    def key_values(self) -> dict[str, Any]:
        """The resolved values that enter the key, as plain JSON.

        A field declared with `added_later` is left out while it is at its default, so that giving a stage a
        new option does not rename everything that was built before the option existed.
        """
        return _key_values(self)


class Runtime(Settings):
    """Settings that cannot change a stage's bytes."""


def added_later(default: Any, **kwargs: Any) -> Any:
    """A Params field added after artifacts existed, whose default keeps the old behaviour."""
    return _Field(default, json_schema_extra={"added_later": True}, **kwargs)


def _key_values(model: BaseModel) -> dict[str, Any]:
    plain = model.model_dump(mode="json")
    values: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if _is_later(field) and value == field.get_default(call_default_factory=True):
            continue
        if isinstance(value, BaseModel):
            values[name] = _key_values(value)
        elif isinstance(value, (list, tuple)) and any(isinstance(item, BaseModel) for item in value):
            values[name] = [_key_values(item) if isinstance(item, BaseModel) else item for item in value]
        else:
            values[name] = plain[name]
    return values


def _is_later(field: FieldInfo) -> bool:
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("added_later"))
