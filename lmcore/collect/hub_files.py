"""Which files of a repository on the Hub are a split of a configuration: by the card's YAML, else by their names.

Sources: huggingface.co/docs/hub/datasets-manual-configuration, .../datasets-file-names-and-splits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from lmcore.collect.hub_rows import SUFFIXES
from lmcore.collect.unpack import plain_name
from storage.errors import UserError

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SHARD = re.compile(r"(?:^|/)([\w.]+)-\d{5}-of-\d{5}[^/]*$")
_NO_DATA = frozenset({"dataset_infos.json", "dataset_info.json", "config.json", "requirements.txt"})
_TOLD = 12  # names in an error message


def split_files(dataset: str, names: Sequence[str], card: Any, config: str, split: str) -> list[str]:
    """The files in their order. Raises UserError that says what there is when there is no such thing."""
    data = sorted(name for name in names if _is_data(name))
    configs = _configs(card)
    if not configs:
        if config:
            inside = [name for name in data if config in PurePosixPath(name).parts[:-1]]
            if not inside:
                raise UserError(
                    f"{dataset} has no configuration {config!r}: there is no folder of that name with data in it",
                    "leave `config` out, or look at the data set's page; where a script makes the data, set "
                    "`revision: refs/convert/parquet`",
                )
            data = inside
        splits = _by_name(data)
    else:
        chosen = _chosen(dataset, configs, config)
        folder = str(chosen.get("data_dir") or "").strip("./")
        data = [name for name in data if name.startswith(f"{folder}/")] if folder else data
        splits = _by_card(chosen["data_files"], data, folder) if chosen.get("data_files") else _by_name(data)
    if not splits.get(split):
        there = [name for name, files in splits.items() if files]
        named = f" of {config}" if config else ""
        raise UserError(
            f"{dataset} has no split {split!r}{named} that can be read: "
            + (f"there are {_list(there)}" if there else f"it has no file with one of {', '.join(SUFFIXES)}"),
            f"set `split: {there[0]}`"
            if there
            else "where a script makes the data, set `revision: refs/convert/parquet`",
        )
    return splits[split]


def _is_data(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith((".", "__")) for part in parts)
    return not hidden and parts[-1] not in _NO_DATA and plain_name(name.lower()).endswith(SUFFIXES)


def _configs(card: Any) -> list[dict[str, Any]]:
    found = card.get("configs") if isinstance(card, Mapping) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _chosen(dataset: str, configs: list[dict[str, Any]], config: str) -> dict[str, Any]:
    names = {str(entry.get("config_name", "default")): entry for entry in configs}
    if config in names:
        return names[config]
    default = [entry for name, entry in names.items() if entry.get("default") is True or name == "default"]
    if not config and (default or len(names) == 1):
        return (default or configs)[0]
    what = f"has no configuration {config!r}" if config else "has several configurations"
    raise UserError(f"{dataset} {what}: there are {_list(sorted(names))}", "set `config` to one of them")


def _by_card(given: Any, data: list[str], folder: str) -> dict[str, list[str]]:
    """`data_files` in any of its forms: patterns, or patterns of splits."""
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, list) and all(isinstance(entry, Mapping) for entry in given):
        pairs = [(entry.get("split", "train"), entry.get("path")) for entry in given]
    else:
        pairs = [("train", given)]
    found: dict[str, list[str]] = {}
    for split, patterns in pairs:
        for pattern in [patterns] if isinstance(patterns, str) else patterns or []:
            whole = f"{folder}/{pattern}" if folder else str(pattern)
            wanted = re.compile(_expression(whole.removeprefix("./")))
            found.setdefault(str(split), []).extend(name for name in data if wanted.fullmatch(name))
    return {split: list(dict.fromkeys(files)) for split, files in found.items()}


def _expression(pattern: str) -> str:
    """A glob of paths as a regular expression."""
    out, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out, at = out + "(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            out, at = out + ".*", at + 2
        else:
            out += {"*": "[^/]*", "?": "[^/]"}.get(pattern[at], re.escape(pattern[at]))
            at += 1
    return out


def _by_name(data: list[str]) -> dict[str, list[str]]:
    """Splits by the names of files (NAME-00000-of-00005), then by words in folders and names; else all is train."""
    shards: dict[str, list[str]] = {}
    for name in data:
        if shard := _SHARD.search(name):
            shards.setdefault(shard[1], []).append(name)
    if shards:
        return shards
    found: dict[str, list[str]] = {}
    for name in data:
        for split, words in _SPLITS.items():
            if re.search(rf"(?:^|[^a-z])(?:{'|'.join(words)})(?:[^a-z]|$)", name.lower().rpartition(".")[0] or name):
                found.setdefault(split, []).append(name)
                break
    return found or ({"train": data} if data else {})


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:_TOLD]) + (f" and {len(names) - _TOLD} more" if len(names) > _TOLD else "")
