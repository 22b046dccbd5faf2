"""JSON from files that anyone may have made: one value a line, or one value that is the whole file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lmcore.collect.items import read_bytes
from lmcore.collect.unpack import Member, Unreadable

JsonRow = tuple[int, dict[str, Any], str]  # row from 1, its object, and why there is none


def json_lines(member: Member) -> Iterator[JsonRow]:
    """The objects of a file of JSON lines; a line that is none comes with its problem. Raises Unreadable."""
    try:
        with open(member.path, "rb") as file:
            for row, line in enumerate(file, 1):
                line = line.removeprefix(b"\xef\xbb\xbf") if row == 1 else line
                if line.strip():
                    yield (row, *_parsed(line))
    except OSError as error:
        raise Unreadable.of(error) from error


def json_value(member: Member) -> Any:
    """The value that a file is. Raises Unreadable for one that is no JSON in UTF-8, -16 or -32."""
    data = read_bytes(member.path)
    try:
        return json.loads(data)
    except UnicodeDecodeError as error:
        raise Unreadable("damaged", "not UTF-8") from error
    except json.JSONDecodeError as error:
        end = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")
        raise Unreadable("truncated" if end else "damaged", f"not JSON: {error.msg} in line {error.lineno}") from error
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, brackets thousands deep
        raise Unreadable("damaged", "not JSON") from error


def json_objects(member: Member) -> Iterator[JsonRow]:
    """The objects of a file that is one JSON array (or one object), numbered from 1. Raises Unreadable."""
    value = json_value(member)
    for row, entry in enumerate(value if isinstance(value, list) else [value], 1):
        yield (row, entry, "") if isinstance(entry, dict) else (row, {}, "not a JSON object")


def _parsed(line: bytes) -> tuple[dict[str, Any], str]:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return {}, "not UTF-8"
    except (ValueError, RecursionError):
        return {}, "not JSON"
    return (value, "") if isinstance(value, dict) else ({}, "not a JSON object")
