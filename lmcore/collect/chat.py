"""Conversations and instructions: rows of JSON in the common shapes, and texts with the tags of the LAi document."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from lmcore.collect.charset import clean, decode
from lmcore.collect.chat_tags import Tagged, tagged
from lmcore.collect.items import Item, Read, read_bytes
from lmcore.collect.json_rows import JsonRow, json_lines, json_objects
from lmcore.collect.params import PathsSource, TextKind
from lmcore.collect.turns import Messages, conversation
from lmcore.collect.unpack import Member
from lmcore.conversation import Template


class ChatSource(PathsSource):
    """Conversations and instructions."""

    kind: Literal["chat"] = Field(default="chat", description="Conversations and instructions.")
    text_kind: TextKind = Field(default="chat", description="What kind of text this is.")
    shape: Literal["auto", "messages", "conversations", "instruction", "prompt", "tags"] = Field(
        default="auto", description="Shape of the rows; auto: what the keys of each row say."
    )
    template: Template = Field(
        default="script",
        description="How a conversation is written: script is 'User: ...', new line, 'Assistant: ...' as in "
        "`collect-train chat`; tags is '<user>...</user><assistant>...</assistant>'.",
    )


class _Bad(ValueError):
    """Why a row is no conversation."""


_ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
}  # fmt: skip


def _messages(row: dict[str, Any]) -> Messages:
    return _listed(row["messages"])


def _conversations(row: dict[str, Any]) -> Messages:
    messages = _listed(row["conversations"] if "conversations" in row else row["conversation"])
    system = row.get("system")
    return [("system", system), *messages] if isinstance(system, str) else messages


def _instruction(row: dict[str, Any]) -> Messages:
    asked = [_text(row["instruction"])]
    about = row.get("input") if row.get("input") is not None else row.get("context")
    asked += [_text(about)] if about is not None else []
    before: Messages = [("system", _text(row["system"]))] if row.get("system") is not None else []
    history = row.get("history") or []
    for pair in history if isinstance(history, list) else [history]:
        if not isinstance(pair, list) or len(pair) != 2:
            raise _Bad("a history that is no list of pairs")
        before += [("user", _text(pair[0])), ("assistant", _text(pair[1]))]
    answer = _text(row["output"] if "output" in row else row["response"])
    return [*before, ("user", "\n\n".join(text for text in asked if text.strip())), ("assistant", answer)]


def _prompt(row: dict[str, Any]) -> Messages:
    asked, answer = row["prompt"], row["completion"] if "completion" in row else row["response"]
    said: Messages = _listed(asked) if isinstance(asked, list) else [("user", _text(asked))]
    return said + (_listed(answer) if isinstance(answer, list) else [("assistant", _text(answer))])


def _tags(row: dict[str, Any]) -> Messages:
    found = [piece for piece in tagged(clean(_text(row["text"]))) if piece.text.strip() or piece.problem]
    bad = [piece.problem for piece in found if piece.problem]
    if bad or len(found) != 1 or not found[0].messages:
        raise _Bad(bad[0] if bad else "not one conversation in tags")
    return found[0].messages


# shape: (keys that a row of it has, one of each group; what reads it)
_SHAPES: dict[str, tuple[tuple[tuple[str, ...], ...], Callable[[dict[str, Any]], Messages]]] = {
    "messages": ((("messages",),), _messages),
    "conversations": ((("conversations", "conversation"),), _conversations),
    "instruction": ((("instruction",), ("output", "response")), _instruction),
    "prompt": ((("prompt",), ("completion", "response")), _prompt),
    "tags": ((("text",),), _tags),
}


def _shape(row: dict[str, Any], params: ChatSource) -> str:
    """The shape of a row; "" when its keys say none that is read."""
    shapes = _SHAPES if params.shape == "auto" else [params.shape]
    return next((name for name in shapes if all(any(k in row for k in keys) for keys in _SHAPES[name][0])), "")


def _read_lines(member: Member, params: ChatSource) -> Iterator[Item]:
    yield from conversations(json_lines(member), params)


def _read_array(member: Member, params: ChatSource) -> Iterator[Item]:
    yield from conversations(json_objects(member), params)


def conversations(rows: Iterator[JsonRow], params: ChatSource) -> Iterator[Item]:
    """The records of rows, whatever file they are from."""
    for number, row, problem in rows:
        shape = "" if problem else _shape(row, params)
        if not shape:
            yield Item(number, problem=problem or "keys of no shape that is read")
            continue
        try:
            yield conversation(number, _SHAPES[shape][1](row), params.template, {"extractor": shape})
        except _Bad as error:
            yield Item(number, problem=str(error))


def _read_text(member: Member, params: ChatSource) -> Iterator[Item]:
    """Lines in tags and lines without, each a record."""
    decoded = decode(read_bytes(member.path), lang=params.lang)
    about = {"charset": decoded.charset, "charset_source": decoded.source}
    for found in tagged(clean(decoded.text)):
        if found.problem:
            yield Item(found.line, problem=found.problem)
        elif found.messages:
            yield conversation(found.line, found.messages, params.template, {"extractor": "tags", **about})
        else:
            yield from _plain(found, about)


def _plain(found: Tagged, about: dict[str, Any]) -> Iterator[Item]:
    for line, text in enumerate(found.text.split("\n"), found.line):
        if text.strip():
            yield Item(line, text.strip(), kind="prose", meta={"extractor": "as is", **about})


def _listed(value: Any) -> Messages:
    """Messages of a list: role and content, or from and value."""
    if not isinstance(value, list) or not value:
        raise _Bad("no list of messages")
    messages = []
    for message in value:
        if not isinstance(message, dict):
            raise _Bad("a message that is no object")
        named = next((message[key] for key in ("role", "from") if key in message), None)
        role = _ROLES.get(named.strip().lower()) if isinstance(named, str) else None
        if role is None:
            raise _Bad("a role that is not known")
        content = next((message[key] for key in ("content", "value", "text") if key in message), None)
        messages.append((role, _text(content)))
    return messages


def _text(value: Any) -> str:
    """The text of a message, also where it is a list of parts. Raises _Bad for one with pictures or tools."""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else []
    if not parts or not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts):
        raise _Bad("a message that is not text")
    return "".join(part["text"] for part in parts)


FORMATS: Mapping[str, Read] = {".jsonl": _read_lines, ".json": _read_array, ".txt": _read_text}
